/* SPDX-License-Identifier: MIT */
/*
 * Watched descriptors: one libevent event per descriptor, with all its conditions in it, so that
 * they always agree on edge triggering (libevent refuses a mixture). It owns the event, not the
 * descriptor.
 */
#include <errno.h>
#include <event2/event.h>

#include "loop/loop_state.h"

void loop_io_init(struct loop_io *io, struct loop *loop, int fd,
                  void (*callback)(struct loop_io *io, unsigned events))
{
    *io = (struct loop_io){.loop = loop, .callback = callback, .fd = fd};
}

static void loop_io_ready(evutil_socket_t fd, short what, void *argument)
{
    struct loop_io *io = argument;
    struct loop *loop = io->loop;
    unsigned events = 0;

    (void)fd;
    events |= what & EV_READ ? LOOP_READ : 0;
    events |= what & EV_WRITE ? LOOP_WRITE : 0;
    events |= what & EV_CLOSED ? LOOP_CLOSED : 0;
    loop_callback_begin(loop);
    io->callback(io, events);
    /* The watch may be gone now. */
    loop_callback_end(loop);
}

static short loop_io_conditions(unsigned events)
{
    int conditions = EV_PERSIST;

    conditions |= events & LOOP_READ ? EV_READ : 0;
    conditions |= events & LOOP_WRITE ? EV_WRITE : 0;
    conditions |= events & LOOP_CLOSED ? EV_CLOSED : 0;
    conditions |= events & LOOP_EDGE ? EV_ET : 0;
    return (short)conditions;
}

static enum error loop_io_failed(void)
{
    return errno == 0 || errno == ENOMEM ? ERROR_NO_MEMORY : ERROR_IO;
}

/* The event of a watch, made or given new conditions; it is not pending then. */
static enum error loop_io_assign(struct loop_io *io, unsigned events)
{
    struct event_base *base = io->loop->base;
    short conditions = loop_io_conditions(events);

    if (io->event == NULL) {
        io->event = event_new(base, io->fd, conditions, loop_io_ready, io);
        if (io->event == NULL) {
            return loop_io_failed();
        }
        io->loop->watches++;
        return ERROR_NONE;
    }
    REQUIRE(event_del(io->event) == 0);
    io->watched = 0;
    REQUIRE(event_assign(io->event, base, io->fd, conditions, loop_io_ready, io) == 0);
    return ERROR_NONE;
}

enum error loop_io_set(struct loop_io *io, unsigned events)
{
    /* LOOP_CLOSED alone would spin: libevent 2.1 reports a reset (EPOLLERR) as EV_READ|EV_WRITE
     * only. */
    REQUIRE(!(events & LOOP_CLOSED) || (events & LOOP_READ));
    REQUIRE(events != LOOP_EDGE);
    loop_assert_owner(io->loop);
    if (events == io->watched) {
        return ERROR_NONE;
    }
    if (events == 0) {
        REQUIRE(event_del(io->event) == 0);
        io->watched = 0;
        return ERROR_NONE;
    }
    errno = 0;
    enum error error = loop_io_assign(io, events);
    if (error != ERROR_NONE) {
        return error;
    }
    if (event_add(io->event, NULL) != 0) {
        return loop_io_failed();
    }
    io->watched = events;
    return ERROR_NONE;
}

void loop_io_done(struct loop_io *io)
{
    if (io->event == NULL) {
        return;
    }
    loop_assert_owner(io->loop);
    event_free(io->event);
    io->event = NULL;
    io->watched = 0;
    REQUIRE(io->loop->watches > 0);
    io->loop->watches--;
}
