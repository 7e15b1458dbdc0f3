/* SPDX-License-Identifier: MIT */
/* Compressed messages in both directions: what comes out, what a bomb costs, what wrong data does, what memory is held. */
#include "check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "frame_maker.h"

static struct run_options deflate_options(void)
{
    struct run_options options = run_defaults();
    options.deflate =
        (struct ws_deflate_params){.enabled = true, .server_bits = 12, .client_bits = 12};
    return options;
}

static void check_message(const struct run_options *options, const struct strbuf *bytes,
                          const char *expected)
{
    struct outcome outcome = run_session(options, bytes);
    CHECK_EQ_INT(outcome.last, WS_EVENT_MORE);
    CHECK_EQ_STR(strbuf_text(&outcome.messages), expected);
    outcome_done(&outcome);
}

/* RFC 7692 section 7.2.3: the bytes of "Hello" in five forms. */
TEST(the_examples_of_rfc_7692)
{
    static const struct {
        unsigned first;
        const char *payload;
        size_t length;
    } frames[] = {
        {FIN | RSV1 | 1, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7}, /* one block */
        {FIN | RSV1 | 1, "\xf2\x00\x11\x00\x00", 5},         /* the window is shared */
        {FIN | RSV1 | 1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11}, /* not compressed */
        {FIN | RSV1 | 1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8},              /* BFINAL */
        {FIN | RSV1 | 1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
         13},                  /* two blocks */
        {FIN | 1, "Hello", 5}, /* as it is */
    };
    struct run_options options = deflate_options();
    struct strbuf bytes;
    strbuf_init(&bytes);
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        frame_append(&bytes, frames[i].first, frames[i].payload, frames[i].length);
    }
    for (size_t chunk = 0; chunk < 3; chunk++) {
        options.chunk = chunk;
        for (size_t room = 0; room < 8; room++) {
            options.room = room;
            check_message(&options, &bytes, "T:Hello|T:Hello|T:Hello|T:Hello|T:Hello|T:Hello|");
        }
    }
    strbuf_done(&bytes);
}

TEST(a_compressed_message_in_fragments_with_a_ping_between)
{
    struct run_options options = deflate_options();
    struct strbuf bytes;
    strbuf_init(&bytes);
    frame_append(&bytes, RSV1 | 1, "\xf2\x48\xcd", 3);
    frame_text(&bytes, FIN | 9, "p");
    frame_append(&bytes, 0, "", 0);
    frame_append(&bytes, FIN | 0, "\xc9\xc9\x07\x00", 4);
    check_message(&options, &bytes, "T:Hello|");
    strbuf_done(&bytes);
}

TEST(an_empty_compressed_message)
{
    struct run_options options = deflate_options();
    struct strbuf bytes;
    strbuf_init(&bytes);
    frame_append(&bytes, FIN | RSV1 | 2, "\0", 1);
    frame_append(&bytes, FIN | RSV1 | 2, "", 0);
    check_message(&options, &bytes, "B:|B:|");
    strbuf_done(&bytes);
}

static unsigned code_of(const struct run_options *options, unsigned first, const void *payload,
                        size_t length)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    frame_append(&bytes, first, payload, length);
    struct outcome outcome = run_session(options, &bytes);
    unsigned code = outcome.code;
    outcome_done(&outcome);
    strbuf_done(&bytes);
    return code;
}

TEST(wrong_data_and_wrong_bits)
{
    struct run_options options = deflate_options();
    CHECK_EQ_INT(code_of(&options, FIN | RSV1 | 1, "\xff\xff\xff", 3), 1007);
    CHECK_EQ_INT(code_of(&options, FIN | RSV1 | 9, "x", 1), 1002);
    CHECK_EQ_INT(code_of(&options, FIN | RSV1 | RSV2 | 1, "x", 1), 1002);
    struct strbuf bytes;
    strbuf_init(&bytes);
    frame_append(&bytes, RSV1 | 1, "\xf2\x48", 2);
    frame_append(&bytes, FIN | RSV1 | 0, "\xcd", 1); /* only a message's first frame has the bit */
    struct outcome outcome = run_session(&options, &bytes);
    CHECK_EQ_INT(outcome.code, 1002);
    outcome_done(&outcome);
    strbuf_done(&bytes);
}

