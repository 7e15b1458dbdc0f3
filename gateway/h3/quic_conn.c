/* SPDX-License-Identifier: MIT */
/*
 * The life of a QUIC connection: made for a first packet, fed with datagrams, ended by its peer, its user, an error or time. It owns the library's
 * connection, the handshake and its ids in the endpoint's table.
 */
#include "h3/quic_state.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/strbuf.h"
#include "h3/quic_trace.h"
#include "net/listener_limits.h"
#include "net/tls_context.h"
#include "net/tls_quic.h"

/* Control, QPACK encoder and decoder (RFC 9114 6.2), and some of types that mean nothing, which browsers open (6.2.3). */
#define SUPPORTED_STREAMS_UNI 8u
#define UNI_STREAM_WINDOW 65536u
#define BLOCKED_AGAIN CLOCK_NS_PER_MS

/* --- making -------------------------------------------------------------------------------------- */

static void fill_settings(ngtcp2_settings *settings, const struct quic_conn *conn,
                          const struct quic_hello *hello)
{
    static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2};
    const struct quic_settings *given = &conn->endpoint->server->given.settings;

    ngtcp2_settings_default(settings);
    settings->initial_ts = loop_now(conn->loop);
    settings->cc_algo = NGTCP2_CC_ALGO_CUBIC;
    settings->handshake_timeout = given->handshake_timeout;
    /* Windows are opened by consumption alone: no auto-tuning, so that memory has a bound. */
    settings->max_window = settings->max_stream_window = 0;
    settings->glitch_ratelim_burst = given->glitch_burst;
    settings->glitch_ratelim_rate = given->glitch_rate;
    /* No preferred_versions: a connection stays in the version that its client chose first. A client that only knows
     * version 2 as well is not made to use it (aioquic 1.2 derives its key updates wrong there). */
    settings->available_versions = versions;
    settings->available_versionslen = sizeof(versions) / sizeof(*versions);
    settings->token = hello->token_type != NGTCP2_TOKEN_TYPE_UNKNOWN ? hello->head->token : NULL;
    settings->tokenlen = hello->token_type != NGTCP2_TOKEN_TYPE_UNKNOWN ? hello->head->tokenlen : 0;
    settings->token_type = hello->token_type;
    if (conn->trace != NULL) {
        settings->qlog_write = quic_trace_write;
    }
}

static void fill_params(ngtcp2_transport_params *params, const struct quic_conn *conn,
                        const struct quic_hello *hello, const ngtcp2_stateless_reset_token *token)
{
    const struct quic_settings *given = &conn->endpoint->server->given.settings;

    ngtcp2_transport_params_default(params);
    params->initial_max_streams_bidi = given->max_concurrent_streams;
    params->initial_max_streams_uni = SUPPORTED_STREAMS_UNI;
    params->initial_max_data = given->connection_window;
    params->initial_max_stream_data_bidi_remote = given->stream_window;
    params->initial_max_stream_data_uni = UNI_STREAM_WINDOW;
    params->max_idle_timeout = given->idle_timeout;
    params->active_connection_id_limit = given->active_cids;
    params->grease_quic_bit = 1;
    params->original_dcid = hello->original;
    params->original_dcid_present = 1;
    if (hello->retried) {
        params->retry_scid = hello->head->dcid;
        params->retry_scid_present = 1;
    }
    memcpy(params->stateless_reset_token, token->data, sizeof(token->data));
    params->stateless_reset_token_present = 1;
}

