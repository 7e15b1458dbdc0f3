/* SPDX-License-Identifier: MIT */
/*
 * What plain and TLS transports share: which events are watched for the user's wishes, how events become the user's
 * on_ready, and the descriptor's end. Knows sockets, not TLS: what a protocol needs beside the wishes are two flags.
 */
#include "net/transport.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/metrics.h"
#include "net/transport_core.h"

/* Whether incoming bytes are only watched. The end of the peer's side stays readable for ever, so after it a wish to read is
 * a wish to hear of a reset. */
static bool only_watching(const struct transport *transport)
{
    return transport->watching || transport->read_ended;
}

/* libevent 2.1 reports EPOLLERR as EV_READ|EV_WRITE without EV_CLOSED, so a reset is told from bytes by asking the
 * socket, and LOOP_WRITE is passed on only to who waits for it. */
static void transport_on_io(struct loop_io *io, unsigned events)
{
    struct transport *transport = LIST_CONTAINER(io, struct transport, io);
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    unsigned told = events & (LOOP_READ | LOOP_CLOSED);
    if (events & LOOP_WRITE) {
        told |= transport->writing ? LOOP_WRITE : 0;
        told |= transport->read_needs_write ? LOOP_READ : 0;
    }
    if ((events & LOOP_READ) && transport->write_needs_read) {
        told |= LOOP_WRITE;
    }
    if (only_watching(transport) && (told & LOOP_READ) && !(told & LOOP_CLOSED) &&
        transport_peer_state(transport) != ERROR_NONE) {
        told |= LOOP_CLOSED;
    }
    if (told != 0) {
        transport->on_ready(transport->user, told);
    }
}

void transport_init(struct transport *transport, const struct transport_ops *ops, struct loop *loop,
                    int fd, const struct addr *peer, const struct addr *local)
{
    transport->magic = TRANSPORT_MAGIC;
    transport->ops = ops;
    transport->loop = loop;
    transport->peer = *peer;
    transport->local = *local;
    loop_io_init(&transport->io, loop, fd, transport_on_io);
}

enum error transport_update(struct transport *transport)
{
    unsigned events = LOOP_READ;
    if (only_watching(transport)) {
        events |= LOOP_CLOSED | LOOP_EDGE;
    } else if (transport->read_needs_write) {
        events = LOOP_WRITE; /* bytes that wait while reading cannot go on must not spin */
    }
    if (transport->writing && !transport->write_needs_read) {
        events |= LOOP_WRITE;
    }
    return loop_io_set(&transport->io, events) == ERROR_NONE ? ERROR_NONE
                                                             : transport_fail(transport);
}

enum error transport_want(struct transport *transport, enum transport_reading reading, bool writing)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    REQUIRE(transport->on_ready != NULL);
    transport->watching = reading == TRANSPORT_READ_WATCH;
    transport->writing = writing;
    return transport_update(transport);
}

enum error transport_peer_state(const struct transport *transport)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    if (transport->dead) {
        return ERROR_IO;
    }
    /* poll() tells an error without taking it, as SO_ERROR would: a later read must not see a FIN where a reset was. */
    struct pollfd state = {.fd = transport->io.fd, .events = POLLRDHUP};
    if (poll(&state, 1, 0) < 0) {
        return ERROR_NONE; /* EINTR or no kernel memory: the next event or read tells */
    }
    if (state.revents & (POLLERR | POLLNVAL)) {
        return ERROR_IO;
    }
    return state.revents & (POLLRDHUP | POLLHUP) ? ERROR_CLOSED : ERROR_NONE;
}

size_t transport_queued(const struct transport *transport)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    int queued = 0;
    return ioctl(transport->io.fd, SIOCOUTQ, &queued) == 0 && queued > 0 ? (size_t)queued : 0;
}

bool transport_buffered(const struct transport *transport)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    return transport->buffered;
}

bool transport_clean_end(const struct transport *transport)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    return transport->clean_end;
}

enum error transport_end(struct transport *transport, bool clean)
{
    transport->clean_end = clean;
    transport->buffered = false;
    transport->read_needs_write = false;
    if (!transport->read_ended) {
        transport->read_ended = true;
        if (transport->io.watched != 0 && transport_update(transport) != ERROR_NONE) {
            return ERROR_IO;
        }
    }
    return ERROR_CLOSED;
}

enum error transport_fail(struct transport *transport)
{
    transport->dead = true;
    transport->buffered = false;
    return ERROR_IO;
}

void transport_count_in(struct transport *transport, size_t length)
{
    transport->bytes_in += length;
    metric_add(METRIC_bytes_received, (int64_t)length);
}

void transport_count_out(struct transport *transport, size_t length)
{
    transport->bytes_out += length;
    metric_add(METRIC_bytes_sent, (int64_t)length);
}

enum error transport_shut_socket(struct transport *transport)
{
    return shutdown(transport->io.fd, SHUT_WR) == 0 ? ERROR_NONE : transport_fail(transport);
}

void transport_close(struct transport *transport, bool reset,
                     void (*free_transport)(struct loop_grave *grave))
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    transport->magic = MAGIC_FREED;
    loop_io_done(&transport->io);
    if (reset) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        /* A Unix socket has no reset: there it closes in order, which is all that can be had. */
        (void)setsockopt(transport->io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    close(transport->io.fd);
    transport->io.fd = -1;
    loop_bury(transport->loop, &transport->grave, free_transport);
}
