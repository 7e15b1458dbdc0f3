/* SPDX-License-Identifier: MIT */
/*
 * Packets that came to another loop than their connection's: the kernel steers by connection id where it may, and this is for the rest (and
 * for kernels that may not). A copy moves by mail, a bounded number at a time: beyond it packets are lost, as on any full queue.
 */
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "h3/quic_state.h"
#include "loop/mailbox.h"

#define INBOX_MAX 4096u

struct quic_forwarded {
    struct mail mail;
    struct quic_server *server; /* outlives the loops, and so their mail */
    unsigned loop, socket;
    struct addr peer, local;
    unsigned ecn;
    size_t length;
    uint8_t data[];
};

static void discard(struct mail *mail)
{
    struct quic_forwarded *forwarded = LIST_CONTAINER(mail, struct quic_forwarded, mail);

    atomic_fetch_sub_explicit(&forwarded->server->inboxes[forwarded->loop], 1,
                              memory_order_relaxed);
    mem_free(forwarded);
}

static void deliver(struct mail *mail, struct loop *loop)
{
    struct quic_forwarded *forwarded = LIST_CONTAINER(mail, struct quic_forwarded, mail);
    struct quic_endpoint *endpoint = forwarded->server->endpoints[forwarded->loop];

    (void)loop;
    if (forwarded->socket < endpoint->socket_count) {
        struct quic_datagram datagram = {.socket = endpoint->sockets[forwarded->socket],
                                         .peer = forwarded->peer,
                                         .local = forwarded->local,
                                         .ecn = forwarded->ecn,
                                         .data = forwarded->data,
                                         .length = forwarded->length,
                                         .forwarded = true};
        quic_endpoint_take(endpoint, &datagram);
    }
    discard(mail);
}

void quic_forward(struct quic_endpoint *from, unsigned loop, const struct quic_datagram *datagram)
{
    struct quic_server *server = from->server;
    _Atomic unsigned *inbox = &server->inboxes[loop];
    bool room = atomic_fetch_add_explicit(inbox, 1, memory_order_relaxed) < INBOX_MAX;
    struct quic_forwarded *forwarded =
        room ? mem_alloc(sizeof(*forwarded) + datagram->length) : NULL;

    METRIC_INCREMENT(quic_misroutes);
    if (forwarded == NULL) {
        atomic_fetch_sub_explicit(inbox, 1, memory_order_relaxed);
        METRIC_INCREMENT(quic_misroutes_lost);
        return;
    }
    *forwarded = (struct quic_forwarded){.mail = {.deliver = deliver, .discard = discard},
                                         .server = server,
                                         .loop = loop,
                                         .socket = datagram->socket->index,
                                         .peer = datagram->peer,
                                         .local = datagram->local,
                                         .ecn = datagram->ecn,
                                         .length = datagram->length};
    memcpy(forwarded->data, datagram->data, datagram->length);
    mailbox_post(server->endpoints[loop]->loop, &forwarded->mail);
}