static enum error make_library(struct quic_conn *conn, const struct quic_datagram *datagram,
                               const struct quic_hello *hello)
{
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid scid;
    ngtcp2_stateless_reset_token token;
    uint64_t client = quic_client_cid(datagram, hello->head->dcid.data, hello->head->dcid.datalen);
    ngtcp2_path path = {quic_address(&datagram->local), quic_address(&datagram->peer),
                        datagram->socket};

    enum error error =
        quic_table_add(&conn->endpoint->table, &conn->owner, &client, sizeof(client));
    if (error == ERROR_NONE) {
        error = quic_conn_new_cid(conn, &scid, &token);
    }
    if (error != ERROR_NONE) {
        return error;
    }
    conn->trace = quic_trace_new(conn->endpoint->server->given.settings.qlog,
                                 &hello->original.data[0], hello->original.datalen);
    fill_settings(&settings, conn, hello);
    fill_params(&params, conn, hello, &token);
    if (ngtcp2_conn_server_new(&conn->library, &hello->head->scid, &scid, &path,
                               hello->head->version, &quic_callbacks, &settings, &params, &quic_mem,
                               conn) != 0) {
        return ERROR_NO_MEMORY;
    }
    return ERROR_NONE;
}

static enum error make_tls(struct quic_conn *conn)
{
    struct quic_server *server = conn->endpoint->server;

    pthread_mutex_lock(&server->tls_lock);
    struct tls_context *context = tls_context_ref(server->given.tls);
    pthread_mutex_unlock(&server->tls_lock);
    enum error error = quic_tls_init(&conn->tls, context, conn->loop, conn->library);
    tls_context_unref(context);
    return error;
}

static void free_parts(struct quic_conn *conn)
{
    quic_tls_done(&conn->tls);
    ngtcp2_conn_del(conn->library);
    quic_trace_free(conn->trace);
    conn->magic = MAGIC_FREED;
    mem_free(conn);
}

static void conn_free(struct loop_grave *grave)
{
    free_parts(LIST_CONTAINER(grave, struct quic_conn, grave));
}

/* A time of the library has come: loss, an acknowledgement, the next burst, or an end. */
static void expire(struct quic_conn *conn)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    quic_conn_count_lost(conn);
    int result = ngtcp2_conn_handle_expiry(conn->library, loop_now(conn->loop));
    if (result == NGTCP2_ERR_IDLE_CLOSE) {
        METRIC_INCREMENT(quic_idle_timeouts);
        quic_conn_end(conn, false, false, 0);
    } else if (result == NGTCP2_ERR_HANDSHAKE_TIMEOUT) {
        METRIC_INCREMENT(quic_handshake_timeouts);
        quic_conn_end(conn, false, false, 0);
    } else if (result != 0) {
        quic_conn_fail(conn, result);
    } else {
        loop_mark_dirty(conn->loop, &conn->dirty);
    }
}

static void on_timer(struct loop_timer *timer)
{
    expire(LIST_CONTAINER(timer, struct quic_conn, timer));
}

static void on_resume(struct loop_resume *resume)
{
    expire(LIST_CONTAINER(resume, struct quic_conn, resume));
}

enum error quic_conn_new(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                         const struct quic_hello *hello, struct quic_conn **ret_conn)
{
    struct quic_conn *conn = mem_calloc(1, sizeof(*conn));

    if (conn == NULL) {
        return ERROR_NO_MEMORY;
    }
    conn->magic = QUIC_CONN_MAGIC;
    conn->endpoint = endpoint;
    conn->loop = endpoint->loop;
    conn->socket = datagram->socket;
    conn->peer = conn->counted = datagram->peer;
    conn->local = datagram->local;
    quic_owner_init(&conn->owner, QUIC_OWNER_CONN);
    loop_dirty_init(&conn->dirty, LOOP_STAGE_CONN, quic_conn_flush);
    loop_timer_init(&conn->timer, conn->loop, on_timer);
    loop_resume_init(&conn->resume, on_resume);
    enum error error = make_library(conn, datagram, hello);
    error = error == ERROR_NONE ? make_tls(conn) : error;
    if (error == ERROR_NONE) {
        error = endpoint->acceptor.on_connection(endpoint->acceptor.context, conn, &conn->ops,
                                                 &conn->user);
    }
    if (error != ERROR_NONE) {
        quic_table_drop(&endpoint->table, &conn->owner);
        free_parts(conn);
        return error;
    }
    quic_conn_list_append(&endpoint->conns, conn);
    conn->half_open = true;
    METRIC_INCREMENT(quic_conns);
    METRIC_INCREMENT(quic_handshakes_open);
    *ret_conn = conn;
    return ERROR_NONE;
}

