/* SPDX-License-Identifier: MIT */
/*
 * The life of an HTTP/3 connection, its codec_ops, and its place as the user of a QUIC connection. A call from an exchange's side only
 * changes the library's state and marks dirty; bytes move in h3_read.c and h3_send.c.
 */
#include "h3/h3_conn.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "h3/h3_state.h"

/* --- state ------------------------------------------------------------------------------------- */

void h3_mark_dirty(struct h3_conn *h3)
{
    if (h3->phase < H3_PHASE_OVER) {
        loop_mark_dirty(h3->conn.loop, &h3->dirty);
    }
}

void h3_log(const struct h3_conn *h3, const char *what)
{
    /* A flood of bad requests must not become a flood of lines. */
    static _Thread_local uint64_t second;
    static _Thread_local unsigned lines;
    uint64_t now = loop_now(h3->conn.loop) / CLOCK_NS_PER_S;
    if (now != second) {
        second = now;
        lines = 0;
    }
    if (lines++ < 10) {
        log_info("h3", "client %.*s port %u: %s", SLICE_PRINT(h3->conn.identity.client_host),
                 h3->conn.identity.client_port, what);
    }
}

/* --- ends -------------------------------------------------------------------------------------- */

void h3_close(struct h3_conn *h3, uint64_t code, enum end_reason reason, const char *what)
{
    if (h3->phase == H3_PHASE_OPEN) {
        h3->phase = H3_PHASE_CLOSING;
        h3->close_reason = reason;
        h3_timers_done(h3);
        quic_conn_close(h3->quic, code, what);
        h3_mark_dirty(h3);
    }
}

void h3_fail(struct h3_conn *h3, uint64_t code, const char *what)
{
    if (h3->phase == H3_PHASE_OPEN) {
        METRIC_INCREMENT(h3_errors);
        h3_log(h3, what);
        h3_close(h3, code, END_CLIENT_PROTOCOL, what);
    }
}

void h3_no_memory(struct h3_conn *h3)
{
    if (h3->phase == H3_PHASE_OPEN) {
        METRIC_INCREMENT(h3_no_memory);
        h3_close(h3, NGHTTP3_H3_INTERNAL_ERROR, END_NO_MEMORY, "out of memory");
    }
}

/* Ends its exchanges and takes it out of the group. The transport may still point to bytes of responses: they stay until on_closed. */
static void h3_end(struct h3_conn *h3, enum end_reason reason)
{
    if (h3->phase >= H3_PHASE_OVER) {
        return;
    }
    h3->phase = H3_PHASE_OVER; /* before the callbacks below: nothing starts anew */
    h3_streams_end(h3, reason);
    h3_timers_done(h3);
    loop_unmark_dirty(h3->conn.loop, &h3->dirty);
    conn_done(&h3->conn);
}

static void h3_free(struct loop_grave *grave)
{
    struct conn *conn = LIST_CONTAINER(grave, struct conn, grave);
    struct h3_conn *h3 = h3_of_conn(conn);
    REQUIRE(h3->phase == H3_PHASE_DEAD && h3_stream_list_empty(&h3->streams));
    nghttp3_conn_del(h3->session);
    idmap_done(&h3->by_id);
    h3->magic = MAGIC_FREED;
    mem_free(h3);
}

static enum loop_flush h3_flush(struct loop_dirty *dirty)
{
    struct h3_conn *h3 = LIST_CONTAINER(dirty, struct h3_conn, dirty);
    REQUIRE_OBJECT(h3, H3_CONN_MAGIC);
    h3_settle(h3);
    h3_look_for_end(h3);
    if (h3->phase == H3_PHASE_CLOSING) {
        h3_end(h3, h3->close_reason);
    }
    return LOOP_FLUSH_CLEAN;
}

/* --- a graceful end ------------------------------------------------------------------------------ */

