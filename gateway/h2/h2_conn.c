/* SPDX-License-Identifier: MIT */
/*
 * The life of an HTTP/2 connection and its codec_ops. A call from an exchange's side only queues frames with the library and marks
 * dirty; bytes move in h2_read.c and h2_flush.c.
 */
#include "h2/h2_conn.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "h2/h2_state.h"

/* --- state ------------------------------------------------------------------------------------- */

void h2_set_phase(struct h2_conn *h2, enum h2_phase phase)
{
    REQUIRE(h2->phase != H2_PHASE_DEAD);
    h2->phase = phase;
    h2_timers_arm(h2);
}

void h2_mark_dirty(struct h2_conn *h2)
{
    if (h2->phase != H2_PHASE_DEAD) {
        loop_mark_dirty(h2->conn.loop, &h2->dirty);
    }
}

void h2_log(const struct h2_conn *h2, const char *what)
{
    /* A flood of bad requests must not become a flood of lines. */
    static _Thread_local uint64_t second;
    static _Thread_local unsigned lines;
    uint64_t now = loop_now(h2->conn.loop) / CLOCK_NS_PER_S;
    if (now != second) {
        second = now;
        lines = 0;
    }
    if (lines++ < 10) {
        log_info("h2", "client %.*s port %u: %s", SLICE_PRINT(h2->conn.identity.client_host),
                 h2->conn.identity.client_port, what);
    }
}

void h2_update_wishes(struct h2_conn *h2)
{
    if (h2->phase == H2_PHASE_DEAD) {
        return;
    }
    enum transport_reading reading = h2_wants_bytes(h2) ? TRANSPORT_READ_ON : TRANSPORT_READ_WATCH;
    if (h2->wanted && h2->wanted_reading == reading && h2->wanted_write == h2->want_write) {
        return;
    }
    h2->wanted = true;
    h2->wanted_reading = reading;
    h2->wanted_write = h2->want_write;
    if (transport_want(h2->transport, reading, h2->want_write) != ERROR_NONE) {
        h2_destroy(h2, END_CLIENT_GONE, true);
    }
}

/* --- ends -------------------------------------------------------------------------------------- */

void h2_close_later(struct h2_conn *h2, enum end_reason reason)
{
    if (h2->phase != H2_PHASE_CLOSING && h2->phase != H2_PHASE_DEAD) {
        h2->close_reason = reason;
        h2_set_phase(h2, H2_PHASE_CLOSING);
        h2_mark_dirty(h2);
    }
}

static void h2_free(struct loop_grave *grave)
{
    struct conn *conn = LIST_CONTAINER(grave, struct conn, grave);
    struct h2_conn *h2 = h2_of_conn(conn);
    REQUIRE(h2->phase == H2_PHASE_DEAD && h2_stream_list_empty(&h2->streams));
    nghttp2_session_del(h2->session);
    byteq_done(&h2->out);
    h2->magic = MAGIC_FREED;
    mem_free(h2);
}

void h2_destroy(struct h2_conn *h2, enum end_reason reason, bool reset)
{
    REQUIRE(!h2->in_library);
    if (h2->phase == H2_PHASE_DEAD) {
        return;
    }
    h2_set_phase(h2, H2_PHASE_DEAD); /* before the callbacks below: nothing starts anew */
    h2_streams_end(h2, reason != END_COMPLETE ? reason : END_CLIENT_GONE);
    h2_timers_done(h2);
    loop_unmark_dirty(h2->conn.loop, &h2->dirty);
    loop_resume_cancel(h2->conn.loop, &h2->resume);
    transport_destroy(h2->transport, reset);
    conn_done(&h2->conn);
    loop_bury(h2->conn.loop, &h2->conn.grave, h2_free);
}

void h2_terminate(struct h2_conn *h2, uint32_t code, enum end_reason reason, const char *what)
{
    if (h2_is_over(h2)) {
        return;
    }
    METRIC_INCREMENT(h2_errors);
    h2_log(h2, what);
    h2->close_reason = reason;
    h2_set_phase(h2, H2_PHASE_ENDING);
    if (nghttp2_session_terminate_session2(
            h2->session, nghttp2_session_get_last_proc_stream_id(h2->session), code) != 0) {
        h2_close_later(h2, reason);
    }
    h2_mark_dirty(h2);
}

