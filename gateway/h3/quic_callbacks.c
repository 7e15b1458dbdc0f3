/* SPDX-License-Identifier: MIT */
/*
 * What ngtcp2 calls while it reads and writes. Everything here runs inside the library: it passes on to the user, notes and marks, and never
 * reads, writes or frees.
 */
#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "h3/quic_state.h"
#include "net/tls_quic.h"
#include "net/transport.h"

/* RFC 8446 6.2 */
#define ALERT_CERTIFICATE_EXPIRED 45
#define ALERT_MISSING_EXTENSION 109

/* --- memory -------------------------------------------------------------------------------------- */

static void *lib_malloc(size_t size, void *user)
{
    (void)user;
    return mem_alloc(size);
}

static void lib_free(void *memory, void *user)
{
    (void)user;
    mem_free(memory);
}

static void *lib_calloc(size_t count, size_t size, void *user)
{
    (void)user;
    return mem_calloc(count, size);
}

static void *lib_realloc(void *old, size_t size, void *user)
{
    (void)user;
    return mem_realloc(old, size);
}

const ngtcp2_mem quic_mem = {
    .malloc = lib_malloc, .free = lib_free, .calloc = lib_calloc, .realloc = lib_realloc};

/* --- connection ids ------------------------------------------------------------------------------ */

enum error quic_conn_new_cid(struct quic_conn *conn, ngtcp2_cid *cid,
                             ngtcp2_stateless_reset_token *token)
{
    struct quic_endpoint *endpoint = conn->endpoint;
    struct quic_cid_place place = {endpoint->server->given.generation, (uint16_t)endpoint->index};

    cid->datalen = QUIC_CID_LENGTH;
    if (quic_cid_make(&endpoint->keys, place, cid->data) != ERROR_NONE ||
        ngtcp2_crypto_generate_stateless_reset_token(token->data, endpoint->keys.reset,
                                                     sizeof(endpoint->keys.reset), cid) != 0) {
        return ERROR_NO_MEMORY;
    }
    return quic_table_add(&endpoint->table, &conn->owner, cid->data, cid->datalen);
}

