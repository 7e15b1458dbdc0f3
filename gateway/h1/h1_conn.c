/* SPDX-License-Identifier: MIT */
/*
 * The life of an HTTP/1.1 connection and its codec_ops. A call from the exchange's side only changes state and marks dirty; bytes
 * move in h1_read.c and h1_flush.c.
 */
#include "h1/h1_conn.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/strbuf.h"
#include "h1/h1_state.h"
#include "http/respond.h"

/* --- state ------------------------------------------------------------------------------------- */

void h1_set_phase(struct h1_conn *h1, enum h1_phase phase)
{
    REQUIRE(h1->phase != H1_PHASE_DEAD);
    h1->phase = phase;
    h1_timers_phase(h1);
}

void h1_mark(struct h1_conn *h1)
{
    if (h1->phase != H1_PHASE_DEAD) {
        loop_mark_dirty(h1->conn.loop, &h1->dirty);
    }
}

bool h1_is_draining(const struct h1_conn *h1)
{
    return h1->conn.draining || h1->conn.group->draining;
}

void h1_drop_buffer(struct h1_conn *h1)
{
    mem_free(h1->buffer);
    h1->buffer = NULL;
    h1->buffer_length = 0;
}

void h1_log(const struct h1_conn *h1, const char *what)
{
    /* A flood of bad requests must not become a flood of lines. */
    static _Thread_local uint64_t second;
    static _Thread_local unsigned lines;
    uint64_t now = loop_now(h1->conn.loop) / CLOCK_NS_PER_S;
    if (now != second) {
        second = now;
        lines = 0;
    }
    if (lines++ < 10) {
        log_info("h1", "client %.*s port %u: %s", SLICE_PRINT(h1->conn.identity.client_host),
                 h1->conn.identity.client_port, what);
    }
}

void h1_update_wishes(struct h1_conn *h1)
{
    if (h1->phase == H1_PHASE_DEAD) {
        return;
    }
    enum transport_reading reading = h1_wants_bytes(h1) ? TRANSPORT_READ_ON : TRANSPORT_READ_WATCH;
    if (h1->wanted && h1->wanted_reading == reading && h1->wanted_write == h1->want_write) {
        return;
    }
    h1->wanted = true;
    h1->wanted_reading = reading;
    h1->wanted_write = h1->want_write;
    if (transport_want(h1->transport, reading, h1->want_write) != ERROR_NONE) {
        h1_destroy(h1, END_CLIENT_GONE, true);
    }
}

/* --- ends -------------------------------------------------------------------------------------- */

void h1_close_later(struct h1_conn *h1, enum end_reason reason)
{
    if (!h1_is_over(h1)) {
        h1->close_reason = reason;
        h1_set_phase(h1, H1_PHASE_CLOSING);
        h1_mark(h1);
    }
}

static void h1_free(struct loop_grave *grave)
{
    struct conn *conn = LIST_CONTAINER(grave, struct conn, grave);
    struct h1_conn *h1 = h1_of_conn(conn);
    REQUIRE(h1->phase == H1_PHASE_DEAD && h1->exchange == NULL);
    h1->magic = MAGIC_FREED;
    mem_free(h1);
}

void h1_destroy(struct h1_conn *h1, enum end_reason reason, bool reset)
{
    if (h1->phase == H1_PHASE_DEAD) {
        return;
    }
    h1_set_phase(h1, H1_PHASE_DEAD); /* before the callbacks below: nothing starts anew */
    struct exchange *exchange = h1->exchange;
    h1->exchange = NULL;
    if (exchange != NULL) {
        exchange_client_detach(exchange, reason);
    }
    h1_timers_done(h1);
    loop_unmark_dirty(h1->conn.loop, &h1->dirty);
    loop_resume_cancel(h1->conn.loop, &h1->resume);
    transport_destroy(h1->transport, reset);
    h1_drop_buffer(h1);
    conn_done(&h1->conn);
    loop_bury(h1->conn.loop, &h1->conn.grave, h1_free);
}

/* Whether the client may be sending bytes that we shall not read: closing now would answer them with a reset, and a reset can
 * destroy the response on its way (RFC 9112 9.6). */
static bool bytes_may_come(struct h1_conn *h1)
{
    char probe[512];
    size_t length = 0;
    if (h1->client_shut) {
        return false;
    }
    if (h1->deaf || h1->buffer_length > 0 || !h1_parser_between(&h1->parser)) {
        return true;
    }
    return transport_read(h1->transport, probe, sizeof probe, &length) == ERROR_NONE;
}

