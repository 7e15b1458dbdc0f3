/* SPDX-License-Identifier: MIT */
/*
 * File threads: what may block on a disk, a network or a hung file system (reading, closing) runs here, so that no loop ever waits for
 * it. A job moves to a thread and comes back to its loop as mail. Threads are made when they are needed, up to a bound.
 */
#ifndef GATEWAY_LOOP_FILE_POOL_H
#define GATEWAY_LOOP_FILE_POOL_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/list.h"
#include "loop/mailbox.h"

struct file_pool;

/* One read. Embed it; it belongs to the pool from file_pool_read to its mail's deliver (in `loop`) or discard. */
struct file_job {
    struct list_node in_pool;
    struct mail mail; /* its functions are set by the owner */
    struct loop *loop;
    int fd;
    uint64_t offset;
    void *buffer;
    size_t length;
    ssize_t result; /* bytes read, 0: the file ended; -1: failed */
    int error;      /* errno of a failure */
};

/* A pool without threads so far. NULL: no memory. */
struct file_pool *file_pool_new(unsigned max_threads) MUST_CHECK;
/* Reads once, at most `length` bytes, and posts the job. The descriptor must stay open until then. ERROR_NO_MEMORY: no thread could be
 * made and none runs; the job was not taken. */
enum error file_pool_read(struct file_pool *pool, struct file_job *job) MUST_CHECK;
/* Changes the bound; threads that run beyond a lower one stay. */
void file_pool_limit(struct file_pool *pool, unsigned max_threads);
/* Closes a descriptor in a thread; here when nobody else can. */
void file_pool_close(struct file_pool *pool, int fd);
/* Ends the threads; jobs that did not begin are discarded. False: one hangs in a file system and did not end within `timeout_ns`: the loops
 * must not be freed, because it may still post to one. After the loops have stopped, before they are freed. */
bool file_pool_stop(struct file_pool *pool, uint64_t timeout_ns);
/* After file_pool_stop said true. NULL is allowed. */
void file_pool_free(struct file_pool *pool);

#endif
