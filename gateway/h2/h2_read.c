/* SPDX-License-Identifier: MIT */
/*
 * Bytes from the client: read into a scratch buffer of the thread, cut into frames by their headers, and handed to the library. What
 * a request body may hold is bounded by its window, so that reading never has to stop for the app.
 */
#include <string.h>

#include "h2/h2_state.h"

#define SCRATCH_SIZE 16384
/* Bytes read in one callback before others get their turn. */
#define READ_BUDGET (4 * SCRATCH_SIZE)

static _Thread_local uint8_t scratch[SCRATCH_SIZE];

bool h2_wants_bytes(const struct h2_conn *h2)
{
    return !h2->client_shut && (h2->phase == H2_PHASE_OPEN || h2->phase == H2_PHASE_LINGER);
}

/* --- frames -------------------------------------------------------------------------------------- */

/* The library refuses to go on. */
static void failed(struct h2_conn *h2, nghttp2_ssize error)
{
    switch (error) {
    case NGHTTP2_ERR_NOMEM:
    case NGHTTP2_ERR_CALLBACK_FAILURE:
        METRIC_INCREMENT(h2_no_memory);
        h2_close_later(h2, END_NO_MEMORY);
        break;
    case NGHTTP2_ERR_FLOODED:
        METRIC_INCREMENT(h2_outbound_floods);
        h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, END_CLIENT_PROTOCOL,
                     "too many HTTP/2 acknowledgements wait for a client that does not read: "
                     "http2.acks");
        break;
    default:
        h2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, END_CLIENT_PROTOCOL,
                     "not HTTP/2: the connection does not begin with its preface and SETTINGS");
        break;
    }
}

/* Hands bytes over that belong to one frame at most. False: the connection is over. */
static bool hand_over(struct h2_conn *h2, const uint8_t *data, size_t length)
{
    h2->in_library = true;
    nghttp2_ssize taken = nghttp2_session_mem_recv2(h2->session, data, length);
    h2->in_library = false;
    if (taken < 0) {
        failed(h2, taken);
    }
    h2_settle(h2);
    h2_guard_outbound(h2);
    return h2->phase == H2_PHASE_OPEN;
}

/* The payload of a frame, whatever the library does with it: of PRIORITY it looks at the length alone. */
static bool take_payload(struct h2_conn *h2, const uint8_t *data, size_t length)
{
    if (h2_scan_priority_payload(&h2->scan, data, length)) {
        h2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, END_CLIENT_PROTOCOL,
                     "HTTP/2 PRIORITY frame of a stream that depends on itself");
    }
    return h2->phase == H2_PHASE_OPEN;
}

static void end_of_frame(struct h2_conn *h2)
{
    if (h2->scan.payload_left == 0 && h2->scan.ends_block) {
        h2->scan.ends_block = false;
        h2->block_since = 0;
    }
}

/* A frame's header is complete; `data` begins with it, and what follows is of the frame's payload. Returns the bytes done with. */
static size_t begin_frame(struct h2_conn *h2, const uint8_t *data, size_t length)
{
    struct h2_frame_header frame = h2_scan_decode(data);
    if (!h2_guard_frame(h2, &frame)) {
        return 0;
    }
    size_t part = length - H2_FRAME_HEADER;
    part = part < frame.length ? part : frame.length;
    h2->scan.payload_left = frame.length - (uint32_t)part;
    h2->scan.ends_block = (frame.type == NGHTTP2_HEADERS || frame.type == NGHTTP2_CONTINUATION) &&
                          (frame.flags & NGHTTP2_FLAG_END_HEADERS) != 0;
    h2->scan.dependency_left = 0;
    if (frame.type == NGHTTP2_PRIORITY) {
        h2_scan_priority(&h2->scan, frame.stream_id);
    }
    if (!take_payload(h2, data + H2_FRAME_HEADER, part) ||
        !hand_over(h2, data, H2_FRAME_HEADER + part)) {
        return 0;
    }
    end_of_frame(h2);
    return H2_FRAME_HEADER + part;
}

/* The next bytes of a header that came in pieces. Returns the bytes done with. */
static size_t gather_header(struct h2_conn *h2, const uint8_t *data, size_t length)
{
    struct h2_scan *scan = &h2->scan;
    size_t part = H2_FRAME_HEADER - (size_t)scan->header_length;
    part = part < length ? part : length;
    memcpy(scan->header + scan->header_length, data, part);
    scan->header_length = (uint8_t)(scan->header_length + part);
    if (scan->header_length == H2_FRAME_HEADER) {
        scan->header_length = 0;
        return begin_frame(h2, scan->header, H2_FRAME_HEADER) > 0 ? part : 0;
    }
    return part;
}

bool h2_feed(struct h2_conn *h2, const uint8_t *data, size_t length)
{
    struct h2_scan *scan = &h2->scan;
    while (length > 0 && h2->phase == H2_PHASE_OPEN) {
        size_t done;
        if (scan->preface_left > 0) {
            done = length < scan->preface_left ? length : scan->preface_left;
            scan->preface_left = (uint8_t)(scan->preface_left - done);
            done = hand_over(h2, data, done) ? done : 0;
        } else if (scan->payload_left > 0) {
            done = length < scan->payload_left ? length : scan->payload_left;
            scan->payload_left -= (uint32_t)done;
            done = take_payload(h2, data, done) && hand_over(h2, data, done) ? done : 0;
            end_of_frame(h2);
        } else if (scan->header_length == 0 && length >= H2_FRAME_HEADER) {
            done = begin_frame(h2, data, length);
        } else {
            done = gather_header(h2, data, length);
        }
        if (done == 0) {
            break;
        }
        data += done;
        length -= done;
    }
    return h2->phase == H2_PHASE_OPEN;
}

/* --- the socket ---------------------------------------------------------------------------------- */

/* The client has shut its side: it cannot open windows or acknowledge any more, so the connection is over. */
static void on_shut(struct h2_conn *h2)
{
    h2->client_shut = true;
    h2_destroy(h2, END_CLIENT_GONE, false);
}

/* One read. Returns how many bytes came, 0 when there is nothing more to do now. */
static size_t read_once(struct h2_conn *h2)
{
    size_t length = 0;
    enum error error = transport_read(h2->transport, scratch, sizeof scratch, &length);
    if (error == ERROR_AGAIN) {
        return 0;
    }
    if (error == ERROR_CLOSED) {
        on_shut(h2);
        return 0;
    }
    if (error != ERROR_NONE) {
        h2_destroy(h2, END_CLIENT_GONE, true);
        return 0;
    }
    if (h2->phase == H2_PHASE_LINGER) {
        return length; /* thrown away */
    }
    return h2_feed(h2, scratch, length) ? length : 0;
}

void h2_read(struct h2_conn *h2)
{
    size_t total = 0;
    while (h2_wants_bytes(h2)) {
        size_t length = read_once(h2);
        total += length;
        if (h2->phase == H2_PHASE_DEAD) {
            return;
        }
        if (length == 0 || (length < sizeof scratch && !transport_buffered(h2->transport))) {
            break; /* a level-triggered event tells of more */
        }
        if (total >= READ_BUDGET) {
            loop_resume_later(h2->conn.loop, &h2->resume);
            break;
        }
    }
    if (nghttp2_session_want_write(h2->session) || !nghttp2_session_want_read(h2->session) ||
        h2_is_over(h2)) {
        h2_mark_dirty(h2);
    }
    h2_timers_arm(h2);
    h2_update_wishes(h2);
}
