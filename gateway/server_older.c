/* SPDX-License-Identifier: MIT */
/* One message per datagram on a SOCK_SEQPACKET pair: a head, then its bytes. What does not fit is lost, as on any network. */
#include "server_older.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "h3/quic_endpoint.h"
#include "net/udp.h"
#include "server_loop.h"

#define MESSAGES_PER_EVENT 64

/* Of another binary: its size says whether it is the same. */
struct older_head {
    uint32_t size, ecn;
    struct addr peer, local;
};

struct server_inbox {
    struct loop_io io;
    struct server *server;
    uint8_t data[UDP_BUFFER_SIZE];
};

/* In any loop. */
static bool on_older(void *context, uint16_t generation, const struct addr *peer,
                     const struct addr *local, unsigned ecn, struct slice datagram)
{
    const struct server *server = context;
    const struct server_inputs *inputs = server->inputs;
    struct older_head head;
    struct iovec vectors[2] = {{&head, sizeof(head)},
                               {(void *)(uintptr_t)datagram.data, datagram.length}};
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = 2};

    memset(&head, 0, sizeof(head));
    head.size = sizeof(head);
    head.ecn = ecn;
    head.peer = *peer;
    head.local = *local;
    for (unsigned i = 0; i < inputs->quic_older_count; i++) {
        if (inputs->quic_older[i].generation == generation && inputs->quic_older[i].fd >= 0) {
            ssize_t sent = sendmsg(inputs->quic_older[i].fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
            return sent >= 0 || errno == EAGAIN || errno == ENOBUFS;
        }
    }
    return false;
}

static void on_message(struct loop_io *io, unsigned events)
{
    struct server_inbox *inbox = LIST_CONTAINER(io, struct server_inbox, io);
    struct quic_endpoint *endpoint = inbox->server->loops[0].quic;

    (void)events;
    for (unsigned i = 0; i < MESSAGES_PER_EVENT; i++) {
        struct older_head head;
        struct iovec vectors[2] = {{&head, sizeof(head)}, {inbox->data, sizeof(inbox->data)}};
        struct msghdr message = {.msg_iov = vectors, .msg_iovlen = 2};
        ssize_t got = recvmsg(io->fd, &message, MSG_DONTWAIT);
        if (got <= 0) {
            if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                (void)!loop_io_set(io, 0); /* no server follows any more */
            }
            return;
        }
        if ((size_t)got <= sizeof(head) || head.size != sizeof(head) || endpoint == NULL) {
            continue;
        }
        size_t length = (size_t)got - sizeof(head);
        const struct udp_packets packets = {.peer = head.peer,
                                            .local = head.local,
                                            .ecn = head.ecn,
                                            .data = inbox->data,
                                            .length = length,
                                            .segment = length};
        quic_endpoint_inject(endpoint, &packets);
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