void h3_begin_drain(struct h3_conn *h3, bool final)
{
    int failed = 0;
    if (h3->phase != H3_PHASE_OPEN) {
        return;
    }
    if (h3->session == NULL) { /* nothing was said yet that a GOAWAY could end */
        h3_close(h3, NGHTTP3_H3_NO_ERROR, END_SHUTDOWN, "");
        return;
    }
    if (!final && h3->drain == H3_DRAIN_NONE) {
        h3->drain = H3_DRAIN_NOTICE;
        h3->notice_at = loop_now(h3->conn.loop);
        METRIC_INCREMENT(h3_goaways);
        failed = nghttp3_conn_submit_shutdown_notice(h3->session);
    } else if (final && h3->drain != H3_DRAIN_FINAL) {
        h3->drain = H3_DRAIN_FINAL;
        h3->final_at = loop_now(h3->conn.loop);
        METRIC_INCREMENT(h3_goaways);
        failed = nghttp3_conn_shutdown(h3->session);
    }
    if (failed != 0) {
        h3_no_memory(h3);
    }
    quic_conn_mark_dirty(h3->quic);
    h3_timers_arm(h3);
}

void h3_look_for_end(struct h3_conn *h3)
{
    if (h3_is_open(h3) && h3->drain == H3_DRAIN_FINAL && h3->close_idle &&
        h3_stream_list_empty(&h3->streams) && nghttp3_conn_is_drained(h3->session)) {
        h3_close(h3, NGHTTP3_H3_NO_ERROR, END_COMPLETE, "");
    }
}

static void h3_drain(struct conn *conn, bool close_idle)
{
    struct h3_conn *h3 = h3_of_conn(conn);
    bool idle = h3_stream_list_empty(&h3->streams);
    conn->draining = true;
    h3->close_idle |= close_idle && idle;
    h3_begin_drain(h3, close_idle && idle);
    h3_mark_dirty(h3);
}

/* --- codec_ops --------------------------------------------------------------------------------- */

static void h3_consumed(struct exchange *exchange, size_t length)
{
    h3_stream_consumed(h3_stream_of(exchange), length);
}

/* RFC 9114 8.1: what the client is told of the end of a response that cannot be finished. */
static uint64_t code_of(enum end_reason reason)
{
    switch (reason) {
    case END_CLIENT_PROTOCOL:
        return NGHTTP3_H3_MESSAGE_ERROR;
    case END_CLIENT_STALLED:
    case END_CLIENT_TIMEOUT:
    case END_CLIENT_GONE: /* a tunnel that its client ended without a word */
        return NGHTTP3_H3_REQUEST_CANCELLED;
    default:
        return NGHTTP3_H3_INTERNAL_ERROR;
    }
}

static void h3_abort(struct exchange *exchange, enum end_reason reason)
{
    h3_stream_reset(h3_stream_of(exchange), code_of(reason), reason);
}

static void h3_confirmed(struct conn *conn)
{
    h3_grant(h3_of_conn(conn));
}

static void h3_destroy(struct conn *conn)
{
    struct h3_conn *h3 = h3_of_conn(conn);
    h3_close(h3, NGHTTP3_H3_NO_ERROR, END_SHUTDOWN, "");
    h3_end(h3, END_SHUTDOWN);
}

static void h3_dump(const struct conn *conn, struct strbuf *out)
{
    static const char *const phases[] = {
#define PHASE(name, meaning) #name,
        H3_PHASES(PHASE)
#undef PHASE
    };
    static const char *const drains[] = {"", " drain=notice", " drain=final"};
    const struct h3_conn *h3 =
        (const struct h3_conn *)(const void *)((const char *)conn - offsetof(struct h3_conn, conn));
    if (h3->magic != H3_CONN_MAGIC || h3->phase >= H3_PHASE_COUNT || h3->drain > H3_DRAIN_FINAL) {
        strbuf_printf(out, "h3 connection with wrong magic %08x\n", (unsigned)h3->magic);
        return;
    }
    strbuf_printf(out,
                  "h3 conn %llu: phase=%s requests=%llu streams=%zu unconfirmed=%zu "
                  "unconsumed=%llu streams_left=%llu%s\n",
                  (unsigned long long)conn->id, phases[h3->phase],
                  (unsigned long long)conn->requests, h3->streams.length, conn->unconfirmed.length,
                  (unsigned long long)h3->unconsumed,
                  (unsigned long long)(h3->granted - h3->created), drains[h3->drain]);
    if (h3->phase < H3_PHASE_OVER) {
        quic_conn_dump(h3->quic, out);
    }
}