/* --- ending -------------------------------------------------------------------------------------- */

void quic_conn_leave_handshake(struct quic_conn *conn)
{
    if (conn->half_open) {
        conn->half_open = false;
        METRIC_DECREMENT(quic_handshakes_open);
        atomic_fetch_sub_explicit(&conn->endpoint->server->half_open, 1, memory_order_relaxed);
        listener_limits_leave_handshake(conn->endpoint->server->given.limits);
    }
}

void quic_conn_count_lost(struct quic_conn *conn)
{
    ngtcp2_conn_info info;

    ngtcp2_conn_get_conn_info(conn->library, &info);
    metric_add(METRIC_quic_packets_lost, (int64_t)(info.pkt_lost - conn->lost_counted));
    conn->lost_counted = info.pkt_lost;
}

void quic_conn_end(struct quic_conn *conn, bool by_peer, bool application, uint64_t code)
{
    const struct quic_user_ops *ops = conn->ops;
    struct quic_endpoint *endpoint = conn->endpoint;

    REQUIRE(conn->phase != QUIC_PHASE_DEAD);
    conn->phase = QUIC_PHASE_DEAD;
    if (conn->half_open) {
        METRIC_INCREMENT(quic_handshake_failures);
    }
    quic_conn_leave_handshake(conn);
    quic_conn_count_lost(conn);
    conn->ops = NULL;
    if (ops != NULL) {
        ops->on_closed(conn->user, by_peer, application, code);
    }
    quic_table_drop(&endpoint->table, &conn->owner);
    quic_remainder_drop(conn);
    loop_timer_clear(&conn->timer);
    loop_resume_cancel(conn->loop, &conn->resume);
    loop_unmark_dirty(conn->loop, &conn->dirty);
    quic_conn_list_remove(&endpoint->conns, conn);
    METRIC_DECREMENT(quic_conns);
    listener_connection_closed(endpoint->server->given.limits, &conn->counted);
    loop_bury(conn->loop, &conn->grave, conn_free);
}

/* The peer has closed: its late packets are met with silence (RFC 9000 10.2.2). */
static void end_by_peer(struct quic_conn *conn)
{
    const ngtcp2_ccerr *error = ngtcp2_conn_get_ccerr(conn->library);
    bool application = error->type == NGTCP2_CCERR_TYPE_APPLICATION;
    uint64_t code = error->error_code;

    METRIC_INCREMENT(quic_closed_by_peer);
    if (code != 0 && !(application && code == 0x100)) {
        log_debug("quic", "closed by the client: %s error 0x%llx",
                  application ? "application" : "transport", (unsigned long long)code);
    }
    quic_close_wait_begin(conn->endpoint, &conn->owner, NULL, 0,
                          3 * ngtcp2_conn_get_pto(conn->library));
    quic_conn_end(conn, true, application, code);
}

static void start_closing(struct quic_conn *conn)
{
    if (conn->phase != QUIC_PHASE_DEAD) {
        conn->phase = QUIC_PHASE_CLOSING;
        loop_mark_dirty(conn->loop, &conn->dirty);
    }
}

void quic_conn_fail(struct quic_conn *conn, int library_error)
{
    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    if (library_error == NGTCP2_ERR_CRYPTO) {
        uint8_t alert = ngtcp2_conn_get_tls_alert(conn->library);
        ngtcp2_ccerr_set_tls_alert(&conn->error, alert, NULL, 0);
    } else {
        ngtcp2_ccerr_set_liberr(&conn->error, library_error, NULL, 0);
    }
    METRIC_INCREMENT(quic_errors);
    log_debug("quic", "connection ends: %s", ngtcp2_strerror(library_error));
    start_closing(conn);
}