void h2_shut(struct h2_conn *h2)
{
    enum error error = transport_shutdown(h2->transport);
    if (error != ERROR_AGAIN && (error != ERROR_NONE || h2->client_shut)) {
        h2_destroy(h2, END_COMPLETE, false);
        return;
    }
    h2->want_write = error == ERROR_AGAIN;
    if (h2->phase != H2_PHASE_LINGER) {
        h2->linger_since = loop_now(h2->conn.loop);
        h2_set_phase(h2, H2_PHASE_LINGER);
    }
    h2_update_wishes(h2);
}

/* --- a graceful end ------------------------------------------------------------------------------ */

static int submit_notice(struct h2_conn *h2)
{
    static const uint8_t opaque[8] = {'d', 'r', 'a', 'i', 'n'};
    int failed = nghttp2_submit_shutdown_notice(h2->session);
    /* Its answer says that the notice has arrived. */
    return failed != 0 ? failed : nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, opaque);
}

void h2_begin_drain(struct h2_conn *h2, bool final)
{
    int failed = 0;
    if (h2_is_over(h2)) {
        return;
    }
    if (!final && h2->drain == H2_DRAIN_NONE) {
        h2->drain = H2_DRAIN_NOTICE;
        h2->notice_at = loop_now(h2->conn.loop);
        failed = submit_notice(h2);
    } else if (final && h2->drain != H2_DRAIN_FINAL) {
        h2->drain = H2_DRAIN_FINAL;
        failed = nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                                       nghttp2_session_get_last_proc_stream_id(h2->session),
                                       NGHTTP2_NO_ERROR, NULL, 0);
    }
    if (failed != 0) {
        METRIC_INCREMENT(h2_no_memory);
        h2_close_later(h2, END_NO_MEMORY);
    }
    h2_mark_dirty(h2);
    h2_timers_arm(h2);
}

static void h2_drain(struct conn *conn, bool close_idle)
{
    struct h2_conn *h2 = h2_of_conn(conn);
    conn->draining = true;
    if (close_idle && h2_stream_list_empty(&h2->streams) && h2->phase == H2_PHASE_OPEN) {
        h2_read(h2); /* a request that is on its way must not be cut */
    }
    h2_begin_drain(h2, close_idle && h2_stream_list_empty(&h2->streams));
}

/* --- codec_ops --------------------------------------------------------------------------------- */

static void h2_consumed(struct exchange *exchange, size_t length)
{
    h2_stream_consumed(h2_stream_of(exchange), length);
}

/* RFC 9113 7: what the client is told of the end of a response that cannot be finished. */
static uint32_t code_of(enum end_reason reason)
{
    switch (reason) {
    case END_CLIENT_PROTOCOL:
        return NGHTTP2_PROTOCOL_ERROR;
    case END_CLIENT_STALLED:
    case END_CLIENT_TIMEOUT:
    case END_CLIENT_GONE: /* a tunnel that its client ended without a word */
        return NGHTTP2_CANCEL;
    default:
        return NGHTTP2_INTERNAL_ERROR;
    }
}

static void h2_abort(struct exchange *exchange, enum end_reason reason)
{
    struct h2_stream *stream = h2_stream_of(exchange);
    if (stream->closed) { /* what was to be cut is over; the exchange is told so in the flush */
        stream->cut_reason = reason;
        h2_stream_work(stream);
        return;
    }
    h2_stream_reset(stream, code_of(reason), reason);
}

static void h2_destroy_now(struct conn *conn)
{
    h2_destroy(h2_of_conn(conn), END_SHUTDOWN, false);
}

static void h2_dump(const struct conn *conn, struct strbuf *out)
{
    static const char *const phases[] = {
#define PHASE(name, meaning) #name,
        H2_PHASES(PHASE)
#undef PHASE
    };
    static const char *const drains[] = {"", " drain=notice", " drain=final"};
    const struct h2_conn *h2 =
        (const struct h2_conn *)(const void *)((const char *)conn - offsetof(struct h2_conn, conn));
    if (h2->magic != H2_CONN_MAGIC || h2->phase >= H2_PHASE_COUNT || h2->drain > H2_DRAIN_FINAL) {
        strbuf_printf(out, "h2 connection with wrong magic %08x\n", (unsigned)h2->magic);
        return;
    }
    strbuf_printf(out,
                  "h2 conn %llu: phase=%s requests=%llu streams=%zu unconfirmed=%zu out=%zu "
                  "unconsumed=%llu owed=%llu%s%s\n",
                  (unsigned long long)conn->id, phases[h2->phase],
                  (unsigned long long)conn->requests, h2->streams.length, conn->unconfirmed.length,
                  h2->out.size, (unsigned long long)h2->unconsumed, (unsigned long long)h2->owed,
                  h2->want_write ? " write_blocked" : "", drains[h2->drain]);
}

