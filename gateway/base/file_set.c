/* SPDX-License-Identifier: MIT */
/* A list: a configuration names a handful of files. */
#include "base/file_set.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

struct file_set {
    bool sealed;
    struct file_set_entry *first;
};

struct file_set *file_set_new(bool sealed)
{
    struct file_set *set = mem_calloc(1, sizeof(*set));

    if (set != NULL) {
        set->sealed = sealed;
    }
    return set;
}

void file_set_free(struct file_set *set)
{
    while (set != NULL && set->first != NULL) {
        struct file_set_entry *entry = set->first;
        set->first = entry->next;
        if (entry->fd >= 0) {
            close(entry->fd);
        }
        mem_free(entry->target);
        mem_free(entry);
    }
    mem_free(set);
}

static const struct file_set_entry *find(const struct file_set *set, const char *path, bool opened)
{
    for (const struct file_set_entry *entry = set->first; entry != NULL; entry = entry->next) {
        if (strcmp(entry->path, path) == 0 && (entry->fd >= 0) == opened) {
            return entry;
        }
    }
    return NULL;
}

enum error file_set_add_take(struct file_set *set, const char *path, int fd, const char *target)
{
    struct file_set_entry *entry = mem_calloc(1, sizeof(*entry) + strlen(path) + 1);
    char *copy = target != NULL ? mem_strndup(target, strlen(target)) : NULL;

    if (entry == NULL || (target != NULL && copy == NULL)) {
        mem_free(entry);
        mem_free(copy);
        if (fd >= 0) {
            close(fd);
        }
        return ERROR_NO_MEMORY;
    }
    memcpy(entry->path, path, strlen(path) + 1);
    entry->fd = fd;
    entry->target = copy;
    entry->next = set->first;
    set->first = entry;
    return ERROR_NONE;
}

int file_set_open(struct file_set *set, const char *path, int flags)
{
    if (set == NULL) {
        return open(path, O_RDONLY | O_CLOEXEC | flags);
    }
    const struct file_set_entry *entry = find(set, path, true);
    if (entry == NULL && set->sealed) {
        errno = ENOENT;
        return -1;
    }
    if (entry == NULL) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
        if (fd < 0) {
            return fd;
        }
        if (file_set_add_take(set, path, fd, NULL) != ERROR_NONE) {
            errno = ENOMEM;
            return -1;
        }
        entry = set->first;
    }
    int fd = fcntl(entry->fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0 && errno != ESPIPE) {
        close(fd);
        return -1;
    }
    return fd;
}

bool file_set_resolve(struct file_set *set, const char *path, char *resolved)
{
    if (set == NULL || !set->sealed) {
        return realpath(path, resolved) != NULL &&
               (set == NULL || file_set_add_take(set, path, -1, resolved) == ERROR_NONE);
    }
    const struct file_set_entry *entry = find(set, path, false);
    if (entry == NULL || strlen(entry->target) >= PATH_MAX) {
        errno = ENOENT;
        return false;
    }
    memcpy(resolved, entry->target, strlen(entry->target) + 1);
    return true;
}

const char *file_set_note(struct file_set *set, const char *name, const char *value)
{
    if (set == NULL) {
        return value;
    }
    const struct file_set_entry *entry = find(set, name, false);
    if (entry == NULL && !set->sealed && file_set_add_take(set, name, -1, value) == ERROR_NONE) {
        entry = set->first;
    }
    return entry != NULL ? entry->target : value;
}

bool file_set_sealed(const struct file_set *set)
{
    return set != NULL && set->sealed;
}

const struct file_set_entry *file_set_first(const struct file_set *set)
{
    return set->first;
}