void h1_hand_over(struct h1_conn *h1, const char *rest, size_t length)
{
    static const char line[] = "PRI * HTTP/2.0\r\n"; /* RFC 9113 3.4: what the parser has taken */
    struct conn_group *group = h1->conn.group;
    size_t line_length = sizeof line - 1;
    char *bytes = mem_alloc(line_length + length);
    if (bytes == NULL) {
        METRIC_INCREMENT(h1_no_memory);
        h1_close_later(h1, END_NO_MEMORY);
        return;
    }
    memcpy(bytes, line, line_length);
    memcpy(bytes + line_length, rest, length);
    h1_set_phase(h1, H1_PHASE_DEAD);
    exchange_discard(h1->exchange);
    h1->exchange = NULL;
    h1_timers_done(h1);
    loop_unmark_dirty(h1->conn.loop, &h1->dirty);
    loop_resume_cancel(h1->conn.loop, &h1->resume);
    h1_drop_buffer(h1);
    conn_hand_over(&h1->conn);
    group->on_preface(group, h1->transport, &h1->conn.identity,
                      (struct slice){bytes, line_length + length}, group->on_closed_context);
    mem_free(bytes);
    loop_bury(group->loop, &h1->conn.grave, h1_free);
}

void h1_shut(struct h1_conn *h1)
{
    h1->lingers = h1->lingers || bytes_may_come(h1);
    enum error error = transport_shutdown(h1->transport);
    if (error != ERROR_AGAIN && (error != ERROR_NONE || !h1->lingers)) {
        h1_destroy(h1, END_COMPLETE, false);
        return;
    }
    h1_drop_buffer(h1);
    h1->want_write = error == ERROR_AGAIN;
    if (h1->phase != H1_PHASE_LINGER) {
        METRIC_INCREMENT(h1_lingering_closes);
        h1_set_phase(h1, H1_PHASE_LINGER);
    }
    h1_update_wishes(h1);
}

void h1_end_exchange(struct h1_conn *h1)
{
    struct exchange *exchange = h1->exchange;
    REQUIRE(exchange->response_state == RESPONSE_FINISHED);
    h1->exchange = NULL;
    exchange_client_detach(exchange, END_COMPLETE);
    if (h1->close_after || (h1->client_shut && h1->buffer_length == 0)) {
        h1_shut(h1);
        return;
    }
    h1_set_phase(h1, H1_PHASE_IDLE);
    if (h1->buffer_length > 0) { /* the next request was pipelined */
        METRIC_INCREMENT(h1_pipelined);
        loop_resume_later(h1->conn.loop, &h1->resume);
    }
    h1_update_wishes(h1);
}

void h1_refuse(struct h1_conn *h1, enum h1_error error)
{
    h1_error_count(error);
    h1_log(h1, h1_error_text(error));
    h1->close_after = true;
    h1->deaf = true;
    h1_drop_buffer(h1);
    if (h1->exchange == NULL) {
        h1->exchange = exchange_new(&h1->conn);
        h1_writer_init(&h1->writer);
        h1->head_pending = false;
    }
    if (h1->exchange == NULL) {
        h1_close_later(h1, END_NO_MEMORY);
        return;
    }
    struct exchange *exchange = h1->exchange;
    if (exchange->request.version ==
        0) { /* not even a request line: answered as the version that we speak */
        exchange->request.version = HTTP_1_1;
    }
    h1_set_phase(h1, H1_PHASE_WAIT);
    if (exchange->response_state == RESPONSE_NONE) {
        if (exchange->worker_half != NULL) { /* it lets go before we answer */
            exchange->handler->on_client_gone(exchange, false);
        }
        respond_status(exchange, h1_error_status(error), h1_error_text(error));
    } else {
        exchange_client_fail(exchange, END_CLIENT_PROTOCOL, slice_from(h1_error_text(error)));
    }
}

/* --- codec_ops --------------------------------------------------------------------------------- */

/* Whether the rest of a request's body, which nobody wants, is too much to be read for the sake of the connection. */
static bool body_not_worth_reading(const struct h1_conn *h1, const struct exchange *exchange)
{
    if (h1->phase != H1_PHASE_BODY) {
        return false;
    }
    if (exchange->request.expect_continue && !exchange->continue_sent &&
        exchange->request_bytes == 0) {
        return true; /* the body may or may not come: RFC 9110 10.1.1 */
    }
    return (exchange->request_body_dropped || exchange->response_end) &&
           h1_parser_body_left(&h1->parser) > h1_http_settings(h1)->early_response_drain;
}

