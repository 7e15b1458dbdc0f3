/* SPDX-License-Identifier: MIT */
/*
 * Apps between scripted clients and scripted workers: real loops (all driven by the calling thread, turn by turn, unless a
 * test runs them itself), the real acceptor on a real socket, workers that are frames written by the test, and clients
 * that are codecs without a socket.
 */
#ifndef TESTS_UNIT_APP_APP_FIXTURE_H
#define TESTS_UNIT_APP_APP_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "app/app.h"
#include "app/pool.h"
#include "base/strbuf.h"
#include "http/conn.h"
#include "http/exchange.h"
#include "ipc/frame.h"

#define APP_LOOPS 4
#define LINK_FRAMES 1024

/* One link of a scripted worker. */
struct app_link {
    int fd; /* -1: closed by us */
    int page_fd;
    bool ended;     /* the gateway closed it */
    unsigned reads; /* recvmsg calls that brought something */
    pid_t child;    /* the process that the kernel names as its peer; 0: this one */
    char token[16];
    struct frame frames[LINK_FRAMES];
    size_t count, next;
    struct strbuf payloads;
    struct frame_reader reader;
};

/* One request of one client on a connection of its own. */
struct app_client {
    struct app_fixture *fixture;
    struct conn conn;
    struct exchange *exchange; /* NULL once detached */
    unsigned loop;
    bool slow; /* does not take its response by itself */
    bool tls;  /* over TLS, with a certificate of its own */
    unsigned status, infos;
    bool complete; /* the whole response came */
    bool aborted;
    enum end_reason reason; /* why it ended */
    unsigned retries;
    struct strbuf body;
    struct field fields[8];
};

struct app_fixture {
    unsigned loop_count;
    struct loop *loops[APP_LOOPS];
    struct app_settings app;
    struct ipc_settings ipc;
    struct http_settings http;
    struct route_settings route; /* used when it has a path */
    struct apps_settings settings;
    struct conn_group groups[APP_LOOPS];
    struct apps *apps;
    struct app_client *clients[512]; /* begun and not ended */
    size_t client_count;
    pthread_mutex_t lock; /* of the two above */
    bool threaded;        /* the loops run in threads of their own: turns only wait a moment */
    int listener;
    char directory[64], path[96];
    uint64_t live; /* allocations before; 0: not compared (threads keep their metrics shards) */
};

/* Prepares settings, which the test may change before app_fixture_start. */
void app_fixture_init(struct app_fixture *fixture, unsigned loops);
/* Makes apps and groups. False: no memory. */
bool app_fixture_start(struct app_fixture *fixture);
/* Stops as the server does and REQUIREs that nothing is left: no allocation, no gauge of live objects. */
void app_fixture_done(struct app_fixture *fixture);
/* The same without the checks, for runs in which allocations fail. */
void app_fixture_turns(struct app_fixture *fixture, unsigned turns);
/* Runs turns until the test's condition holds, at most ten seconds. */
bool app_fixture_until(struct app_fixture *fixture, bool (*holds)(void));

/* --- workers */
/* Dials, sends HELLO, and takes the answer: its frame (HELLO_ACK or CHANNEL_ERROR). `token` NULL: empty. */
struct frame app_link_dial(struct app_fixture *fixture, struct app_link *link, char instance,
                           unsigned channel, const char *token, unsigned capacity);
/* The same from a process of its own, which waits to be killed. */
struct frame app_link_dial_child(struct app_fixture *fixture, struct app_link *link, char instance,
                                 unsigned capacity);
/* All links of a worker dialled and READY. */
void app_worker_up(struct app_fixture *fixture, struct app_link links[], char instance,
                   unsigned capacity);
void app_link_send(struct app_link *link, struct frame frame, const void *payload, size_t length);
/* The same, then turns. */
void app_link_say(struct app_fixture *fixture, struct app_link *link, struct frame frame,
                  const void *payload, size_t length);
/* The next frame of this type (0: of any), others are skipped; type 0 when none has come. Does not run the loops. */
struct frame app_link_next(struct app_link *link, unsigned type);
/* The same after turns. */
struct frame app_link_take(struct app_fixture *fixture, struct app_link *link, unsigned type);
/* A final RESPONSE without fields whose body is `body`, complete and DONE. */
void app_link_answer(struct app_fixture *fixture, struct app_link *link, uint32_t stream,
                     const char *body);
void app_link_close(struct app_link *link);
/* Says on its page that it has begun this id, then kills and closes. */
void app_link_kill(struct app_link *link, uint32_t started);

/* --- clients */
/* Prepares a client of a loop. */
void app_client_init(struct app_fixture *fixture, struct app_client *client, unsigned loop);
/* Sends a request with a body of `length` bytes (-1: none), of which nothing has come yet. False: no memory. */
bool app_client_begin(struct app_client *client, const char *method, int64_t length);
/* Body bytes, as far as there is room; returns how many. */
size_t app_client_body(struct app_client *client, size_t length, bool end);
/* Takes what there is of the response; in the thread of its loop. app_fixture_turns does it by itself. */
void app_client_take(struct app_client *client);
/* The client goes away. */
void app_client_go(struct app_client *client);

#endif