void quic_conn_close_transport(struct quic_conn *conn, uint64_t code, const char *reason)
{
    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    ngtcp2_ccerr_set_transport_error(&conn->error, code, (const uint8_t *)reason, strlen(reason));
    start_closing(conn);
}

void quic_conn_close_alert(struct quic_conn *conn, uint8_t alert)
{
    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    METRIC_INCREMENT(quic_errors);
    ngtcp2_ccerr_set_tls_alert(&conn->error, alert, NULL, 0);
    start_closing(conn);
}

void quic_conn_close(struct quic_conn *conn, uint64_t code, const char *reason)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    size_t length = reason != NULL ? strlen(reason) : 0;
    length = length < sizeof(conn->reason) ? length : sizeof(conn->reason);
    if (length > 0) {
        memcpy(conn->reason, reason, length);
    }
    ngtcp2_ccerr_set_application_error(&conn->error, code, (uint8_t *)conn->reason, length);
    start_closing(conn);
}

/* --- reading ------------------------------------------------------------------------------------- */

/* The new address counts from its validation on, not from its first packet. */
static void look_for_move(struct quic_conn *conn)
{
    conn->moved = false;
    if (conn->proven.length == conn->peer.length &&
        memcmp(&conn->proven.sa, &conn->peer.sa, conn->peer.length) == 0) {
        return;
    }
    conn->peer = conn->proven;
    conn->local = conn->proven_local;
    METRIC_INCREMENT(quic_migrations);
    if (conn->ops != NULL) {
        conn->ops->on_migrated(conn->user);
    }
}

static void read_failed(struct quic_conn *conn, const struct quic_datagram *datagram, int result)
{
    switch (result) {
    case NGTCP2_ERR_DRAINING:
        end_by_peer(conn);
        return;
    case NGTCP2_ERR_RETRY: {
        /* The ClientHello's parts came in the wrong order: what has to be kept until the first one comes, is kept for validated addresses only. */
        ngtcp2_pkt_hd head;
        bool first = ngtcp2_accept(&head, datagram->data, datagram->length) == 0;
        if (first) {
            quic_reply_retry(conn->endpoint, datagram, &head);
        }
        quic_conn_end(conn, false, false, 0);
        return;
    }
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_CLOSING:
        quic_conn_end(conn, false, false, 0);
        return;
    default:
        quic_conn_fail(conn, result);
    }
}

void quic_conn_read(struct quic_conn *conn, const struct quic_datagram *datagram)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    ngtcp2_path path = {quic_address(&datagram->local), quic_address(&datagram->peer),
                        datagram->socket};
    ngtcp2_pkt_info info = {.ecn = (uint8_t)datagram->ecn};

    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    conn->in_library = true;
    int result = ngtcp2_conn_read_pkt(conn->library, &path, &info, datagram->data, datagram->length,
                                      loop_now(conn->loop));
    conn->in_library = false;
    if (result != 0) {
        if (conn->phase < QUIC_PHASE_CLOSING) {
            read_failed(conn, datagram, result);
        }
        return;
    }
    if (conn->moved) {
        look_for_move(conn);
    }
    loop_mark_dirty(conn->loop, &conn->dirty);
}

void quic_conn_arm(struct quic_conn *conn)
{
    uint64_t now = loop_now(conn->loop);
    uint64_t at = ngtcp2_conn_get_expiry(conn->library);

    if (at <= now && quic_blocked_list_linked(conn)) {
        at = now + BLOCKED_AGAIN; /* nothing can be sent anyway */
    }
    if (at <= now) {
        /* Due already: after the others' turn. */
        loop_timer_clear(&conn->timer);
        loop_resume_later(conn->loop, &conn->resume);
        return;
    }
    if (at == UINT64_MAX) {
        loop_timer_clear(&conn->timer);
    } else if (loop_timer_set(&conn->timer, at - now) != ERROR_NONE) {
        quic_conn_fail(conn, NGTCP2_ERR_NOMEM);
    }
}
