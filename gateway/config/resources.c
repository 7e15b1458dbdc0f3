/* SPDX-License-Identifier: MIT */
/*
 * Reads limits of the kernel. A cgroup sets them at any of its levels, so the whole path up to the root is asked; inside a
 * container the path begins at the mount, which is the container's own.
 */
#include "config/resources.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#define PATH_SIZE 1024

/* The first line of a file; false when it cannot be read. */
static bool first_line(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "re");
    bool good;

    if (file == NULL) {
        return false;
    }
    good = fgets(out, (int)size, file) != NULL;
    fclose(file);
    if (good) {
        out[strcspn(out, "\n")] = '\0';
    }
    return good;
}

/* This process's path in the hierarchy with the controller ("" for v2): "/system.slice/gatewayd.service". */
static bool own_cgroup(const char *controller, char *out, size_t size)
{
    char line[PATH_SIZE];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "re");

    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        /* "4:memory:/path", v2: "0::/path" */
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL) {
            continue;
        }
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        found = controller[0] == '\0' ? controllers[1] == '\0'
                                      : strstr(controllers + 1, controller) != NULL;
        if (found) {
            snprintf(out, size, "%s", path);
        }
    }
    fclose(file);
    return found;
}

/* Calls `visit` with each existing file of that name from the own cgroup up to the mount. */
static void walk(const char *mount, const char *controller, const char *name,
                 void (*visit)(const char *path, const char *line, void *context), void *context)
{
    char cgroup[PATH_SIZE], path[2 * PATH_SIZE + 128], line[128];

    if (!own_cgroup(controller, cgroup, sizeof(cgroup))) {
        return;
    }
    for (;;) {
        snprintf(path, sizeof(path), "%s%s/%s", mount, strcmp(cgroup, "/") == 0 ? "" : cgroup,
                 name);
        if (first_line(path, line, sizeof(line))) {
            visit(path, line, context);
        }
        char *slash = strrchr(cgroup, '/');
        if (slash == NULL) {
            return;
        }
        *slash = '\0';
    }
}

/* --- processors ----------------------------------------------------------------------------------------------------- */

static void quota_to_cpus(double quota, double period, unsigned *cpus)
{
    if (quota <= 0 || period <= 0) {
        return;
    }
    double share = quota / period;
    unsigned whole = (unsigned)share;
    whole += share > whole ? 1 : 0;
    if (whole > 0 && whole < *cpus) {
        *cpus = whole;
    }
}

static void visit_cpu_max(const char *path, const char *line, void *context)
{
    char *rest;
    double quota = strtod(line, &rest); /* "max 100000": no number, no quota */

    (void)path;
    quota_to_cpus(rest != line ? quota : 0, strtod(rest, NULL), context);
}

static void visit_cfs_quota(const char *path, const char *line, void *context)
{
    char period_path[2 * PATH_SIZE + 128], period[64];
    const char *name = strstr(path, "cpu.cfs_quota_us");

    snprintf(period_path, sizeof(period_path), "%.*scpu.cfs_period_us", (int)(name - path), path);
    if (first_line(period_path, period, sizeof(period))) {
        quota_to_cpus(strtod(line, NULL), strtod(period, NULL), context);
    }
}

unsigned resources_cpus(void)
{
    cpu_set_t set;
    unsigned cpus = 1;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        cpus = (unsigned)CPU_COUNT(&set);
    } else {
        cpus = (unsigned)get_nprocs();
    }
    walk("/sys/fs/cgroup", "", "cpu.max", visit_cpu_max, &cpus);
    walk("/sys/fs/cgroup/cpu", "cpu", "cpu.cfs_quota_us", visit_cfs_quota, &cpus);
    return cpus > 0 ? cpus : 1;
}

/* --- memory --------------------------------------------------------------------------------------------------------- */

static void visit_memory(const char *path, const char *line, void *context)
{
    uint64_t *memory = context;
    char *end;
    unsigned long long limit = strtoull(line, &end, 10);

    (void)path;
    if (end != line && limit > 0 && limit < *memory) { /* "max" is no number */
        *memory = limit;
    }
}

uint64_t resources_memory(void)
{
    struct sysinfo info;
    uint64_t memory = UINT64_MAX;

    if (sysinfo(&info) == 0) {
        memory = (uint64_t)info.totalram * info.mem_unit;
    }
    walk("/sys/fs/cgroup", "", "memory.max", visit_memory, &memory);
    walk("/sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes", visit_memory, &memory);
    return memory;
}

/* --- descriptors ---------------------------------------------------------------------------------------------------- */

uint64_t resources_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1024;
    }
    return limit.rlim_max == RLIM_INFINITY ? UINT64_C(1) << 30 : limit.rlim_max;
}

enum error resources_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return ERROR_IO;
    }
    if (limit.rlim_cur == limit.rlim_max) {
        return ERROR_NONE;
    }
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? ERROR_NONE : ERROR_IO;
}