/* Whether an open body came to its end before its head was rendered: its length is known, and no chunks are needed. */
static bool body_is_whole(const struct h1_conn *h1, const struct exchange *exchange)
{
    return !h1->head_ends && exchange->response_framing == BODY_OPEN && exchange->response_end &&
           exchange->trailer_count == 0;
}

static void decide_persistence(struct h1_conn *h1, const struct exchange *exchange)
{
    uint64_t most = h1_http_settings(h1)->keep_alive_requests;
    if (!h1->close_after && most > 0 && h1->conn.requests >= most) {
        METRIC_INCREMENT(limit_keep_alive_requests);
        log_debug("h1", "connection %llu: limits.keep_alive_requests",
                  (unsigned long long)h1->conn.id);
        h1->close_after = true;
    }
    if (body_not_worth_reading(h1, exchange)) {
        METRIC_INCREMENT(h1_early_closes);
        h1->close_after = true;
    }
    bool close_delimited = exchange->request.version == HTTP_1_0 && !h1->head_ends &&
                           exchange->response_framing == BODY_OPEN && !body_is_whole(h1, exchange);
    h1->close_after |= close_delimited || h1_is_draining(h1);
}

static enum error render(struct h1_conn *h1, const struct response_head *head, bool end)
{
    struct exchange *exchange = h1->exchange;
    struct h1_head_context context = {
        .settings = h1_http_settings(h1),
        .request = &exchange->request,
        .date = conn_group_date(h1->conn.group),
        .alt_svc = h1->conn.identity.alt_svc,
        .close = h1->close_after,
        .end = end,
        .whole = head->status >= 200 && body_is_whole(h1, exchange),
        .length = exchange->response_body.unsent,
    };
    return h1_writer_head(&h1->writer, &exchange->arena, &context, head);
}

enum error h1_render_head(struct h1_conn *h1)
{
    if (!h1->head_pending) {
        return ERROR_NONE;
    }
    decide_persistence(h1, h1->exchange);
    h1->head_pending = false;
    return render(h1, &h1->exchange->response, h1->head_ends);
}

static bool h1_take_back(struct exchange *exchange)
{
    struct h1_conn *h1 = h1_of_conn(exchange->conn);
    bool pending = h1->head_pending && exchange == h1->exchange && !h1_is_over(h1);
    h1->head_pending &= !pending;
    return pending;
}

static enum error h1_send_head(struct exchange *exchange, const struct response_head *head,
                               bool end)
{
    struct h1_conn *h1 = h1_of_conn(exchange->conn);
    REQUIRE(exchange == h1->exchange && !h1->head_pending);
    if (h1_is_over(h1)) {
        return ERROR_CLOSED;
    }
    h1_mark(h1);
    if (head->status >= 200 || head->status == 101) {
        REQUIRE(head == &exchange->response);
        h1->head_pending = true;
        h1->head_ends = end;
        return ERROR_NONE;
    }
    if (head->status == 100) {
        h1_timers_body(h1, true, 0); /* now the client has no reason to wait */
    }
    return render(h1, head, false);
}

static void h1_resume_body(struct exchange *exchange)
{
    h1_mark(h1_of_conn(exchange->conn));
}

static void h1_consumed(struct exchange *exchange, size_t length)
{
    struct h1_conn *h1 = h1_of_conn(exchange->conn);
    (void)length;
    if (h1->blocked_on_room && !h1_is_over(h1)) {
        loop_resume_later(h1->conn.loop, &h1->resume);
    }
}

static void h1_abort(struct exchange *exchange, enum end_reason reason)
{
    h1_close_later(h1_of_conn(exchange->conn), reason);
}

static void h1_drain(struct conn *conn, bool close_idle)
{
    struct h1_conn *h1 = h1_of_conn(conn);
    conn->draining = true;
    if (!close_idle || h1->phase != H1_PHASE_IDLE) {
        return;
    }
    h1_read(h1); /* a request that is on its way must not be cut */
    if (h1->phase == H1_PHASE_IDLE) {
        h1_close_later(h1, END_COMPLETE);
    }
}

static void h1_destroy_now(struct conn *conn)
{
    struct h1_conn *h1 = h1_of_conn(conn);
    /* What already lies in the socket still goes out, unless a cut response would look complete. */
    h1_destroy(h1, END_SHUTDOWN, h1->exchange != NULL && h1->writer.close_marks_end);
}

