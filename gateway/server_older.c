/* SPDX-License-Identifier: MIT */
/*
 * One message per datagram on a SOCK_SEQPACKET pair (a pair of datagram sockets that tells when the other end is gone): a head, then its bytes. What
 * does not fit is lost, as on any network, and counted. Knows no connection.
 */
#include "server_older.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "h3/quic_endpoint.h"
#include "h3/quic_handover.h"
#include "net/udp.h"
#include "server_loop.h"

#define MESSAGES_PER_EVENT 64

struct server_inbox {
    struct loop_io io;
    struct server *server;
    uint8_t message[QUIC_HANDOVER_HEAD + UDP_BUFFER_SIZE];
};

/* In any loop. */
static bool on_older(void *context, uint16_t generation, const struct addr *peer,
                     const struct addr *local, unsigned ecn, struct slice datagram)
{
    const struct server *server = context;
    const struct server_inputs *inputs = server->inputs;
    const struct udp_packets packets = {.peer = *peer, .local = *local, .ecn = ecn};
    uint8_t head[QUIC_HANDOVER_HEAD];
    struct iovec vectors[2] = {{head, sizeof(head)},
                               {(void *)(uintptr_t)datagram.data, datagram.length}};
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = 2};

    for (unsigned i = 0; i < inputs->quic_older_count; i++) {
        const struct server_older *older = &inputs->quic_older[i];
        if (older->generation != generation || older->fd < 0) {
            continue;
        }
        quic_handover_pack(&packets, head);
        if (sendmsg(older->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
            METRIC_INCREMENT(quic_handover_sent);
            return true;
        }
        if (errno == EPIPE || errno == ECONNRESET || errno == ECONNREFUSED) {
            return false; /* it is gone */
        }
        METRIC_INCREMENT(quic_handover_dropped);
        return true;
    }
    return false;
}

static void take(struct server_inbox *inbox, size_t length)
{
    struct quic_endpoint *endpoint = inbox->server->loops[0].quic;
    struct udp_packets packets;

    if (endpoint != NULL && quic_handover_unpack(inbox->message, length, &packets) &&
        quic_endpoint_inject(endpoint, &packets)) {
        METRIC_INCREMENT(quic_handover_received);
    } else {
        METRIC_INCREMENT(quic_handover_dropped);
    }
}

static void on_message(struct loop_io *io, unsigned events)
{
    struct server_inbox *inbox = LIST_CONTAINER(io, struct server_inbox, io);

    (void)events;
    for (unsigned i = 0; i < MESSAGES_PER_EVENT; i++) {
        /* The whole length, even of one that did not fit. */
        ssize_t got =
            recv(io->fd, inbox->message, sizeof(inbox->message), MSG_DONTWAIT | MSG_TRUNC);
        if (got > 0) {
            take(inbox, (size_t)got);
        } else {
            if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                (void)!loop_io_set(io, 0); /* no server follows any more */
            }
            return;
        }
    }
}

enum error server_older_init(struct server *server)
{
    const struct server_inputs *inputs = server->inputs;
    const struct quic_handover handover = {on_older, server};

    if (server->quic == NULL) {
        return ERROR_NONE;
    }
    if (inputs->quic_older_count > 0) {
        quic_server_set_handover(server->quic, &handover);
    }
    if (inputs->quic_inbox < 0) {
        return ERROR_NONE;
    }
    server->inbox = mem_calloc(1, sizeof(*server->inbox));
    if (server->inbox == NULL) {
        return ERROR_NO_MEMORY;
    }
    server->inbox->server = server;
    loop_io_init(&server->inbox->io, server->loop_pointers[0], inputs->quic_inbox, on_message);
    return loop_io_set(&server->inbox->io, LOOP_READ);
}

/* No loop runs meanwhile: they send to these. */
static void close_gone(struct server *server)
{
    const struct server_inputs *inputs = server->inputs;

    for (unsigned i = 0; i < inputs->quic_older_count; i++) {
        struct pollfd peer = {.fd = inputs->quic_older[i].fd};
        if (peer.fd >= 0 && poll(&peer, 1, 0) > 0 && (peer.revents & POLLHUP) != 0) {
            close(peer.fd);
            inputs->quic_older[i].fd = -1;
        }
    }
}

void server_older_look(struct server *server)
{
    const struct server_inputs *inputs = server->inputs;

    for (unsigned i = 0; i < inputs->quic_older_count; i++) {
        struct pollfd peer = {.fd = inputs->quic_older[i].fd};
        if (peer.fd >= 0 && poll(&peer, 1, 0) > 0 && (peer.revents & POLLHUP) != 0) {
            server_order_parked(server, SERVER_ORDER_PARK, close_gone);
            return;
        }
    }
}

void server_older_stop(struct server *server)
{
    if (server->inbox != NULL) {
        loop_io_done(&server->inbox->io);
    }
}

void server_older_free(struct server *server)
{
    mem_free(server->inbox);
    server->inbox = NULL;
}
