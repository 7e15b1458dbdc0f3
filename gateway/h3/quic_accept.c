/* SPDX-License-Identifier: MIT */
/*
 * First packets (RFC 9000 5.2.2, 8.1): what a client without a connection may cause. In this order: is it one at all, does its token hold, must its
 * address be validated first, is there room.
 */
#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

#include "base/hash.h"
#include "base/metrics.h"
#include "h3/quic_state.h"
#include "net/listener_limits.h"

enum token_state { TOKEN_NONE, TOKEN_GOOD, TOKEN_BAD };

uint64_t quic_client_cid(const struct quic_datagram *datagram, const uint8_t *cid, size_t length)
{
    struct {
        struct sockaddr_storage peer, local;
        uint64_t length;
        uint8_t cid[QUIC_ROUTE_MAX];
    } key;

    memset(&key, 0, sizeof(key));
    memcpy(&key.peer, &datagram->peer.storage, datagram->peer.length);
    memcpy(&key.local, &datagram->local.storage, datagram->local.length);
    key.length = length < QUIC_ROUTE_MAX ? length : QUIC_ROUTE_MAX;
    memcpy(key.cid, cid, (size_t)key.length);
    return hash_bytes(&key, sizeof(key));
}

/* Whether a Retry's token is good for this packet; 0, or ngtcp2's reason. */
static int verify_retry(const struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                        const ngtcp2_pkt_hd *head, ngtcp2_cid *original)
{
    const struct quic_keys *keys = &endpoint->keys;

    return ngtcp2_crypto_verify_retry_token2(
        original, head->token, head->tokenlen, keys->token, sizeof(keys->token), head->version,
        &datagram->peer.sa, datagram->peer.length, &head->dcid,
        endpoint->server->given.settings.retry_token_life, loop_now(endpoint->loop));
}

bool quic_accept_is_retried(const struct quic_endpoint *endpoint,
                            const struct quic_datagram *datagram)
{
    ngtcp2_pkt_hd head;
    ngtcp2_cid original;

    return datagram->length >= QUIC_INITIAL_MIN &&
           ngtcp2_accept(&head, datagram->data, datagram->length) == 0 && head.tokenlen > 0 &&
           head.token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2 &&
           verify_retry(endpoint, datagram, &head, &original) == 0;
}

/* What the token of an Initial proves about its sender. */
static enum token_state read_token(struct quic_endpoint *endpoint,
                                   const struct quic_datagram *datagram, struct quic_hello *hello)
{
    const ngtcp2_pkt_hd *head = hello->head;
    const struct quic_settings *settings = &endpoint->server->given.settings;
    const struct quic_keys *keys = &endpoint->keys;
    uint64_t now = loop_now(endpoint->loop);

    if (head->tokenlen == 0) {
        return TOKEN_NONE;
    }
    if (head->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) {
        int result = verify_retry(endpoint, datagram, head, &hello->original);
        if (result == 0) {
            hello->token_type = NGTCP2_TOKEN_TYPE_RETRY;
            hello->retried = true;
            return TOKEN_GOOD;
        }
        METRIC_INCREMENT(quic_tokens_bad);
        return result == NGTCP2_CRYPTO_ERR_VERIFY_TOKEN ? TOKEN_BAD : TOKEN_NONE;
    }
    if (head->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR &&
        ngtcp2_crypto_verify_regular_token(
            head->token, head->tokenlen, keys->token, sizeof(keys->token), &datagram->peer.sa,
            datagram->peer.length, settings->new_token_life, now) == 0) {
        hello->token_type = NGTCP2_TOKEN_TYPE_NEW_TOKEN;
        return TOKEN_GOOD;
    }
    METRIC_INCREMENT(quic_tokens_bad);
    return TOKEN_NONE;
}

/* Counts a connection in every bound that TCP's connections are counted in. */
static bool enter_limits(struct quic_endpoint *endpoint, const struct addr *peer)
{
    struct listener_limits *limits = endpoint->server->given.limits;

    if (!listener_limits_enter(limits)) {
        METRIC_INCREMENT(quic_conns_refused);
        return false;
    }
    if (!listener_limits_enter_handshake(limits)) {
        listener_limits_leave(limits);
        METRIC_INCREMENT(quic_handshakes_refused);
        return false;
    }
    enum error error = listener_limits_enter_peer(limits, peer);
    if (error != ERROR_NONE) {
        listener_limits_leave_handshake(limits);
        listener_limits_leave(limits);
        if (error == ERROR_LIMIT) {
            METRIC_INCREMENT(conns_refused_per_ip);
        } else {
            METRIC_INCREMENT(quic_conns_refused);
        }
        return false;
    }
    METRIC_INCREMENT(conns);
    METRIC_INCREMENT(conns_accepted);
    return true;
}

static void make_connection(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                            const struct quic_hello *hello)
{
    struct quic_server *server = endpoint->server;
    struct quic_conn *conn = NULL;

    if (!enter_limits(endpoint, &datagram->peer)) {
        quic_reply_close(endpoint, datagram, hello->head, NGTCP2_CONNECTION_REFUSED);
        return;
    }
    atomic_fetch_add_explicit(&server->half_open, 1, memory_order_relaxed);
    if (quic_conn_new(endpoint, datagram, hello, &conn) != ERROR_NONE) {
        METRIC_INCREMENT(quic_conns_refused);
        atomic_fetch_sub_explicit(&server->half_open, 1, memory_order_relaxed);
        listener_limits_leave_handshake(server->given.limits);
        listener_connection_closed(server->given.limits, &datagram->peer);
        quic_reply_close(endpoint, datagram, hello->head, NGTCP2_CONNECTION_REFUSED);
        return;
    }
    quic_conn_read(conn, datagram);
}

void quic_accept(struct quic_endpoint *endpoint, struct quic_datagram *datagram)
{
    ngtcp2_pkt_hd head;
    struct quic_server *server = endpoint->server;
    struct quic_cid_place place;

    if (datagram->length < QUIC_INITIAL_MIN ||
        ngtcp2_accept(&head, datagram->data, datagram->length) != 0) {
        METRIC_INCREMENT(quic_drops_malformed);
        return;
    }
    struct quic_hello hello = {.head = &head, .original = head.dcid};
    enum token_state token = read_token(endpoint, datagram, &hello);
    if (token == TOKEN_BAD) {
        /* One that we made, for another address or too long ago: a second Retry would be ignored (RFC 9000 8.1.3). */
        quic_reply_close(endpoint, datagram, &head, NGTCP2_INVALID_TOKEN);
        return;
    }
    /* Clients choose ids at random; one of ours on a first packet is an attack on whoever has it. Only Retry gives them out before. */
    if (!hello.retried &&
        quic_cid_read(&endpoint->keys, head.dcid.data, head.dcid.datalen, &place)) {
        METRIC_INCREMENT(quic_drops_own_cid);
        return;
    }
    if (endpoint->yielded) {
        METRIC_INCREMENT(
            quic_drops_unknown); /* sent again, it comes to the process that takes it */
        return;
    }
    if (endpoint->draining || endpoint->held || endpoint->closing) {
        METRIC_INCREMENT(quic_conns_refused);
        quic_reply_close(endpoint, datagram, &head, NGTCP2_CONNECTION_REFUSED);
        return;
    }
    if (token == TOKEN_NONE && atomic_load_explicit(&server->half_open, memory_order_relaxed) >=
                                   server->given.settings.retry_threshold) {
        quic_reply_retry(endpoint, datagram, &head);
        return;
    }
    make_connection(endpoint, datagram, &hello);
}
