/* SPDX-License-Identifier: MIT */
/*
 * What makes a connection end with ENHANCE_YOUR_CALM. Each count has a rate that an honest client does not come near; a client that
 * does is told once, logged once, and gone.
 */
#include "h2/h2_state.h"

/* WINDOW_UPDATEs that each DATA frame of ours earns its client: one for the stream and one for the connection, and some for clients that
 * give back in small pieces. */
#define UPDATES_PER_DATA 4
#define UPDATES_MOST 10000
/* Half of so many streams within a second reset without an answer is no browser. */
#define SECOND_STREAMS 500

void h2_guard_init(struct h2_conn *h2)
{
    uint64_t now = loop_now(h2->conn.loop);
    h2->guard = (struct h2_guard){.window_updates = UPDATES_PER_DATA * 2};
    bucket_init(&h2->guard.resets, now, h2->settings->reset_burst);
    bucket_init(&h2->guard.glitches, now, h2->settings->glitch_burst);
}

/* --- events -------------------------------------------------------------------------------------- */

void h2_guard_glitch(struct h2_conn *h2)
{
    METRIC_INCREMENT(h2_glitches);
    if (!h2_is_over(h2) && !bucket_take(&h2->guard.glitches, loop_now(h2->conn.loop),
                                        h2->settings->glitch_burst, h2->settings->glitch_rate)) {
        METRIC_INCREMENT(h2_glitch_floods);
        h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, END_CLIENT_PROTOCOL,
                     "too many HTTP/2 frames without use: http2.glitches");
    }
}

static void new_second(struct h2_conn *h2)
{
    uint64_t second = loop_now(h2->conn.loop) / CLOCK_NS_PER_S;
    if (h2->guard.second != second) {
        h2->guard.second = second;
        h2->guard.streams = h2->guard.unanswered = 0;
    }
}

void h2_guard_stream(struct h2_conn *h2)
{
    new_second(h2);
    h2->guard.streams++;
    h2->guard.window_updates += UPDATES_PER_DATA;
}

void h2_guard_reset(struct h2_conn *h2, bool answered)
{
    struct h2_guard *guard = &h2->guard;
    new_second(h2);
    guard->unanswered += !answered;
    bool half = guard->streams >= SECOND_STREAMS && guard->unanswered * 2 >= guard->streams;
    if (!h2_is_over(h2) && (!bucket_take(&guard->resets, loop_now(h2->conn.loop),
                                         h2->settings->reset_burst, h2->settings->reset_rate) ||
                            half)) {
        METRIC_INCREMENT(h2_reset_floods);
        h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, END_CLIENT_PROTOCOL,
                     "too many HTTP/2 streams reset: http2.resets");
    }
}

void h2_guard_data_sent(struct h2_conn *h2)
{
    uint64_t updates = h2->guard.window_updates + UPDATES_PER_DATA;
    h2->guard.window_updates = updates < UPDATES_MOST ? updates : UPDATES_MOST;
}

void h2_guard_outbound(struct h2_conn *h2)
{
    if (!h2_is_over(h2) &&
        nghttp2_session_get_outbound_queue_size(h2->session) > h2->settings->outbound_queue_max) {
        METRIC_INCREMENT(h2_outbound_floods);
        h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, END_CLIENT_PROTOCOL,
                     "too many HTTP/2 frames wait for a client that does not read: "
                     "http2.outbound_queue");
    }
}

/* --- frame headers ------------------------------------------------------------------------------- */

/* DATA or HEADERS on a stream that the client may have no business with any more: RFC 9113 5.1, 5.1.1. */
static bool check_stream(struct h2_conn *h2, const struct h2_frame_header *frame)
{
    int32_t id = frame->stream_id;
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(h2->session, id);
    if (stream != NULL) {
        if (stream->remote_ended) {
            h2_terminate(h2, NGHTTP2_STREAM_CLOSED, END_CLIENT_PROTOCOL,
                         "HTTP/2 frame on a stream behind its END_STREAM");
        }
        return !h2_is_over(h2);
    }
    switch (h2_scan_look(&h2->scan, id)) {
    case H2_SCAN_SKIPPED:
        h2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, END_CLIENT_PROTOCOL,
                     "HTTP/2 stream id smaller than an earlier one");
        return false;
    case H2_SCAN_OVER:
        h2_terminate(h2, NGHTTP2_STREAM_CLOSED, END_CLIENT_PROTOCOL,
                     "HTTP/2 frame on a closed stream");
        return false;
    case H2_SCAN_EXCUSED:
        h2_guard_glitch(h2);
        break;
    case H2_SCAN_IDLE: /* opens one, or is the library's to refuse */
        break;
    }
    return !h2_is_over(h2);
}

static void note_headers(struct h2_conn *h2, const struct h2_frame_header *frame)
{
    if (frame->stream_id > h2->scan.highest) {
        h2_scan_open(&h2->scan, frame->stream_id);
        h2_guard_stream(h2);
        if (h2->drain == H2_DRAIN_FINAL) {
            h2_scan_excuse(&h2->scan, frame->stream_id); /* RFC 9113 6.8: ignored */
        }
    }
    if (h2->block_since == 0) {
        h2->block_since = loop_now(h2->conn.loop);
        h2_timers_arm(h2);
    }
}

bool h2_guard_frame(struct h2_conn *h2, const struct h2_frame_header *frame)
{
    switch (frame->type) {
    case NGHTTP2_DATA:
        return check_stream(h2, frame);
    case NGHTTP2_HEADERS:
        if (!check_stream(h2, frame)) {
            return false;
        }
        note_headers(h2, frame);
        break;
    case NGHTTP2_PRIORITY:
        if (frame->stream_id == 0) { /* RFC 9113 6.3 */
            h2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, END_CLIENT_PROTOCOL,
                         "HTTP/2 PRIORITY frame without a stream");
            return false;
        }
        h2_guard_glitch(h2);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        if (h2->guard.window_updates > 0) {
            h2->guard.window_updates--;
        } else {
            h2_guard_glitch(h2);
        }
        break;
    case NGHTTP2_RST_STREAM: /* counted when the library has accepted it */
        if (nghttp2_session_get_stream_user_data(h2->session, frame->stream_id) == NULL) {
            h2_guard_glitch(h2);
        }
        break;
    case NGHTTP2_CONTINUATION: /* bounded for each block by the library, and by header_timeout */
        if (frame->length == 0) {
            h2_guard_glitch(h2);
        }
        break;
    default:
        h2_guard_glitch(h2);
        break;
    }
    return !h2_is_over(h2);
}
