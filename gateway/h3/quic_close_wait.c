/* SPDX-License-Identifier: MIT */
/*
 * What stays of a closed connection for three probe timeouts (RFC 9000 10.2): its ids and the packet that said so, sent again for the 1st, 2nd, 4th, 8th ...
 * late packet, and never more than three times what came. A few hundred bytes instead of a connection.
 */
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "h3/quic_state.h"

#define WAITS_MAX 8192u
#define AMPLIFICATION 3u

static void wait_free(struct loop_grave *grave)
{
    mem_free(LIST_CONTAINER(grave, struct quic_close_wait, grave));
}

static void end(struct quic_close_wait *wait)
{
    loop_timer_clear(&wait->timer);
    quic_table_drop(&wait->endpoint->table, &wait->owner);
    quic_close_wait_list_remove(&wait->endpoint->close_waits, wait);
    METRIC_DECREMENT(quic_close_waits);
    loop_bury(wait->endpoint->loop, &wait->grave, wait_free);
}

static void on_timer(struct loop_timer *timer)
{
    end(LIST_CONTAINER(timer, struct quic_close_wait, timer));
}

void quic_close_wait_begin(struct quic_endpoint *endpoint, struct quic_owner *routes,
                           const uint8_t *packet, size_t length, uint64_t life)
{
    struct quic_close_wait *wait = mem_calloc(1, sizeof(*wait) + length);

    if (wait == NULL) {
        return;
    }
    wait->endpoint = endpoint;
    loop_timer_init(&wait->timer, endpoint->loop, on_timer);
    if (loop_timer_set(&wait->timer, life) != ERROR_NONE) {
        mem_free(wait);
        return;
    }
    wait->length = length;
    if (length > 0) {
        memcpy(wait->packet, packet, length);
    }
    quic_owner_init(&wait->owner, QUIC_OWNER_CLOSE_WAIT);
    quic_owner_move(routes, &wait->owner);
    if (endpoint->close_waits.length >= WAITS_MAX) {
        end(quic_close_wait_list_first(&endpoint->close_waits));
    }
    quic_close_wait_list_append(&endpoint->close_waits, wait);
    METRIC_INCREMENT(quic_close_waits);
}

void quic_close_wait_packet(struct quic_endpoint *endpoint, struct quic_owner *owner,
                            const struct quic_datagram *datagram)
{
    struct quic_close_wait *wait = LIST_CONTAINER(owner, struct quic_close_wait, owner);
    size_t size;

    wait->packets++;
    wait->received += datagram->length;
    if (wait->length == 0 || (wait->packets & (wait->packets - 1)) != 0 ||
        wait->sent + wait->length > AMPLIFICATION * wait->received) {
        return;
    }
    struct quic_reply *reply = quic_reply_new(endpoint, datagram);
    if (reply == NULL) {
        return;
    }
    uint8_t *out = quic_reply_buffer(reply, &size);
    if (size < wait->length) {
        quic_reply_send(endpoint, reply, 0);
        return;
    }
    memcpy(out, wait->packet, wait->length);
    wait->sent += wait->length;
    quic_reply_send(endpoint, reply, wait->length);
}

void quic_close_waits_drop(struct quic_endpoint *endpoint)
{
    struct quic_close_wait *wait;

    while ((wait = quic_close_wait_list_first(&endpoint->close_waits)) != NULL) {
        end(wait);
    }
}
