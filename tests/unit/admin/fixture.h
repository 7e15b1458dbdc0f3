/* SPDX-License-Identifier: MIT */
/* An admin side over two running loops, with rows that the tests choose. */
#ifndef TESTS_UNIT_ADMIN_FIXTURE_H
#define TESTS_UNIT_ADMIN_FIXTURE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "admin/admin.h"
#include "loop/loop.h"

struct fixture {
    char directory[64], path[96];
    unsigned port;
    int socket, http;
    struct loop *loops[2];
    pthread_t threads[2];
    struct admin *admin;
    _Atomic bool ready;
    enum admin_verdict verdict; /* of the next order */
    _Atomic unsigned asked;     /* bits 1 << view of what rows() was asked of loop 1 */
    _Atomic bool hold;          /* rows() of loop 1 waits for `release` */
    sem_t held, release;
};

/* Starts it with these bounds. */
void fixture_start(struct fixture *fixture, unsigned max_connections, uint64_t timeout_ms);
/* Ends it and checks that no memory and no connection is left. */
void fixture_stop(struct fixture *fixture);
/* A connected socket to the admin socket or the HTTP endpoint. */
int fixture_connect(const struct fixture *fixture, bool http);
/* Sends `request` and reads to the end into `answer` (NUL-terminated); returns the length. */
size_t fixture_ask(const struct fixture *fixture, bool http, const char *request, char *answer,
                   size_t size);
/* Reads to the end of a socket and closes it. */
size_t fixture_read(int fd, char *answer, size_t size);

#endif
