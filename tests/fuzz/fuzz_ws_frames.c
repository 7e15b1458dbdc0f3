/* SPDX-License-Identifier: MIT */
/*
 * A WebSocket client's bytes to messages, with and without permessage-deflate. However the bytes are divided, the same messages and
 * the same end must come out; no part is larger than its room, no message longer than its limit, text is UTF-8; a failure has a
 * code that may stand in a close frame; and what is echoed is read back as the same messages.
 *
 * Input: flags, room, size of the pieces, limit of messages (in 64 bytes), then the client's bytes: as they are, or with FLAG_MASK
 * frames of first byte, length byte and payload, which are masked here.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/strbuf.h"
#include "ws/ws_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum flag { FLAG_DEFLATE = 1, FLAG_NO_TAKEOVER = 2, FLAG_MASK = 4, FLAG_SMALL_WINDOW = 8 };

/* What one run of the bytes gave. */
struct result {
    struct strbuf messages, echoed;
    enum ws_event last;
    unsigned code;
};

struct run {
    struct ws_settings settings;
    struct ws_deflate_params deflate;
    size_t room, piece;
};

static enum error on_write(void *user, struct slice bytes)
{
    strbuf_append_slice(user, bytes);
    return ERROR_NONE;
}

/* One message, or a part of it. */
static void take_part(const struct run *run, struct result *result, struct ws_session *echo,
                      const struct ws_part *part, size_t *length, struct ws_utf8 *utf8)
{
    REQUIRE(part->data.length <= run->room);
    *length += part->data.length;
    REQUIRE(*length <= run->settings.max_message);
    REQUIRE(!part->text || ws_utf8_take(utf8, part->data));
    strbuf_append_slice(&result->messages, part->data);
    REQUIRE(ws_session_send(echo, part->data, part->text, part->more) == ERROR_NONE);
    if (!part->more) {
        REQUIRE(!part->text || ws_utf8_complete(utf8));
        strbuf_append(&result->messages, part->text ? "\0T" : "\0B", 2);
        *length = 0;
        *utf8 = (struct ws_utf8){0};
    }
}

/* Runs until the bytes or the session end. The messages of a fragmented run are cut at the last whole one by the caller. */
static struct result run_bytes(const struct run *run, struct slice bytes)
{
    struct result result = {.last = WS_EVENT_MORE};
    struct ws_session session, echo;
    struct strbuf sent;
    struct ws_utf8 utf8 = {0};
    char *room = malloc(run->room);
    size_t length = 0;
    REQUIRE(room != NULL);
    strbuf_init(&result.messages);
    strbuf_init(&result.echoed);
    strbuf_init(&sent);
    ws_session_init(&session, &run->settings, &run->deflate, on_write, &sent);
    ws_session_init(&echo, &run->settings, &run->deflate, on_write, &result.echoed);
    while (bytes.length > 0 && result.last == WS_EVENT_MORE) {
        size_t piece = bytes.length < run->piece ? bytes.length : run->piece;
        struct slice input = {bytes.data, piece};
        bytes = slice_skip(bytes, piece);
        do {
            struct ws_part part;
            result.last =
                ws_session_receive(&session, &input, (struct ws_room){room, run->room}, &part);
            REQUIRE(result.last != WS_EVENT_BLOCKED && result.last != WS_EVENT_BROKEN);
            REQUIRE(ws_session_pong(&session) == ERROR_NONE);
            if (result.last == WS_EVENT_PART) {
                take_part(run, &result, &echo, &part, &length, &utf8);
            }
        } while (result.last == WS_EVENT_PART);
    }
    REQUIRE(result.last != WS_EVENT_FAILED || ws_code_valid(session.code));
    REQUIRE(result.last != WS_EVENT_CLOSED || ws_code_valid(session.code) ||
            session.code == WS_CODE_NONE);
    REQUIRE(session.reason_length <= WS_REASON_MAX);
    result.code = session.code;
    result.messages.length -= length; /* the beginning of a message that never ended */
    ws_session_done(&session);
    ws_session_done(&echo);
    strbuf_done(&sent);
    free(room);
    return result;
}

