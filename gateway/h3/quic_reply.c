/* SPDX-License-Identifier: MIT */
/*
 * Answers for which there is no connection: Version Negotiation, Retry, refusals and stateless resets. They wait in a bounded queue for the loop's flush, and
 * none is longer than three times what it answers (RFC 9000 8).
 */
#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "h3/quic_state.h"

#define WAITING_MAX 256u
#define AMPLIFICATION 3u
/* RFC 9000 10.3: smaller than what it answers, so that two endpoints cannot keep each other busy; no longer than a short packet may look. */
#define RESET_TRIGGER_MIN (QUIC_CID_LENGTH + 22u)
#define RESET_LENGTH 43u

struct quic_reply *quic_reply_new(struct quic_endpoint *endpoint,
                                  const struct quic_datagram *datagram)
{
    size_t most = datagram->length * AMPLIFICATION;
    size_t size = most < QUIC_INITIAL_MIN ? most : QUIC_INITIAL_MIN;
    struct quic_reply *reply =
        endpoint->replies.length < WAITING_MAX ? mem_calloc(1, sizeof(*reply) + size) : NULL;

    if (reply == NULL) {
        METRIC_INCREMENT(quic_drops_replies);
        return NULL;
    }
    reply->socket = datagram->socket;
    reply->size = size;
    reply->packets =
        (struct udp_packets){.peer = datagram->peer, .local = datagram->local, .data = reply->data};
    return reply;
}

uint8_t *quic_reply_buffer(struct quic_reply *reply, size_t *ret_size)
{
    *ret_size = reply->size;
    return reply->data;
}

void quic_reply_send(struct quic_endpoint *endpoint, struct quic_reply *reply, size_t length)
{
    if (length == 0) {
        METRIC_INCREMENT(quic_drops_replies);
        mem_free(reply);
        return;
    }
    REQUIRE(length <= reply->size);
    reply->packets.length = reply->packets.segment = length;
    quic_reply_list_append(&endpoint->replies, reply);
    loop_mark_dirty(endpoint->loop, &endpoint->dirty);
}

enum loop_flush quic_reply_flush(struct loop_dirty *dirty)
{
    struct quic_endpoint *endpoint = LIST_CONTAINER(dirty, struct quic_endpoint, dirty);
    struct quic_reply *reply;

    while ((reply = quic_reply_list_pop(&endpoint->replies)) != NULL) {
        size_t sent = 0;
        METRIC_INCREMENT(quic_packets_out);
        metric_add(METRIC_quic_bytes_out, (int64_t)reply->packets.length);
        /* A socket that is full loses it, as the network might. */
        (void)!udp_send(&reply->socket->udp, &reply->packets, &sent);
        mem_free(reply);
    }
    return LOOP_FLUSH_CLEAN;
}

void quic_replies_drop(struct quic_endpoint *endpoint)
{
    struct quic_reply *reply;

    while ((reply = quic_reply_list_pop(&endpoint->replies)) != NULL) {
        mem_free(reply);
    }
    loop_unmark_dirty(endpoint->loop, &endpoint->dirty);
}

static size_t length_of(ngtcp2_ssize result)
{
    return result > 0 ? (size_t)result : 0;
}

/* --- Version Negotiation (RFC 9000 6) ------------------------------------------------------------- */

/* A version that does not exist, so that clients learn to ignore those they do not know (RFC 9000 15). It depends on the client: the same each time. */
static uint32_t greased_version(const struct quic_datagram *datagram, uint32_t version)
{
    uint32_t hash = (uint32_t)hash_bytes(&datagram->peer.storage, datagram->peer.length);

    hash ^= version;
    return (hash & UINT32_C(0xf0f0f0f0)) | UINT32_C(0x0a0a0a0a);
}

void quic_reply_version(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                        const ngtcp2_version_cid *ids)
{
    uint32_t versions[] = {greased_version(datagram, ids->version), NGTCP2_PROTO_VER_V1,
                           NGTCP2_PROTO_VER_V2};
    uint8_t noise;
    size_t size;

    if (datagram->length < QUIC_INITIAL_MIN) {
        METRIC_INCREMENT(quic_drops_replies);
        return;
    }
    struct quic_reply *reply = quic_reply_new(endpoint, datagram);
    if (reply == NULL) {
        return;
    }
    random_bytes(&noise, 1);
    uint8_t *out = quic_reply_buffer(reply, &size);
    METRIC_INCREMENT(quic_version_negotiations);
    quic_reply_send(endpoint, reply,
                    length_of(ngtcp2_pkt_write_version_negotiation(
                        out, size, noise, ids->scid, ids->scidlen, ids->dcid, ids->dcidlen,
                        versions, sizeof(versions) / sizeof(*versions))));
}

