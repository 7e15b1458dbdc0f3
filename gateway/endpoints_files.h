/* SPDX-License-Identifier: MIT */
/*
 * The files that come with sockets: directories, owners, the pid file, and what is removed in the end. For endpoints.c alone.
 */
#ifndef GATEWAY_ENDPOINTS_FILES_H
#define GATEWAY_ENDPOINTS_FILES_H

#include <sys/stat.h>

#include "endpoints.h"

/* A file of ours and what it was when we made it: another's file at the same path is left alone. */
struct endpoint_file {
    struct endpoint_file *next;
    const char *path;
    dev_t device;
    ino_t inode;
};

/* One endpoints_open's state. */
struct endpoints_opening {
    struct endpoints *endpoints;
    const struct endpoints *old; /* what is open already and need not be opened again */
    bool keep_datagrams; /* UDP sockets are not opened: the server that runs could not take them */
    const struct config *config;
    const struct identity *identity;
    char *text;
    size_t text_size;
};

/* Says what failed at the place of `option` in the configuration; ERROR_IO. */
enum error endpoints_refuse(const struct endpoints_opening *opening, const char *option,
                            const char *format, ...) PRINTF_LIKE(3, 4);
enum error endpoints_no_memory(const struct endpoints_opening *opening);
/* Makes the directory of `path` when it is not there: for us and the group of the user that we become. */
enum error endpoints_ensure_directory(const struct endpoints_opening *opening, const char *option,
                                      const char *path);
/* Remembers a file for removal; no more is lost when memory is out than the removal. */
void endpoints_remember(struct endpoints *endpoints, const char *path);
/* A file that is ours already goes on being so. */
void endpoints_remember_old(const struct endpoints_opening *opening, const char *path);
/* Sets the mode of a socket file, but never of what a link leads to. As chmod(2). */
int endpoints_set_mode(const char *path, unsigned mode);
/* Gives a socket file to the user that the server becomes, and to a group. */
enum error endpoints_give(const struct endpoints_opening *opening, const char *option,
                          const char *path, struct slice group);
/* Writes and locks it. */
enum error endpoints_open_pid_file(const struct endpoints_opening *opening);
/* Removes the files that are still ours, but not those that `kept` (NULL: nothing) has too. */
void endpoints_remove_files(const struct endpoints *endpoints, const struct endpoints *kept);

#endif