TEST(text_is_checked_after_inflate)
{
    struct run_options options = deflate_options();
    struct strbuf packed;
    strbuf_init(&packed);
    deflate_message(&packed, "ok \xc3\x28", 5);
    CHECK_EQ_INT(code_of(&options, FIN | RSV1 | 1, packed.data, packed.length), 1007);
    CHECK_EQ_INT(code_of(&options, FIN | RSV1 | 2, packed.data, packed.length), 0);
    strbuf_done(&packed);
}

/* 64 MiB of zeros in 64 KiB. */
TEST(a_bomb_stops_at_the_limit_of_messages)
{
    struct run_options options = deflate_options();
    struct strbuf packed, bytes;
    size_t size = 64u << 20;
    char *zeros = calloc(1, size);
    CHECK(zeros != NULL);
    strbuf_init(&packed);
    strbuf_init(&bytes);
    deflate_message(&packed, zeros, size);
    free(zeros);
    CHECK(packed.length < 100000);
    frame_append(&bytes, FIN | RSV1 | 2, packed.data, packed.length);
    struct outcome outcome = run_session(&options, &bytes);
    CHECK_EQ_INT(outcome.last, WS_EVENT_FAILED);
    CHECK_EQ_INT(outcome.code, 1009);
    CHECK(outcome.messages.length <= options.settings.max_message + 3);
    CHECK(outcome.largest_part <= 16384);
    outcome_done(&outcome);
    strbuf_done(&packed);
    strbuf_done(&bytes);
}

TEST(a_message_of_exactly_the_limit_is_taken)
{
    struct run_options options = deflate_options();
    static const char zeros[1001];
    options.settings.max_message = 1000;
    for (size_t size = 1000; size <= 1001; size++) {
        struct strbuf packed;
        strbuf_init(&packed);
        deflate_message(&packed, zeros, size);
        CHECK_EQ_INT(code_of(&options, FIN | RSV1 | 2, packed.data, packed.length),
                     size == 1000 ? 0 : 1009);
        strbuf_done(&packed);
    }
}

/* Blocks without content cost no output: their bytes are bounded all the same. */
TEST(blocks_without_content_are_bounded)
{
    struct run_options options = deflate_options();
    struct strbuf payload;
    options.settings.max_message = 1000;
    strbuf_init(&payload);
    while (payload.length < 100000) {
        strbuf_append(&payload, "\0\0\0\xff\xff", 5);
    }
    CHECK_EQ_INT(code_of(&options, FIN | RSV1 | 2, payload.data, payload.length), 1009);
    strbuf_done(&payload);
}

/* --- our messages --------------------------------------------------------------------------------------------------------- */

/* Takes our frames apart and gives them back as a client's, so that a second session reads them. */
static void as_client(struct strbuf *out, const struct strbuf *sent)
{
    const uint8_t *bytes = (const uint8_t *)sent->data;
    for (size_t at = 0; at < sent->length;) {
        size_t length = bytes[at + 1], header = 2;
        if (length == 126) {
            length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
            header = 4;
        }
        frame_append(out, bytes[at], bytes + at + header, length);
        at += header + length;
    }
}

static void check_round_trip(const struct run_options *options, size_t part)
{
    static const char *const texts[] = {
        "", "short", "the same words, the same words, the same words, the same words", "",
        "and once more: the same words, the same words, the same words, the same words"};
    struct ws_session session;
    struct strbuf sent, bytes, expected;
    strbuf_init(&sent);
    strbuf_init(&bytes);
    strbuf_init(&expected);
    ws_session_init(&session, &options->settings, &options->deflate, write_to_strbuf, &sent);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct slice text = slice_from(texts[i]);
        strbuf_append_text(&expected, "T:");
        strbuf_append_slice(&expected, text);
        strbuf_append_char(&expected, '|');
        while (part > 0 && text.length > part) {
            CHECK_EQ_INT(ws_session_send(&session, (struct slice){text.data, part}, true, true),
                         ERROR_NONE);
            text = slice_skip(text, part);
        }
        CHECK_EQ_INT(ws_session_send(&session, text, true, false), ERROR_NONE);
    }
    as_client(&bytes, &sent);
    check_message(options, &bytes, strbuf_text(&expected));
    ws_session_done(&session);
    strbuf_done(&sent);
    strbuf_done(&bytes);
    strbuf_done(&expected);
}