/* --- stateless reset (RFC 9000 10.3) -------------------------------------------------------------- */

static bool take_reset_token(struct quic_endpoint *endpoint)
{
    const struct quic_settings *settings = &endpoint->server->given.settings;
    uint64_t now = loop_now(endpoint->loop);
    uint64_t earned = (now - endpoint->reset_filled_at) * settings->reset_rate / CLOCK_NS_PER_S;

    if (earned > 0) {
        endpoint->reset_tokens += earned;
        endpoint->reset_filled_at = now;
    }
    if (endpoint->reset_tokens > settings->reset_burst) {
        endpoint->reset_tokens = settings->reset_burst;
    }
    if (endpoint->reset_tokens == 0) {
        return false;
    }
    endpoint->reset_tokens--;
    return true;
}

void quic_reply_reset(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                      const uint8_t *cid)
{
    ngtcp2_stateless_reset_token token;
    uint8_t noise[RESET_LENGTH];
    ngtcp2_cid id;
    size_t size;

    if (datagram->length < RESET_TRIGGER_MIN || !take_reset_token(endpoint)) {
        METRIC_INCREMENT(quic_drops_replies);
        return;
    }
    ngtcp2_cid_init(&id, cid, QUIC_CID_LENGTH);
    struct quic_reply *reply = quic_reply_new(endpoint, datagram);
    if (reply == NULL) {
        return;
    }
    uint8_t *out = quic_reply_buffer(reply, &size);
    size_t length = datagram->length <= RESET_LENGTH ? datagram->length - 1 : RESET_LENGTH;
    random_bytes(noise, sizeof(noise));
    if (ngtcp2_crypto_generate_stateless_reset_token(token.data, endpoint->keys.reset,
                                                     sizeof(endpoint->keys.reset), &id) != 0) {
        quic_reply_send(endpoint, reply, 0);
        return;
    }
    METRIC_INCREMENT(quic_stateless_resets);
    quic_reply_send(endpoint, reply,
                    length_of(ngtcp2_pkt_write_stateless_reset2(out, size, &token, noise,
                                                                length - sizeof(token.data))));
}

/* --- Retry (RFC 9000 8.1.2) and refusals ----------------------------------------------------------- */

void quic_reply_retry(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                      const ngtcp2_pkt_hd *head)
{
    struct quic_cid_place place = {endpoint->server->given.generation, (uint16_t)endpoint->index};
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2];
    ngtcp2_cid scid = {.datalen = QUIC_CID_LENGTH};
    size_t size;
    struct quic_reply *reply = quic_reply_new(endpoint, datagram);

    if (reply == NULL) {
        return;
    }
    ngtcp2_ssize length = -1;
    if (quic_cid_make(&endpoint->keys, place, scid.data) == ERROR_NONE) {
        length = ngtcp2_crypto_generate_retry_token2(token, endpoint->keys.token,
                                                     sizeof(endpoint->keys.token), head->version,
                                                     &datagram->peer.sa, datagram->peer.length,
                                                     &scid, &head->dcid, loop_now(endpoint->loop));
    }
    uint8_t *out = quic_reply_buffer(reply, &size);
    if (length > 0) {
        length = ngtcp2_crypto_write_retry(out, size, head->version, &head->scid, &scid,
                                           &head->dcid, token, (size_t)length);
    }
    METRIC_INCREMENT(quic_retries);
    quic_reply_send(endpoint, reply, length_of(length));
}

void quic_reply_close(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                      const ngtcp2_pkt_hd *head, uint64_t code)
{
    size_t size;
    struct quic_reply *reply = quic_reply_new(endpoint, datagram);

    if (reply == NULL) {
        return;
    }
    uint8_t *out = quic_reply_buffer(reply, &size);
    quic_reply_send(endpoint, reply,
                    length_of(ngtcp2_crypto_write_connection_close(
                        out, size, head->version, &head->scid, &head->dcid, code, NULL, 0)));
}
