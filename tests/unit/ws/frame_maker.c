/* SPDX-License-Identifier: MIT */
/* See frame_maker.h. What goes wrong here is a bug of the test, so it aborts. */
#include "frame_maker.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/check.h"
#include "base/mem.h"

void frame_append(struct strbuf *out, unsigned first, const void *payload, size_t length)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t header[WS_HEADER_MAX];
    size_t size = ws_frame_header(header, first & 15, false, false, length);
    header[0] = (uint8_t)first;
    header[1] |= 0x80;
    strbuf_append(out, header, size);
    strbuf_append(out, mask, 4);
    for (size_t i = 0; i < length; i++) {
        strbuf_append_char(out, (char)(((const uint8_t *)payload)[i] ^ mask[i % 4]));
    }
}

void frame_text(struct strbuf *out, unsigned first, const char *text)
{
    frame_append(out, first, text, strlen(text));
}

enum error write_to_strbuf(void *user, struct slice bytes)
{
    strbuf_append_slice(user, bytes);
    return ERROR_NONE;
}

struct run_options run_defaults(void)
{
    return (struct run_options){
        .settings = {.max_message = 16u << 20,
                     .max_fragments = 1024,
                     .deflate = true,
                     .deflate_takeover = true,
                     .deflate_bits = 12},
    };
}

static void take_part(struct outcome *outcome, const struct ws_part *part, bool *within)
{
    if (!*within) {
        strbuf_append_text(&outcome->messages, part->text ? "T:" : "B:");
    }
    strbuf_append_slice(&outcome->messages, part->data);
    *within = part->more;
    if (!part->more) {
        strbuf_append_char(&outcome->messages, '|');
    }
    outcome->parts++;
    if (part->data.length > outcome->largest_part) {
        outcome->largest_part = part->data.length;
    }
}

struct outcome run_session(const struct run_options *options, const struct strbuf *bytes)
{
    struct outcome outcome = {.last = WS_EVENT_MORE};
    struct ws_session session;
    size_t size = options->room > 0 ? options->room : 16384;
    char *room = malloc(size);
    size_t chunk = options->chunk > 0 ? options->chunk : bytes->length;
    bool within = false;

    REQUIRE(room != NULL);
    strbuf_init(&outcome.messages);
    strbuf_init(&outcome.sent);
    ws_session_init(&session, &options->settings, &options->deflate, write_to_strbuf,
                    &outcome.sent);
    for (size_t at = 0; at < bytes->length && outcome.last == WS_EVENT_MORE; at += chunk) {
        size_t length = bytes->length - at < chunk ? bytes->length - at : chunk;
        struct slice input = {bytes->data + at, length};
        do {
            struct ws_part part;
            outcome.last =
                ws_session_receive(&session, &input, (struct ws_room){room, size}, &part);
            REQUIRE(outcome.last != WS_EVENT_BLOCKED);
            REQUIRE(ws_session_pong(&session) == ERROR_NONE);
            if (outcome.last == WS_EVENT_PART) {
                take_part(&outcome, &part, &within);
            }
        } while (outcome.last == WS_EVENT_PART);
        REQUIRE(outcome.last != WS_EVENT_MORE || input.length == 0);
    }
    outcome.code = session.code;
    ws_session_done(&session);
    free(room);
    return outcome;
}

void outcome_done(struct outcome *outcome)
{
    strbuf_done(&outcome->messages);
    strbuf_done(&outcome->sent);
}

char *frames_shown(const struct strbuf *sent)
{
    struct strbuf text;
    const uint8_t *bytes = (const uint8_t *)sent->data;
    strbuf_init(&text);
    for (size_t at = 0; at < sent->length;) {
        size_t length = bytes[at + 1], header = 2;
        if (length == 126) {
            length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
            header = 4;
        }
        REQUIRE(bytes[at + 1] < 127 && at + header + length <= sent->length);
        const uint8_t *payload = bytes + at + header;
        strbuf_printf(&text, "%s%02x:", at > 0 ? " " : "", bytes[at]);
        if (bytes[at] == 0x88 && length >= 2) {
            strbuf_printf(&text, "%u", (unsigned)(payload[0] << 8 | payload[1]));
        } else {
            strbuf_append(&text, payload, length);
        }
        at += header + length;
    }
    char *copy = strdup(strbuf_text(&text));
    strbuf_done(&text);
    return copy;
}

void deflate_message(struct strbuf *out, const void *data, size_t length)
{
    z_stream stream = {0};
    uLong bound = compressBound((uLong)length) + 64;
    Bytef *buffer = malloc(bound);
    REQUIRE(buffer != NULL &&
            deflateInit2(&stream, 9, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)data;
    stream.avail_in = (uInt)length;
    stream.next_out = buffer;
    stream.avail_out = (uInt)bound;
    REQUIRE(deflate(&stream, Z_SYNC_FLUSH) == Z_OK && stream.avail_in == 0);
    strbuf_append(out, buffer, stream.total_out - 4);
    (void)deflateEnd(&stream);
    free(buffer);
}