TEST(what_we_compress_is_read_back)
{
    struct run_options options = deflate_options();
    for (int takeover = 0; takeover < 2; takeover++) {
        options.deflate.server_no_takeover = options.deflate.client_no_takeover = takeover == 0;
        for (unsigned bits = 9; bits <= 15; bits += 3) {
            options.deflate.server_bits = options.deflate.client_bits = bits;
            check_round_trip(&options, 0);
            check_round_trip(&options, 1);
            check_round_trip(&options, 7);
        }
    }
}

TEST(a_large_message_that_cannot_be_compressed)
{
    struct run_options options = deflate_options();
    struct ws_session session;
    struct strbuf sent, bytes;
    size_t size = 200000;
    char *noise = malloc(size);
    uint32_t state = 1;
    CHECK(noise != NULL);
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        noise[i] = (char)(state >> 24);
    }
    strbuf_init(&sent);
    strbuf_init(&bytes);
    ws_session_init(&session, &options.settings, &options.deflate, write_to_strbuf, &sent);
    CHECK_EQ_INT(ws_session_send(&session, (struct slice){noise, size}, false, false), ERROR_NONE);
    as_client(&bytes, &sent);
    struct outcome outcome = run_session(&options, &bytes);
    CHECK_EQ_INT(outcome.messages.length, size + 3);
    CHECK_EQ_MEM(outcome.messages.data + 2, noise, size);
    outcome_done(&outcome);
    ws_session_done(&session);
    strbuf_done(&sent);
    strbuf_done(&bytes);
    free(noise);
}

TEST(without_takeover_an_idle_session_holds_no_zlib)
{
    struct run_options options = deflate_options();
    struct ws_session session;
    struct strbuf sent, bytes;
    struct ws_part part;
    char room[64];
    options.deflate.server_no_takeover = options.deflate.client_no_takeover = true;
    strbuf_init(&sent);
    strbuf_init(&bytes);
    frame_append(&bytes, FIN | RSV1 | 1, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
    ws_session_init(&session, &options.settings, &options.deflate, write_to_strbuf, &sent);
    struct slice text = SLICE("a text that is long enough to be compressed");
    CHECK_EQ_INT(ws_session_send(&session, text, true, false), ERROR_NONE);
    struct slice input = {bytes.data, bytes.length};
    CHECK_EQ_INT(ws_session_receive(&session, &input, (struct ws_room){room, sizeof room}, &part),
                 WS_EVENT_PART);
    CHECK(session.inflater.stream == NULL && session.deflater.stream == NULL);
    ws_session_done(&session);
    strbuf_done(&sent);
    strbuf_done(&bytes);
}

/* Every allocation fails once: an error comes out, nothing leaks. */
TEST(without_memory_it_breaks_and_frees)
{
    struct run_options options = deflate_options();
    for (unsigned n = 1;; n++) {
        struct ws_session session;
        struct ws_part part;
        char room[64];
        static char out[4096];
        struct strbuf bytes, sent = {.data = out, .capacity = sizeof out};
        strbuf_init(&bytes);
        frame_append(&bytes, FIN | RSV1 | 1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8);
        uint64_t live = mem_live();
        ws_session_init(&session, &options.settings, &options.deflate, write_to_strbuf, &sent);
        struct slice input = {bytes.data, bytes.length};
        uint64_t made = mem_made();
        mem_fail_nth(n, 0);
        enum ws_event event =
            ws_session_receive(&session, &input, (struct ws_room){room, sizeof room}, &part);
        struct slice text = SLICE("a text that is long enough to be compressed");
        enum error error =
            event == WS_EVENT_PART ? ws_session_send(&session, text, true, false) : ERROR_NO_MEMORY;
        bool failed = mem_made() - made >= n;
        mem_fail_nth(0, 0);
        CHECK(event == WS_EVENT_PART || event == WS_EVENT_BROKEN);
        CHECK_EQ_INT(error, failed ? ERROR_NO_MEMORY : ERROR_NONE);
        ws_session_done(&session);
        CHECK_EQ_INT(mem_live(), live);
        strbuf_done(&bytes);
        if (!failed) {
            CHECK(n > 5);
            break;
        }
    }
}

CHECK_MAIN
