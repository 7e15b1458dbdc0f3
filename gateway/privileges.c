/* SPDX-License-Identifier: MIT */
/* Giving up rights in the order in which each step is still allowed, and checking that there is
 * no way back. */
#include "privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"

enum error identity_find(struct slice user, struct identity *ret_identity)
{
    struct identity identity = {.change = false};

    if (user.length == 0 || geteuid() != 0) {
        *ret_identity = identity;
        return ERROR_NONE;
    }
    if (user.length >= sizeof(identity.name)) {
        return ERROR_LIMIT;
    }
    memcpy(identity.name, user.data, user.length);
    const struct passwd *entry = getpwnam(identity.name);
    if (entry == NULL) {
        return ERROR_NOT_FOUND;
    }
    identity.change = entry->pw_uid != 0;
    identity.uid = entry->pw_uid;
    identity.gid = entry->pw_gid;
    *ret_identity = identity;
    return ERROR_NONE;
}

void privileges_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        log_warning("master", "cannot raise the descriptor limit to %llu: %s",
                    (unsigned long long)limit.rlim_max, strerror(errno));
    }
}

/* Without this a program that we might execute could get capabilities from its file. */
static void drop_bounding_set(void)
{
    for (unsigned long capability = 0; capability < 64; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
            return; /* the kernel knows no higher ones, or we never had the right */
        }
    }
}

static bool cannot_go_back(const struct identity *identity)
{
    uid_t real, effective, saved;
    gid_t real_group, effective_group, saved_group;

    return getresuid(&real, &effective, &saved) == 0 && real == identity->uid &&
           effective == identity->uid && saved == identity->uid &&
           getresgid(&real_group, &effective_group, &saved_group) == 0 &&
           real_group == identity->gid && effective_group == identity->gid &&
           saved_group == identity->gid && setuid(0) != 0;
}

static enum error become(const struct identity *identity)
{
    drop_bounding_set();
    if (initgroups(identity->name, identity->gid) != 0 ||
        setresgid(identity->gid, identity->gid, identity->gid) != 0 ||
        setresuid(identity->uid, identity->uid, identity->uid) != 0) {
        log_error("server", "cannot become user %s: %s", identity->name, strerror(errno));
        return ERROR_IO;
    }
    if (!cannot_go_back(identity)) {
        log_error("server",
                  "became user %s, but root's rights could be taken back: refusing to go on",
                  identity->name);
        return ERROR_IO;
    }
    return ERROR_NONE;
}

enum error privileges_drop(const struct identity *identity)
{
    if (identity->change) {
        enum error error = become(identity);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        log_error("server", "PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
        return ERROR_IO;
    }
#ifndef GATEWAYD_DEBUG
    /* Private keys are in this memory: it goes neither to a core file nor to a tracer of the
     * same user. Debug builds want both (and the leak checker traces). */
    const struct rlimit no_core = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0) {
        log_error("server", "cannot forbid core files: %s", strerror(errno));
        return ERROR_IO;
    }
#endif
    return ERROR_NONE;
}
