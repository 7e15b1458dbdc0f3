/* SPDX-License-Identifier: MIT */
/*
 * The files that a configuration is made of, by path. The master, which may read them, opens each through a set that keeps the
 * descriptor; the server, which may not, is handed the descriptors and opens the same paths through a set made of them.
 */
#ifndef GATEWAY_BASE_FILE_SET_H
#define GATEWAY_BASE_FILE_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct file_set;

/* One file: opened (fd), or found to be elsewhere (target: the real path of a directory). */
struct file_set_entry {
    struct file_set_entry *next;
    int fd;       /* -1: none */
    char *target; /* NULL: none */
    char path[];
};

/* `sealed`: nothing else is opened than what file_set_add_take() put in. NULL: no memory. */
struct file_set *file_set_new(bool sealed) MUST_CHECK;
/* Closes what it keeps. NULL is allowed. */
void file_set_free(struct file_set *set);
/* As open(2) with O_RDONLY and these flags, close-on-exec; the caller closes it. One path is opened once: all who ask share the offset, which is set
 * to the beginning. `set` may be NULL: it is just opened. */
int file_set_open(struct file_set *set, const char *path, int flags);
/* As realpath(3) with a buffer of PATH_MAX; through the set, as file_set_open. */
bool file_set_resolve(struct file_set *set, const char *path, char *resolved);
/* A text that depends on who asks, under a name that is no path: `value` is noted in an open set, and what was noted is returned, so that
 * a sealed set's user gets the same. Lives as long as the set and `value`. */
const char *file_set_note(struct file_set *set, const char *name, const char *value);
/* Whether only handed-over files can be seen: what cannot be looked at was checked by who handed them over. */
bool file_set_sealed(const struct file_set *set);
/* Adds a file, whose descriptor (-1: none) the set owns from then on, also on failure; `target` may be NULL. ERROR_NO_MEMORY. */
enum error file_set_add_take(struct file_set *set, const char *path, int fd,
                             const char *target) MUST_CHECK;
/* The first entry, to walk them; NULL: none. */
const struct file_set_entry *file_set_first(const struct file_set *set);

#endif
