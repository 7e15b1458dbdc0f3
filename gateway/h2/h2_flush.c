/* SPDX-License-Identifier: MIT */
/*
 * Bytes to the client, in the loop's flush only. Frames are pulled from the library when the socket can take more, so that what was
 * decided late (a priority, a reset) still counts; what is pulled is bounded by H2_OUT_HIGH.
 */
#include "base/mem.h"
#include "h2/h2_state.h"

#define VECTORS 64
/* Bytes written in one flush before other connections get their turn. */
#define WRITE_BUDGET (256 * 1024)
#define FIRST_MARKS 16

/* --- marks --------------------------------------------------------------------------------------- */

static struct h2_mark *mark_at(const struct h2_conn *h2, size_t index)
{
    return &h2->marks[(h2->mark_first + index) % h2->mark_capacity];
}

static enum error grow_marks(struct h2_conn *h2)
{
    size_t capacity = h2->mark_capacity == 0 ? FIRST_MARKS : 2 * h2->mark_capacity;
    struct h2_mark *marks = mem_alloc(capacity * sizeof *marks);
    if (marks == NULL) {
        METRIC_INCREMENT(h2_no_memory);
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < h2->mark_count; i++) {
        marks[i] = *mark_at(h2, i);
    }
    mem_free(h2->marks);
    h2->marks = marks;
    h2->mark_first = 0;
    h2->mark_capacity = capacity;
    return ERROR_NONE;
}

enum error h2_push_mark(struct h2_stream *stream, size_t body, bool end)
{
    struct h2_conn *h2 = stream->h2;
    struct h2_mark *last = h2->mark_count > 0 ? mark_at(h2, h2->mark_count - 1) : NULL;
    if (last != NULL && last->stream == stream && last->at == h2->out_queued) {
        last->body += (uint32_t)body;
        last->end |= end;
        return ERROR_NONE;
    }
    if (h2->mark_count == h2->mark_capacity && grow_marks(h2) != ERROR_NONE) {
        return ERROR_NO_MEMORY;
    }
    h2->mark_count++;
    *mark_at(h2, h2->mark_count - 1) = (struct h2_mark){
        .at = h2->out_queued, .stream = stream, .body = (uint32_t)body, .end = end};
    stream->marks++;
    return ERROR_NONE;
}

void h2_drop_marks(struct h2_conn *h2)
{
    for (size_t i = 0; i < h2->mark_count; i++) {
        mark_at(h2, i)->stream->marks--;
    }
    mem_free(h2->marks);
    h2->marks = NULL;
    h2->mark_first = h2->mark_count = h2->mark_capacity = 0;
}

/* The socket has taken a frame. */
static void frame_written(struct h2_conn *h2, const struct h2_mark *mark)
{
    struct h2_stream *stream = mark->stream;
    struct exchange *exchange = stream->exchange;
    stream->marks--;
    if (exchange != NULL && mark->body > 0) {
        pace_update(&stream->write_pace, loop_now(h2->conn.loop), stream->write_pace.since != 0,
                    mark->body);
        exchange_response_sent(exchange, mark->body);
    }
    if (exchange != NULL && mark->end && exchange->response_state == RESPONSE_ENDED) {
        exchange_response_finished(exchange);
    }
    if (stream->closed) {
        h2_stream_work(stream);
    }
}

static void written(struct h2_conn *h2, size_t length)
{
    h2->out_written += length;
    byteq_consume(&h2->out, length);
    while (h2->mark_count > 0 && mark_at(h2, 0)->at <= h2->out_written) {
        struct h2_mark mark = *mark_at(h2, 0);
        h2->mark_first = (h2->mark_first + 1) % h2->mark_capacity;
        h2->mark_count--;
        frame_written(h2, &mark);
    }
}

/* --- writing ------------------------------------------------------------------------------------- */

