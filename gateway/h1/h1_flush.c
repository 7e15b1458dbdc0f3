/* SPDX-License-Identifier: MIT */
/*
 * Bytes to the client, in the loop's flush only: one writev per round of up to 64 vectors, as long as the socket takes them. The body
 * is pulled: what the socket does not take stays in the exchange's bounded queue, and so holds the worker back.
 */
#include "base/metrics.h"
#include "h1/h1_state.h"

#define VECTORS 64
/* Bytes written in one flush before other connections get their turn. */
#define WRITE_BUDGET (256 * 1024)

/* The response is in the socket. */
static void on_finished(struct h1_conn *h1)
{
    struct exchange *exchange = h1->exchange;
    h1->want_write = false;
    h1_timers_write(h1, false);
    exchange_response_finished(exchange);
    if (h1->phase == H1_PHASE_WAIT) {
        h1_end_exchange(h1);
        return;
    }
    if (h1->phase == H1_PHASE_TUNNEL) {
        h1->deaf = true;
        h1_end_exchange(h1);
        return;
    }
    /* The response was early: part of the request is unread. Never keep such a connection without having read it. */
    REQUIRE(h1->phase == H1_PHASE_BODY);
    uint64_t left = h1_parser_body_left(&h1->parser);
    if (h1->close_after || h1->client_shut ||
        (left != UINT64_MAX && left > h1_http_settings(h1)->early_response_drain)) {
        if (!h1->close_after) {
            METRIC_INCREMENT(h1_early_closes);
        }
        h1->close_after = true;
        h1->deaf = true;
        h1_end_exchange(h1);
        return;
    }
    h1_set_phase(h1, H1_PHASE_DRAIN);
    exchange_request_drop(exchange);
    loop_resume_later(h1->conn.loop, &h1->resume);
    h1_update_wishes(h1);
}

/* One writev. False: nothing to write, the socket is full, or the connection is gone. */
static bool write_once(struct h1_conn *h1, size_t *total)
{
    struct iovec vectors[VECTORS];
    struct exchange *exchange = h1->exchange;
    size_t length = 0;
    if (h1_render_head(h1) != ERROR_NONE ||
        h1_writer_plan(&h1->writer, &exchange->arena, &exchange->response_body,
                       exchange->response_end, exchange->trailers,
                       exchange->trailer_count) != ERROR_NONE) {
        METRIC_INCREMENT(h1_no_memory);
        h1_destroy(h1, END_NO_MEMORY, h1->writer.close_marks_end);
        return false;
    }
    size_t count = h1_writer_gather(&h1->writer, &exchange->response_body, vectors, VECTORS);
    if (count == 0) {
        h1->want_write = false;
        h1_timers_write(h1, false);
        return false;
    }
    enum error error = transport_writev(h1->transport, vectors, count, &length);
    if (error == ERROR_AGAIN) {
        h1->want_write = true;
        h1_timers_write(h1, true);
        return false;
    }
    if (error != ERROR_NONE) {
        h1_destroy(h1, END_CLIENT_GONE, true);
        return false;
    }
    *total += length;
    size_t body = h1_writer_sent(&h1->writer, length);
    if (body > 0) {
        exchange_response_sent(exchange, body);
    }
    return true;
}

static enum loop_flush write_response(struct h1_conn *h1)
{
    size_t total = 0;
    while (h1->exchange != NULL && !h1_is_over(h1) &&
           h1->exchange->response_state != RESPONSE_FINISHED) {
        bool more = write_once(h1, &total);
        if (h1_is_over(h1)) {
            break;
        }
        /* Also when nothing was written: the end of a close-delimited body has no bytes of its own. */
        if (h1_writer_finished(&h1->writer)) {
            on_finished(h1);
            break;
        }
        if (!more) {
            break;
        }
        if (total >= WRITE_BUDGET) {
            return LOOP_FLUSH_MORE;
        }
    }
    return LOOP_FLUSH_CLEAN;
}

enum loop_flush h1_flush(struct loop_dirty *dirty)
{
    struct h1_conn *h1 = LIST_CONTAINER(dirty, struct h1_conn, dirty);
    REQUIRE_OBJECT(h1, H1_CONN_MAGIC);
    enum loop_flush result = LOOP_FLUSH_CLEAN;
    if (h1->phase == H1_PHASE_LINGER && h1->want_write) {
        h1_shut(h1); /* close_notify did not fit before */
        return LOOP_FLUSH_CLEAN;
    }
    if (h1->phase != H1_PHASE_CLOSING) {
        result = write_response(h1);
    }
    if (h1->phase == H1_PHASE_CLOSING) {
        /* A response whose end is the connection's end looks complete after a FIN: only a reset tells the truth. A client that
         * does not take its bytes gets one too, so that the kernel lets go of them. */
        bool cut = h1->writer.close_marks_end && !h1_writer_finished(&h1->writer);
        if (h1->exchange == NULL && h1->conn.identity.secure) {
            (void)!transport_shutdown(h1->transport); /* close_notify, if it fits: RFC 8446 6.1 */
        }
        h1_destroy(h1, h1->close_reason, cut || h1->close_reason == END_CLIENT_STALLED);
    } else if (h1->phase != H1_PHASE_DEAD) {
        h1_update_wishes(h1);
    }
    return h1->phase == H1_PHASE_DEAD ? LOOP_FLUSH_CLEAN : result;
}