static int on_new_cid(ngtcp2_conn *library, ngtcp2_cid *cid, ngtcp2_stateless_reset_token *token,
                      size_t length, void *user)
{
    (void)library;
    REQUIRE(length == QUIC_CID_LENGTH);
    return quic_conn_new_cid(user, cid, token) == ERROR_NONE ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_remove_cid(ngtcp2_conn *library, const ngtcp2_cid *cid, void *user)
{
    struct quic_conn *conn = user;

    (void)library;
    quic_table_remove(&conn->endpoint->table, &conn->owner, cid->data, cid->datalen);
    return 0;
}

static void on_random(uint8_t *out, size_t length, const ngtcp2_rand_ctx *context)
{
    (void)context;
    random_bytes(out, length);
}

/* --- the handshake ------------------------------------------------------------------------------- */

/* The ClientHello has been read. One without transport parameters is none of QUIC (RFC 9001 8.2), which OpenSSL lets pass. */
static int on_read_key(ngtcp2_conn *library, ngtcp2_encryption_level level, void *user)
{
    if (level == NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE &&
        ngtcp2_conn_get_remote_transport_params(library) == NULL) {
        quic_conn_close_alert(user, ALERT_MISSING_EXTENSION);
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

/* With the 1-RTT write key answers can leave before the handshake is complete (RFC 9001 5.7). */
static int on_write_key(ngtcp2_conn *library, ngtcp2_encryption_level level, void *user)
{
    struct quic_conn *conn = user;

    (void)library;
    if (level != NGTCP2_ENCRYPTION_LEVEL_1RTT || conn->opened || conn->ops == NULL) {
        return 0;
    }
    conn->opened = true;
    return conn->ops->on_open(conn->user) == ERROR_NONE ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static void send_new_token(struct quic_conn *conn, const ngtcp2_path *path)
{
    uint8_t token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN];
    const struct quic_keys *keys = &conn->endpoint->keys;
    ngtcp2_ssize length = ngtcp2_crypto_generate_regular_token(
        token, keys->token, sizeof(keys->token), path->remote.addr, path->remote.addrlen,
        loop_now(conn->loop));

    if (length > 0) {
        /* Without it the client is asked to prove its address again, no more. */
        (void)ngtcp2_conn_submit_new_token(conn->library, token, (size_t)length);
    }
}

/* This path, and no other: a packet may bring its proof from yet another address, to which the library has moved when it returns. */
static void note_proof(struct quic_conn *conn, const ngtcp2_path *path)
{
    if (path->remote.addrlen > sizeof(conn->proven.storage) ||
        path->local.addrlen > sizeof(conn->proven_local.storage)) {
        return;
    }
    conn->proven.length = path->remote.addrlen;
    memcpy(&conn->proven.storage, path->remote.addr, path->remote.addrlen);
    conn->proven_local.length = path->local.addrlen;
    memcpy(&conn->proven_local.storage, path->local.addr, path->local.addrlen);
    conn->moved = true;
}

static int on_handshake_completed(ngtcp2_conn *library, void *user)
{
    struct quic_conn *conn = user;

    quic_conn_leave_handshake(conn);
    enum error error = tls_quic_finish(conn->tls.tls, &conn->tls_info);
    if (error == ERROR_PROTOCOL) {
        quic_conn_close_alert(conn, ALERT_CERTIFICATE_EXPIRED);
    }
    if (error != ERROR_NONE) {
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    METRIC_INCREMENT(quic_handshakes);
    if (conn->tls_info->resumed) {
        METRIC_INCREMENT(quic_resumed);
    }
    if (ngtcp2_conn_get_tls_early_data_rejected(library)) {
        METRIC_INCREMENT(quic_early_rejected);
    }
    if (conn->phase == QUIC_PHASE_HANDSHAKE) {
        conn->phase = QUIC_PHASE_OPEN;
    }
    note_proof(conn, ngtcp2_conn_get_path(library));
    send_new_token(conn, ngtcp2_conn_get_path(library));
    if (conn->ops != NULL) {
        conn->ops->on_established(conn->user);
    }
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): the library's parameters */
static int on_update_key(ngtcp2_conn *library, uint8_t *rx_secret, uint8_t *tx_secret,
                         ngtcp2_crypto_aead_ctx *rx_aead, uint8_t *rx_iv,
                         ngtcp2_crypto_aead_ctx *tx_aead, uint8_t *tx_iv,
                         const uint8_t *current_rx_secret, const uint8_t *current_tx_secret,
                         size_t length, void *user)
{
    struct quic_conn *conn = user;

    /* The first call prepares for an update that has not come yet, each later one for the next. */
    if (conn->keys_prepared) {
        METRIC_INCREMENT(quic_key_updates);
    }
    conn->keys_prepared = true;
    return ngtcp2_crypto_update_key_cb(library, rx_secret, tx_secret, rx_aead, rx_iv, tx_aead,
                                       tx_iv, current_rx_secret, current_tx_secret, length, user);
}

/* --- paths --------------------------------------------------------------------------------------- */

static int on_path_validation(ngtcp2_conn *library, uint32_t flags, const ngtcp2_path *path,
                              const ngtcp2_path *fallback, ngtcp2_path_validation_result result,
                              void *user)
{
    struct quic_conn *conn = user;

    (void)library, (void)fallback;
    if (result != NGTCP2_PATH_VALIDATION_RESULT_SUCCESS) {
        METRIC_INCREMENT(quic_path_failures);
        return 0;
    }
    if (flags & NGTCP2_PATH_VALIDATION_FLAG_NEW_TOKEN) {
        send_new_token(conn, path);
    }
    note_proof(conn, path);
    return 0;
}

/* --- streams ------------------------------------------------------------------------------------- */

/* Marks a stream on which 0-RTT bytes came. */
static char early_mark;

bool quic_conn_stream_early(const struct quic_conn *conn, int64_t stream)
{
    return conn->early_seen &&
           ngtcp2_conn_get_stream_user_data(conn->library, stream) == &early_mark;
}

static int on_stream_data(ngtcp2_conn *library, uint32_t flags, int64_t stream, uint64_t offset,
                          const uint8_t *data, size_t length, void *user, void *stream_user)
{
    struct quic_conn *conn = user;
    struct slice bytes = {(const char *)data, length};

    (void)offset, (void)stream_user;
    if (flags & NGTCP2_STREAM_DATA_FLAG_0RTT) {
        if (!conn->early_seen) {
            METRIC_INCREMENT(quic_early);
        }
        conn->early_seen = true;
        (void)ngtcp2_conn_set_stream_user_data(library, stream, &early_mark);
    }
    if (conn->ops == NULL) {
        return 0;
    }
    return conn->ops->on_stream_data(conn->user, stream, bytes,
                                     (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0) == ERROR_NONE
               ? 0
               : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_acked(ngtcp2_conn *library, int64_t stream, uint64_t offset, uint64_t length,
                    void *user, void *stream_user)
{
    struct quic_conn *conn = user;

    (void)library, (void)offset, (void)stream_user;
    if (conn->ops != NULL && length > 0) {
        conn->ops->on_acked(conn->user, stream, length);
    }
    return 0;
}

static int on_stream_close(ngtcp2_conn *library, uint32_t flags, int64_t stream, uint64_t code,
                           void *user, void *stream_user)
{
    struct quic_conn *conn = user;

    (void)library, (void)stream_user;
    if (!(flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET)) {
        code = 0x100; /* H3_NO_ERROR (RFC 9114 8.1): it ended by itself */
    }
    if (conn->ops != NULL) {
        conn->ops->on_stream_closed(conn->user, stream, code);
    }
    if (!ngtcp2_is_bidi_stream(stream) && !ngtcp2_conn_is_local_stream(library, stream)) {
        ngtcp2_conn_extend_max_streams_uni(library, 1);
    }
    return 0;
}

static int on_stream_reset(ngtcp2_conn *library, int64_t stream, uint64_t final_size, uint64_t code,
                           void *user, void *stream_user)
{
    struct quic_conn *conn = user;

    (void)library, (void)final_size, (void)stream_user;
    if (conn->ops != NULL) {
        conn->ops->on_stream_reset(conn->user, stream, code);
    }
    return 0;
}

#ifdef NGTCP2_CALLBACKS_V4
/* Older libraries do not tell: there the next write to the stream does (on_shut), or its end. */
static int on_stop_sending(ngtcp2_conn *library, int64_t stream, uint64_t code, void *user,
                           void *stream_user)
{
    struct quic_conn *conn = user;

    (void)library, (void)stream_user;
    if (conn->ops != NULL) {
        conn->ops->on_stop_sending(conn->user, stream, code);
    }
    return 0;
}
#endif

static int on_stream_window(ngtcp2_conn *library, int64_t stream, uint64_t max, void *user,
                            void *stream_user)
{
    struct quic_conn *conn = user;

    (void)library, (void)max, (void)stream_user;
    if (conn->ops != NULL) {
        conn->ops->on_stream_window(conn->user, stream);
    }
    return 0;
}

const ngtcp2_callbacks quic_callbacks = {
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .handshake_completed = on_handshake_completed,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_acked,
    .stream_close = on_stream_close,
    .rand = on_random,
    .remove_connection_id = on_remove_cid,
    .update_key = on_update_key,
    .path_validation = on_path_validation,
    .stream_reset = on_stream_reset,
    .extend_max_stream_data = on_stream_window,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
    .recv_rx_key = on_read_key,
    .recv_tx_key = on_write_key,
    .get_new_connection_id2 = on_new_cid,
    .get_path_challenge_data2 = ngtcp2_crypto_get_path_challenge_data2_cb,
#ifdef NGTCP2_CALLBACKS_V4
    .recv_stop_sending = on_stop_sending,
#endif
};