/* Whether there is room is looked at when a client wants some (refuses_streams). */
static void h2_confirmed(struct conn *conn)
{
    (void)conn;
}

/* The library has it already. */
static bool h2_take_back(struct exchange *exchange)
{
    (void)exchange;
    return false;
}

static const struct codec_ops h2_ops = {
    .send_head = h2_send_head,
    .resume_body = h2_resume_body,
    .consumed = h2_consumed,
    .take_back = h2_take_back,
    .abort = h2_abort,
    .confirmed = h2_confirmed,
    .drain = h2_drain,
    .destroy = h2_destroy_now,
    .dump = h2_dump,
};

/* --- birth ------------------------------------------------------------------------------------- */

static void h2_on_ready(void *user, unsigned events)
{
    struct h2_conn *h2 = user;
    REQUIRE_OBJECT(h2, H2_CONN_MAGIC);
    if (events & LOOP_WRITE) {
        h2_mark_dirty(h2);
    }
    if ((events & (LOOP_READ | LOOP_CLOSED)) == 0) {
        return;
    }
    if (h2_wants_bytes(h2)) {
        h2_read(h2);
    } else if (transport_peer_state(h2->transport) == ERROR_IO) {
        h2_destroy(h2, END_CLIENT_GONE, true);
    }
}

static void h2_on_resume(struct loop_resume *resume)
{
    struct h2_conn *h2 = LIST_CONTAINER(resume, struct h2_conn, resume);
    REQUIRE_OBJECT(h2, H2_CONN_MAGIC);
    h2_read(h2);
}

/* What the connection begins with: our SETTINGS, and bytes that came already. */
static void begin(struct h2_conn *h2, struct slice bytes)
{
    h2_mark_dirty(h2);
    h2_timers_arm(h2);
    if (h2->conn.group->draining) {
        h2_drain(&h2->conn, false);
    }
    if (bytes.length > 0 && !h2_feed(h2, (const uint8_t *)bytes.data, bytes.length)) {
        h2_mark_dirty(h2);
    }
    h2_update_wishes(h2);
    if (h2->phase != H2_PHASE_DEAD && transport_buffered(h2->transport)) {
        loop_resume_later(h2->conn.loop, &h2->resume);
    }
}

enum error h2_conn_new(struct conn_group *group, struct transport *transport,
                       const struct conn_identity *identity, const struct h2_settings *settings,
                       struct slice bytes)
{
    struct h2_conn *h2 = mem_calloc(1, sizeof *h2);
    if (h2 == NULL) {
        transport_destroy(transport, false);
        return ERROR_NO_MEMORY;
    }
    h2->magic = H2_CONN_MAGIC;
    h2->transport = transport;
    h2->settings = settings;
    h2->conn.loop = group->loop;
    h2->conn.group = group;
    if (h2_session_new(h2) != ERROR_NONE) {
        mem_free(h2);
        transport_destroy(transport, false);
        return ERROR_NO_MEMORY;
    }
    transport->on_ready = h2_on_ready;
    transport->user = h2;
    h2_scan_init(&h2->scan);
    h2_guard_init(h2);
    h2_stream_list_init(&h2->streams);
    h2_work_list_init(&h2->work);
    byteq_init(&h2->out);
    h2->idle_since = loop_now(group->loop);
    loop_dirty_init(&h2->dirty, LOOP_STAGE_CONN, h2_flush);
    loop_resume_init(&h2->resume, h2_on_resume);
    conn_init(&h2->conn, group, &h2_ops, "h2", identity);
    h2_timers_init(h2);
    begin(h2, bytes); /* may end it: then on_closed was told, as at any other end */
    return ERROR_NONE;
}