/* Takes frames from the library. False: the connection is over. */
static bool pull(struct h2_conn *h2)
{
    bool good = true;
    h2->in_library = true;
    while (good && h2->out.size < H2_OUT_HIGH && nghttp2_session_want_write(h2->session)) {
        const uint8_t *data = NULL;
        nghttp2_ssize length = nghttp2_session_mem_send2(h2->session, &data);
        if (length == 0) {
            break;
        }
        good = length > 0 && byteq_append(&h2->out, data, (size_t)length) == ERROR_NONE;
        h2->out_queued += length > 0 ? (uint64_t)length : 0;
    }
    h2->in_library = false;
    if (!good) {
        METRIC_INCREMENT(h2_no_memory);
        h2_destroy(h2, END_NO_MEMORY, true);
        return false;
    }
    h2_settle(h2);
    return true;
}

/* One writev. False: nothing to write, the socket is full, or the connection is gone. */
static bool write_once(struct h2_conn *h2, size_t *total)
{
    struct iovec vectors[VECTORS];
    size_t length = 0;
    if (!pull(h2)) {
        return false;
    }
    size_t count = byteq_peek(&h2->out, vectors, VECTORS, SIZE_MAX);
    if (count == 0) {
        h2->want_write = false;
        h2_timers_write(h2, false);
        return false;
    }
    enum error error = transport_writev(h2->transport, vectors, count, &length);
    if (error == ERROR_AGAIN) {
        h2->want_write = true;
        h2_timers_write(h2, true);
        return false;
    }
    if (error != ERROR_NONE) {
        h2_destroy(h2, END_CLIENT_GONE, true);
        return false;
    }
    *total += length;
    written(h2, length);
    h2_settle(h2);
    return true;
}

/* Nothing is left to write: the connection may have reached its end. */
static void look_for_end(struct h2_conn *h2)
{
    if (h2->want_write || h2->out.size > 0 || h2->phase == H2_PHASE_LINGER ||
        h2->phase == H2_PHASE_CLOSING || h2->phase == H2_PHASE_DEAD) {
        return;
    }
    bool ended =
        !nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session);
    if (h2->phase == H2_PHASE_OPEN && !ended) {
        return;
    }
    if (h2->phase == H2_PHASE_OPEN) {
        /* In order, or by the library for an error of the client. */
        h2_set_phase(h2, H2_PHASE_ENDING);
        h2_streams_end(h2, END_CLIENT_PROTOCOL);
    }
    if (ended) {
        h2_shut(h2);
    }
}

static enum loop_flush write_frames(struct h2_conn *h2)
{
    size_t total = 0;
    while (h2->phase == H2_PHASE_OPEN || h2->phase == H2_PHASE_ENDING) {
        if (!write_once(h2, &total)) {
            break;
        }
        if (total >= WRITE_BUDGET) {
            return LOOP_FLUSH_MORE;
        }
    }
    return LOOP_FLUSH_CLEAN;
}

enum loop_flush h2_flush(struct loop_dirty *dirty)
{
    struct h2_conn *h2 = LIST_CONTAINER(dirty, struct h2_conn, dirty);
    REQUIRE_OBJECT(h2, H2_CONN_MAGIC);
    enum loop_flush result = LOOP_FLUSH_CLEAN;
    h2_settle(h2);
    if (h2->phase == H2_PHASE_LINGER && h2->want_write) {
        h2_shut(h2); /* close_notify did not fit before */
        return LOOP_FLUSH_CLEAN;
    }
    if (h2->phase == H2_PHASE_ENDING) {
        h2_streams_end(h2, h2->close_reason);
    }
    result = write_frames(h2);
    look_for_end(h2);
    if (h2->phase == H2_PHASE_CLOSING) {
        h2_destroy(h2, h2->close_reason, h2->close_reason == END_CLIENT_STALLED);
    } else if (h2->phase != H2_PHASE_DEAD) {
        h2_update_wishes(h2);
    }
    return h2->phase == H2_PHASE_DEAD ? LOOP_FLUSH_CLEAN : result;
}