static void result_done(struct result *result)
{
    strbuf_done(&result->messages);
    strbuf_done(&result->echoed);
}

/* A masked frame of the client with what is left of the payload. */
static void append_frame(struct strbuf *out, unsigned first, struct slice payload)
{
    uint8_t header[WS_HEADER_MAX];
    size_t length = ws_frame_header(header, 0, false, false, payload.length);
    header[0] = (uint8_t)first;
    header[1] |= 0x80;
    strbuf_append(out, header, length);
    strbuf_append(out, "\x11\x22\x33\x44", 4);
    for (size_t i = 0; i < payload.length; i++) {
        strbuf_append_char(out, (char)(payload.data[i] ^ "\x11\x22\x33\x44"[i % 4]));
    }
}

static void mask_frames(struct strbuf *out, struct slice bytes)
{
    while (bytes.length >= 2) {
        unsigned first = (uint8_t)bytes.data[0];
        size_t length = (uint8_t)bytes.data[1];
        bytes = slice_skip(bytes, 2);
        length = length < bytes.length ? length : bytes.length;
        append_frame(out, first, (struct slice){bytes.data, length});
        bytes = slice_skip(bytes, length);
    }
}

/* Our frames as a client's: the echo must be read back as the same messages. */
static void check_echo(const struct run *run, const struct result *result)
{
    struct strbuf client;
    const uint8_t *bytes = (const uint8_t *)result->echoed.data;
    strbuf_init(&client);
    for (size_t at = 0; at < result->echoed.length;) {
        size_t length = bytes[at + 1], header = 2;
        REQUIRE(length < 127);
        if (length == 126) {
            length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
            header = 4;
        }
        REQUIRE(at + header + length <= result->echoed.length);
        append_frame(&client, bytes[at], (struct slice){(const char *)bytes + at + header, length});
        at += header + length;
    }
    struct run again = *run;
    again.settings.max_fragments = UINT32_MAX;
    struct result back = run_bytes(&again, (struct slice){client.data, client.length});
    REQUIRE(back.last == WS_EVENT_MORE);
    REQUIRE(back.messages.length == result->messages.length &&
            (back.messages.length == 0 ||
             memcmp(back.messages.data, result->messages.data, back.messages.length) == 0));
    result_done(&back);
    strbuf_done(&client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4) {
        return 0;
    }
    unsigned flags = data[0];
    unsigned bits = flags & FLAG_SMALL_WINDOW ? 9 : 12;
    bool no_takeover = (flags & FLAG_NO_TAKEOVER) != 0;
    struct run run = {
        .settings = {.max_message = (data[3] + 1u) * 64, .max_fragments = 16},
        .deflate = {.enabled = (flags & FLAG_DEFLATE) != 0,
                    .server_no_takeover = no_takeover,
                    .client_no_takeover = no_takeover,
                    .server_bits = bits,
                    .client_bits = bits},
        .room = data[1] + 1u,
        .piece = data[2] + 1u,
    };
    struct strbuf masked;
    strbuf_init(&masked);
    struct slice bytes = {(const char *)data + 4, size - 4};
    if (flags & FLAG_MASK) {
        mask_frames(&masked, bytes);
        bytes = (struct slice){masked.data, masked.length};
    }
    struct result one = run_bytes(&run, bytes);
    check_echo(&run, &one);
    struct run whole = run;
    whole.room = 16384;
    whole.piece = SIZE_MAX;
    struct result other = run_bytes(&whole, bytes);
    REQUIRE(one.last == other.last && one.code == other.code);
    REQUIRE(one.messages.length == other.messages.length &&
            (one.messages.length == 0 ||
             memcmp(one.messages.data, other.messages.data, one.messages.length) == 0));
    result_done(&one);
    result_done(&other);
    strbuf_done(&masked);
    return 0;
}