/* The library has it already. */
static bool h3_take_back(struct exchange *exchange)
{
    (void)exchange;
    return false;
}

static const struct codec_ops h3_ops = {
    .send_head = h3_send_head,
    .resume_body = h3_resume_body,
    .consumed = h3_consumed,
    .take_back = h3_take_back,
    .abort = h3_abort,
    .confirmed = h3_confirmed,
    .drain = h3_drain,
    .destroy = h3_destroy,
    .dump = h3_dump,
};

/* --- quic_user_ops ----------------------------------------------------------------------------- */

static enum error h3_on_open(void *user)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (h3->phase != H3_PHASE_OPEN) {
        return ERROR_NONE;
    }
    enum error error = h3_session_new(h3);
    if (error == ERROR_LIMIT) {
        h3_fail(h3, NGHTTP3_H3_GENERAL_PROTOCOL_ERROR,
                "the client allows no control and QPACK streams");
    } else if (error != ERROR_NONE) {
        h3_no_memory(h3);
    } else if (h3->conn.group->draining) {
        h3_drain(&h3->conn, false);
    }
    quic_conn_mark_dirty(h3->quic);
    return ERROR_NONE;
}

static void h3_on_identity(void *user)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (h3->phase == H3_PHASE_OPEN) {
        h3->identify(&h3->conn, h3->quic);
    }
}

static void h3_on_closed(void *user, bool by_peer, bool application, uint64_t code)
{
    struct h3_conn *h3 = h3_of_user(user);
    enum end_reason reason = h3->phase == H3_PHASE_CLOSING ? h3->close_reason : END_CLIENT_GONE;
    REQUIRE(h3->phase != H3_PHASE_DEAD);
    log_debug("h3", "connection %llu closed by %s, %s code %llu", (unsigned long long)h3->conn.id,
              by_peer ? "the client" : "us", application ? "HTTP/3" : "QUIC",
              (unsigned long long)code);
    h3_end(h3, reason);
    h3_streams_free(h3);
    h3->phase = H3_PHASE_DEAD;
    loop_bury(h3->conn.loop, &h3->conn.grave, h3_free);
}

static const struct quic_user_ops user_ops = {
    .on_open = h3_on_open,
    .on_established = h3_on_identity,
    .on_stream_data = h3_on_stream_data,
    .on_acked = h3_on_acked,
    .on_stream_reset = h3_on_stream_reset,
    .on_stop_sending = h3_on_stop_sending,
    .on_stream_closed = h3_on_stream_closed,
    .on_stream_window = h3_on_stream_window,
    .pull = h3_pull,
    .on_taken = h3_on_taken,
    .on_blocked = h3_on_blocked,
    .on_shut = h3_on_shut,
    .on_closed = h3_on_closed,
    .on_migrated = h3_on_identity,
};

/* --- birth ------------------------------------------------------------------------------------- */

enum error h3_conn_new(struct conn_group *group, struct quic_conn *quic,
                       const struct conn_identity *identity, const struct h3_settings *settings,
                       h3_identify *identify, const struct quic_user_ops **ret_ops, void **ret_user)
{
    struct h3_conn *h3 = mem_calloc(1, sizeof *h3);
    if (h3 == NULL) {
        return ERROR_NO_MEMORY;
    }
    h3->magic = H3_CONN_MAGIC;
    h3->quic = quic;
    h3->settings = settings;
    h3->identify = identify;
    h3->granted = settings->max_concurrent_streams; /* by the transport's parameters */
    h3_stream_list_init(&h3->streams);
    h3_work_list_init(&h3->work);
    idmap_init(&h3->by_id);
    h3->idle_since = loop_now(group->loop);
    loop_dirty_init(&h3->dirty, LOOP_STAGE_CONN, h3_flush);
    conn_init(&h3->conn, group, &h3_ops, "h3", identity);
    h3_guard_init(h3);
    h3_timers_init(h3);
    h3_timers_arm(h3);
    *ret_ops = &user_ops;
    *ret_user = h3;
    return ERROR_NONE;
}
