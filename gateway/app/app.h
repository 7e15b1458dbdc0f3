/* SPDX-License-Identifier: MIT */
/*
 * The apps of the process: for each one its workers (a registry that belongs to loop 0), its acceptor (loop 0) and one pool
 * per loop. The server makes this once, gives every loop its app_loop as the exchange handler's context, and takes it down last.
 */
#ifndef GATEWAY_APP_APP_H
#define GATEWAY_APP_APP_H

#include <pthread.h>
#include <stdatomic.h>

#include "app/apps_settings.h"
#include "app/deploy.h"
#include "app/worker.h"
#include "base/idmap.h"
#include "base/strbuf.h"
#include "http/conn.h"

struct apps;
struct file_pool;
struct forward_ws_list;
struct pool;
struct pool_list;

/* What becomes of an app that is no longer configured. */
struct app_retirement {
    struct list_node in_apps;
    uint64_t since;              /* 0: it is configured */
    bool doomed;                 /* nothing uses it any more */
    struct app_settings kept;    /* what its settings were */
    _Atomic unsigned busy_loops; /* at the last sweep */
};

#define APP_PAST 16u

/* The record of a process whose links were lost, in case that it dials again. */
struct app_past {
    uint8_t instance[16];
    struct health health;
};

struct app {
    uint32_t magic;
    int socket; /* the server's; where workers are accepted from */
    struct apps *apps;
    const struct app_settings
        *settings;     /* in the present configuration; changed while no loop runs (apps_commit) */
    uint32_t expected; /* ready workers that the process before had (app_upgrade.h) */
    bool started;      /* workers were accepted once: its state was read */
    struct app_retirement retirement;            /* app_reload.c's */
    struct ipc_acceptor *acceptor;               /* loop 0 */
    struct worker_list workers;                  /* loop 0 */
    struct pool **pools;                         /* one per loop */
    struct deploy deploy;                        /* its generations: loop 0, but for the atomics */
    struct mail review;                          /* to loop 0: look at the generations */
    struct loop_timer deploy_timer, pause_timer; /* loop 0 */
    _Atomic uint64_t resumed_at;            /* who waited then has queue_timeout from then on */
    _Atomic uint32_t waiting;               /* queued requests, all loops */
    _Atomic uint32_t open_files;            /* being sent for workers */
    uint32_t serving_known, fallback_known; /* loop 0: the slots, as of the last review */
    _Atomic bool review_posted;
    _Atomic bool paused; /* gatewayctl pause: nobody is placed */
    /* Of loop 0. */
    bool loading;        /* generations are being restored */
    bool deploy_stopped; /* nothing is decided any more */
    bool state_known, state_dirty,
        state_failed;           /* state file: read or written; out of date; told */
    pthread_mutex_t error_lock; /* of last_error: written once per failed worker, read by status */
    struct app_past past[APP_PAST]; /* loop 0; a ring */
    unsigned past_count;
    char name[65];
    char last_error[4096];
};

LIST_DEFINE(app_list, struct app, retirement.in_apps);

/* Ready workers of the generation that serves. Any loop. */
static inline uint32_t app_ready(const struct app *app)
{
    return deploy_ready(&app->deploy);
}

/* One loop's view: the context of app_handler. */
struct app_loop {
    struct apps *apps;
    struct loop *loop;
    unsigned index;
    const struct apps_settings *settings; /* the present ones */
    struct strbuf head;                   /* scratch for REQUEST heads */
    struct pool_list *pools;              /* of all apps in this loop, retired ones too; owned */
    char body[16384];                     /* scratch for body bytes */
    struct forward_ws_list *websockets;   /* owned */
    bool draining;
    struct idmap conns; /* connections that were announced by CONN, by conn->wire_id */
    uint32_t last_conn;
};

struct apps {
    uint32_t magic;
    const struct apps_settings *settings; /* the present ones */
    unsigned loop_count;
    struct loop **loops;
    struct app_loop *app_loops;
    struct app **apps;       /* settings->app_count, in their order */
    struct app_list retired; /* no longer configured, but not done yet */
    struct file_pool *files; /* reads what blocks */
    uint8_t gateway_instance[16];
    _Atomic uint32_t links;
    bool
        closed; /* workers are not accepted: another process does, or not yet (app_upgrade.h); loop 0 */
    bool draining;
};

/* Makes apps and pools for these loops (not running yet, or in each one's thread); starts no acceptor. `settings` stays in place
 * for as long as it is the present one. NULL: no memory. */
struct apps *apps_new(const struct apps_settings *settings, struct loop **loops,
                      unsigned loop_count) MUST_CHECK;
/* Starts accepting workers; in loop 0's thread. */
enum error apps_start(struct apps *apps) MUST_CHECK;
/* The gateway begins to stop: what is open for long is asked to end (WebSockets with 1001). In the loop's thread. */
void apps_drain_loop(struct apps *apps, unsigned loop_index);
/* Stops accepting workers and closes every link (channel GOAWAY is not waited for: clients are gone by then). Called in each
 * loop's thread with its index; loop 0 also stops the acceptors. Memory goes by apps_free when all loops have ended. */
void apps_stop_loop(struct apps *apps, unsigned loop_index);
/* Ends the file threads, when no loop runs any more and before they are freed. False: one hangs, and neither loops nor apps may be freed. */
bool apps_stop_files(struct apps *apps);
void apps_free(struct apps *apps);

/* For app_reload.c: one app with its pools, in no list yet, and its end. NULL: no memory. */
struct app *app_new(struct apps *apps, const struct app_settings *settings, int socket) MUST_CHECK;
void app_free(struct app *app);
/* For app_reload.c: starts accepting workers; in loop 0's thread. */
enum error app_accept(struct app *app) MUST_CHECK;

/* For app/ itself: a worker's last link has closed (any loop): loop 0 takes it off the registry. */
void app_worker_left(struct worker *worker);
/* For app/ itself: keeps a worker's last words for status. Any loop. */
void app_note_error(struct worker *worker, enum frame_error code, struct slice text);
/* For app/ itself: all its loops look at their queues. Any loop. */
void app_kick(struct app *app);

/* The handler that conn_groups are given, with the loop's app_loop as context. */
extern const struct exchange_handler app_handler;
/* Tells a loop's links that a client connection has ended (CONN_END), if they knew it. */
void app_loop_conn_closed(struct app_loop *app_loop, struct conn *conn);

#endif
