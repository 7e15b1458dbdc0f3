/* SPDX-License-Identifier: MIT */
/*
 * What a loop is made of. Internal to loop/: the timers, the watches and the mailbox each keep
 * their part here, because all of them run inside the same wrapper around callbacks.
 */
#ifndef GATEWAY_LOOP_LOOP_STATE_H
#define GATEWAY_LOOP_LOOP_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "loop/loop.h"
#include "loop/mailbox.h"

#define LOOP_MAGIC UINT32_C(0x10071007)

LIST_DEFINE(dirty_list, struct loop_dirty, in_loop);
LIST_DEFINE(resume_list, struct loop_resume, in_loop);
LIST_DEFINE(grave_list, struct loop_grave, in_loop);
LIST_DEFINE(mail_list, struct mail, in_mailbox);

struct loop {
    uint32_t magic;
    unsigned index;
    struct loop_settings settings;
    struct event_base *base;
    void *context;

    /* any thread */
    _Atomic bool stopping;
    _Atomic bool has_owner;
    pthread_t owner; /* valid while has_owner */

    /* the turn */
    uint64_t now;
    uint64_t slice_start;     /* when the callbacks since the last flush began */
    unsigned slice_callbacks; /* how many they are */
    uint64_t turn;            /* number of the current turn */
    bool now_is_fresh;        /* `now` was read within this dispatch */
    bool in_callback, in_flush;
    struct dirty_list dirty[LOOP_STAGE_COUNT];
    struct resume_list resumes;
    struct grave_list graves;
    size_t watches; /* descriptors registered */

    /* timers: a binary heap by `at` behind one libevent timer */
    struct loop_timer **heap;
    size_t heap_length, heap_capacity;
    struct event *timer_event;
    uint64_t timer_armed_at; /* when timer_event fires; UINT64_MAX: far away */

    /* mailbox */
    int mailbox_fd; /* eventfd */
    struct loop_io mailbox_io;
    pthread_mutex_t mailbox_lock;
    struct mail_list mailbox_inbox;  /* under the lock */
    struct mail_list mailbox_opened; /* taken out, being delivered */
};

/* Each callback of the loop runs between these two. After loop_callback_end any object may have
 * been freed. */
void loop_callback_begin(struct loop *loop);
void loop_callback_end(struct loop *loop);

enum error loop_timers_init(struct loop *loop) MUST_CHECK;
void loop_timers_done(struct loop *loop);
/* Before each poll: lets the libevent timer fire no later than the earliest deadline. */
void loop_timers_arm(struct loop *loop);

enum error mailbox_init(struct loop *loop) MUST_CHECK;
/* Discards what was not delivered. */
void mailbox_done(struct loop *loop);
/* After the events of a turn: runs the messages that were taken out in it. */
void mailbox_deliver(struct loop *loop);
/* Wakes the loop's poll. Any thread. */
void mailbox_wake(struct loop *loop);

#endif