static void h1_dump(const struct conn *conn, struct strbuf *out)
{
    static const char *const phases[] = {
#define PHASE(name, meaning) #name,
        H1_PHASES(PHASE)
#undef PHASE
    };
    const struct h1_conn *h1 =
        (const struct h1_conn *)(const void *)((const char *)conn - offsetof(struct h1_conn, conn));
    if (h1->magic != H1_CONN_MAGIC || h1->phase >= H1_PHASE_COUNT) {
        strbuf_printf(out, "h1 connection with wrong magic %08x\n", (unsigned)h1->magic);
        return;
    }
    strbuf_printf(
        out, "h1 conn %llu: phase=%s requests=%llu read_ahead=%zu%s%s%s%s%s exchange=%s\n",
        (unsigned long long)conn->id, phases[h1->phase], (unsigned long long)conn->requests,
        h1->buffer_length, h1->close_after ? " close_after" : "", h1->deaf ? " deaf" : "",
        h1->client_shut ? " client_shut" : "", h1->want_write ? " write_blocked" : "",
        h1->blocked_on_room ? " body_blocked" : "", h1->exchange != NULL ? "yes" : "no");
}

/* One request at a time: there is nothing to make room for. */
static void h1_confirmed(struct conn *conn)
{
    (void)conn;
}

static const struct codec_ops h1_ops = {
    .send_head = h1_send_head,
    .resume_body = h1_resume_body,
    .consumed = h1_consumed,
    .take_back = h1_take_back,
    .abort = h1_abort,
    .confirmed = h1_confirmed,
    .drain = h1_drain,
    .destroy = h1_destroy_now,
    .dump = h1_dump,
};

/* --- birth ------------------------------------------------------------------------------------- */

static void h1_on_ready(void *user, unsigned events)
{
    struct h1_conn *h1 = user;
    REQUIRE_OBJECT(h1, H1_CONN_MAGIC);
    if (events & LOOP_WRITE) {
        h1_mark(h1);
    }
    if (h1_wants_bytes(h1)) {
        if (events & (LOOP_READ | LOOP_CLOSED)) {
            h1_read(h1);
        }
        return;
    }
    if (events & LOOP_CLOSED) { /* not reading: the socket is asked, RFC 9112 9.5 */
        enum error state = transport_peer_state(h1->transport);
        if (state == ERROR_IO) {
            h1_destroy(h1, END_CLIENT_GONE, true);
        } else if (state == ERROR_CLOSED && h1->phase == H1_PHASE_WAIT && !h1->deaf &&
                   h1->exchange != NULL && !h1->exchange->client_half_closed) {
            METRIC_INCREMENT(h1_half_closes);
            exchange_client_half_closed(h1->exchange);
        }
    }
}

static void h1_on_resume(struct loop_resume *resume)
{
    struct h1_conn *h1 = LIST_CONTAINER(resume, struct h1_conn, resume);
    REQUIRE_OBJECT(h1, H1_CONN_MAGIC);
    h1_continue(h1);
}

enum error h1_conn_new(struct conn_group *group, struct transport *transport,
                       const struct conn_identity *identity, const struct h1_settings *settings)
{
    struct h1_conn *h1 = mem_calloc(1, sizeof *h1);
    if (h1 == NULL) {
        transport_destroy(transport, false);
        return ERROR_NO_MEMORY;
    }
    h1->magic = H1_CONN_MAGIC;
    h1->transport = transport;
    h1->settings = settings;
    transport->on_ready = h1_on_ready;
    transport->user = h1;
    h1_parser_init(&h1->parser, group->settings, settings, identity->secure);
    h1_writer_init(&h1->writer);
    loop_dirty_init(&h1->dirty, LOOP_STAGE_CONN, h1_flush);
    loop_resume_init(&h1->resume, h1_on_resume);
    conn_init(&h1->conn, group, &h1_ops, "http/1.1", identity);
    h1_timers_init(h1);
    h1_set_phase(h1, H1_PHASE_IDLE);
    h1_update_wishes(h1);
    if (h1->phase != H1_PHASE_DEAD && transport_buffered(transport)) {
        loop_resume_later(group->loop, &h1->resume);
    }
    /* If it ended at once, the group was told so, as of any other end: telling the caller too would count it twice. */
    return ERROR_NONE;
}
