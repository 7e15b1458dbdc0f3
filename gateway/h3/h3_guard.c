/* SPDX-License-Identifier: MIT */
/*
 * What makes a connection end with H3_EXCESSIVE_LOAD. Each count has a rate that an honest client does not come near; a client that does
 * is told once, logged once, and gone.
 */
#include "h3/h3_state.h"

/* What control and QPACK streams may bring at once, and for each request: SETTINGS, a table of fields, a priority. */
#define UNI_FIRST 65536
#define UNI_PER_REQUEST 8192
/* SETTINGS that are longer than this are no settings (RFC 9114 10.5). */
#define UNI_BEFORE_REQUESTS 8192
/* Framing of a request beyond this may not be more than three quarters of what it brought (as HTTP/1.1's chunks). */
#define FRAMING_FREE 102400
#define FRAMING_PER_GLITCH 1024
/* Half of so many requests within a second reset without an answer is no browser. */
#define SECOND_STREAMS 500

void h3_guard_init(struct h3_conn *h3)
{
    uint64_t now = loop_now(h3->conn.loop);
    h3->guard = (struct h3_guard){.uni_bytes = UNI_FIRST};
    bucket_init(&h3->guard.resets, now, h3->settings->reset_burst);
    bucket_init(&h3->guard.glitches, now, h3->settings->glitch_burst);
}

void h3_guard_glitch(struct h3_conn *h3)
{
    METRIC_INCREMENT(h3_glitches);
    if (h3->phase == H3_PHASE_OPEN &&
        !bucket_take(&h3->guard.glitches, loop_now(h3->conn.loop), h3->settings->glitch_burst,
                     h3->settings->glitch_rate)) {
        METRIC_INCREMENT(h3_glitch_floods);
        h3_fail(h3, NGHTTP3_H3_EXCESSIVE_LOAD, "too much of no use over HTTP/3: http3.glitches");
    }
}

static void new_second(struct h3_conn *h3)
{
    uint64_t second = loop_now(h3->conn.loop) / CLOCK_NS_PER_S;
    if (h3->guard.second != second) {
        h3->guard.second = second;
        h3->guard.streams = h3->guard.unanswered = 0;
    }
}

void h3_guard_stream(struct h3_conn *h3)
{
    new_second(h3);
    h3->guard.streams++;
    h3->guard.uni_bytes += UNI_PER_REQUEST;
    if (h3->guard.uni_bytes > 16 * UNI_FIRST) {
        h3->guard.uni_bytes = 16 * UNI_FIRST;
    }
}

void h3_guard_reset(struct h3_conn *h3, bool answered)
{
    struct h3_guard *guard = &h3->guard;
    new_second(h3);
    guard->unanswered += !answered;
    bool half = guard->streams >= SECOND_STREAMS && guard->unanswered * 2 >= guard->streams;
    if (h3->phase == H3_PHASE_OPEN &&
        (!bucket_take(&guard->resets, loop_now(h3->conn.loop), h3->settings->reset_burst,
                      h3->settings->reset_rate) ||
         half)) {
        METRIC_INCREMENT(h3_reset_floods);
        h3_fail(h3, NGHTTP3_H3_EXCESSIVE_LOAD, "too many HTTP/3 requests reset: http3.resets");
    }
}

void h3_guard_uni(struct h3_conn *h3, size_t length)
{
    struct h3_guard *guard = &h3->guard;
    guard->uni_received += length;
    if (h3->created == 0 && guard->uni_received > UNI_BEFORE_REQUESTS) {
        METRIC_INCREMENT(h3_glitch_floods);
        h3_fail(h3, NGHTTP3_H3_EXCESSIVE_LOAD,
                "too much on HTTP/3 control streams before a request");
        return;
    }
    if (guard->uni_bytes >= length) {
        guard->uni_bytes -= length;
        return;
    }
    guard->uni_bytes = 0;
    h3_guard_glitch(h3);
}

void h3_guard_framing(struct h3_stream *stream, size_t length)
{
    uint64_t before = stream->framing / FRAMING_PER_GLITCH;
    stream->framing += length;
    if (stream->framing > FRAMING_FREE && stream->framing / 3 > stream->content &&
        stream->framing / FRAMING_PER_GLITCH != before) {
        h3_guard_glitch(stream->h3);
    }
}

void h3_guard_section(struct h3_stream *stream)
{
    stream->section_bytes = stream->section_fields = 0;
}

/* A byte on the wire may be a field of kilobytes, which costs its check again and again (CVE-2026-49975): what comes behind the limits
 * is counted, also where nobody wants the section. */
void h3_guard_field(struct h3_stream *stream, size_t length)
{
    const struct http_settings *http = h3_http_settings(stream->h3);
    stream->section_bytes += length + HEAD_BLOCK_FIELD_OVERHEAD;
    stream->section_fields++;
    if (stream->section_bytes > http->header_block_max ||
        stream->section_fields > http->header_fields_max + http->cookie_crumbs_max) {
        h3_guard_glitch(stream->h3);
    }
}
