/* SPDX-License-Identifier: MIT */
/*
 * The cases that a WebSocket server is judged by (RFC 6455 section 5 to 8, in the order of the usual conformance suites), as a
 * table: what the client sends, which messages come out, what the client is answered, how it ends. Each row runs with all bytes at
 * once, one byte at a time, and with little room.
 */
#include "check.h"

#include <stdlib.h>

#include "frame_maker.h"

struct frame_row {
    unsigned first;
    const char *payload;
    size_t repeat; /* 0: the payload as it is; else its first character so often */
};

#define FRAMES_MAX 8
struct row {
    const char *name;
    struct frame_row frames[FRAMES_MAX];
    const char *messages; /* NULL: not compared */
    const char *sent;
    enum ws_event last;
    unsigned code;
};

static const struct row rows[] = {
    /* framing */
    {"empty text", {{FIN | 1, "", 0}}, "T:|", "", WS_EVENT_MORE, 0},
    {"text", {{FIN | 1, "hello", 0}}, "T:hello|", "", WS_EVENT_MORE, 0},
    {"text of 125", {{FIN | 1, "x", 125}}, NULL, "", WS_EVENT_MORE, 0},
    {"text of 126", {{FIN | 1, "x", 126}}, NULL, "", WS_EVENT_MORE, 0},
    {"text of 65535", {{FIN | 1, "x", 65535}}, NULL, "", WS_EVENT_MORE, 0},
    {"text of 65536", {{FIN | 1, "x", 65536}}, NULL, "", WS_EVENT_MORE, 0},
    {"empty binary", {{FIN | 2, "", 0}}, "B:|", "", WS_EVENT_MORE, 0},
    {"binary", {{FIN | 2, "\xff\xfe", 0}}, "B:\xff\xfe|", "", WS_EVENT_MORE, 0},
    /* pings */
    {"ping", {{FIN | 9, "hello", 0}}, "", "8a:hello", WS_EVENT_MORE, 0},
    {"empty ping", {{FIN | 9, "", 0}}, "", "8a:", WS_EVENT_MORE, 0},
    {"ping of 125", {{FIN | 9, "y", 125}}, "", NULL, WS_EVENT_MORE, 0},
    {"ping of 126", {{FIN | 9, "y", 126}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"pong unasked for", {{FIN | 10, "x", 0}}, "", "", WS_EVENT_MORE, 0},
    {"pong, then ping", {{FIN | 10, "x", 0}, {FIN | 9, "y", 0}}, "", "8a:y", WS_EVENT_MORE, 0},
    /* reserved bits */
    {"rsv1", {{FIN | RSV1 | 1, "x", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"rsv2", {{FIN | RSV2 | 1, "x", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"rsv3", {{FIN | RSV3 | 2, "x", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"rsv on ping", {{FIN | RSV1 | 9, "x", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"rsv on close", {{FIN | RSV3 | 8, "", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"text, then all rsv",
     {{FIN | 1, "a", 0}, {FIN | RSV1 | RSV2 | RSV3 | 1, "b", 0}},
     "T:a|",
     "88:1002",
     WS_EVENT_FAILED,
     1002},
    /* opcodes */
    {"opcode 3", {{FIN | 3, "", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"opcode 4", {{FIN | 4, "x", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"opcode 5", {{FIN | 1, "a", 0}, {FIN | 5, "x", 0}}, "T:a|", "88:1002", WS_EVENT_FAILED, 1002},
    {"opcode 7", {{7, "x", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"opcode 11", {{FIN | 11, "", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"opcode 15", {{FIN | 15, "x", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    /* fragmentation */
    {"ping in two frames", {{9, "a", 0}, {FIN | 0, "b", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"text in two frames", {{1, "a", 0}, {FIN | 0, "b", 0}}, "T:ab|", "", WS_EVENT_MORE, 0},
    {"ping between fragments",
     {{1, "a", 0}, {FIN | 9, "p", 0}, {FIN | 0, "b", 0}},
     "T:ab|",
     "8a:p",
     WS_EVENT_MORE,
     0},
    {"continuation of nothing", {{FIN | 0, "b", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"unfinished continuation of nothing", {{0, "b", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"continuation behind the end",
     {{1, "a", 0}, {FIN | 0, "b", 0}, {FIN | 0, "c", 0}},
     "T:ab|",
     "88:1002",
     WS_EVENT_FAILED,
     1002},
    {"a message within another",
     {{1, "a", 0}, {FIN | 1, "b", 0}},
     NULL,
     "88:1002",
     WS_EVENT_FAILED,
     1002},
    {"fragments without bytes",
     {{1, "", 0}, {0, "", 0}, {FIN | 0, "", 0}},
     "T:|",
     "",
     WS_EVENT_MORE,
     0},
    {"bytes in the middle",
     {{1, "", 0}, {0, "m", 0}, {FIN | 0, "", 0}},
     "T:m|",
     "",
     WS_EVENT_MORE,
     0},
    {"bytes, then an empty end", {{2, "m", 0}, {FIN | 0, "", 0}}, "B:m|", "", WS_EVENT_MORE, 0},
    {"many pings between fragments",
     {{1, "a", 0}, {FIN | 9, "1", 0}, {0, "b", 0}, {FIN | 9, "2", 0}, {FIN | 0, "c", 0}},
     "T:abc|",
     NULL,
     WS_EVENT_MORE,
     0},
    {"close within a message",
     {{1, "a", 0}, {FIN | 8, "\x03\xe8", 0}},
     NULL,
     "88:1000",
     WS_EVENT_CLOSED,
     1000},
    /* UTF-8 */
    {"text of many scripts",
     {{FIN | 1, "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!", 0}},
     "T:Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!|",
     "",
     WS_EVENT_MORE,
     0},
    {"a character in two frames",
     {{1, "\xce", 0}, {FIN | 0, "\xba", 0}},
     "T:\xce\xba|",
     "",
     WS_EVENT_MORE,
     0},
    {"a character with a frame per byte",
     {{1, "\xf0", 0}, {0, "\x9f", 0}, {0, "\x98", 0}, {FIN | 0, "\x80", 0}},
     "T:\xf0\x9f\x98\x80|",
     "",
     WS_EVENT_MORE,
     0},
    {"a surrogate", {{FIN | 1, "\xed\xa0\x80", 0}}, NULL, "88:1007", WS_EVENT_FAILED, 1007},
    {"overlong", {{FIN | 1, "\xc0\xaf", 0}}, NULL, "88:1007", WS_EVENT_FAILED, 1007},
    {"overlong in three", {{FIN | 1, "\xe0\x80\xaf", 0}}, NULL, "88:1007", WS_EVENT_FAILED, 1007},
    {"above the last", {{FIN | 1, "\xf4\x90\x80\x80", 0}}, NULL, "88:1007", WS_EVENT_FAILED, 1007},
    {"a stray continuation byte", {{FIN | 1, "\x80", 0}}, NULL, "88:1007", WS_EVENT_FAILED, 1007},
    {"0xff", {{FIN | 1, "a\xff", 0}}, NULL, "88:1007", WS_EVENT_FAILED, 1007},
    {"cut at the end", {{FIN | 1, "\xce", 0}}, NULL, "88:1007", WS_EVENT_FAILED, 1007},
    {"cut, empty last frame",
     {{1, "\xce", 0}, {FIN | 0, "", 0}},
     NULL,
     "88:1007",
     WS_EVENT_FAILED,
     1007},
    {"bad in the second frame",
     {{1, "ok", 0}, {FIN | 0, "\xf8", 0}},
     NULL,
     "88:1007",
     WS_EVENT_FAILED,
     1007},
    {"last characters", {{FIN | 1, "\xf4\x8f\xbf\xbf\xef\xbf\xbf", 0}}, NULL, "", WS_EVENT_MORE, 0},
    /* close */
    {"close without a code", {{FIN | 8, "", 0}}, "", "88:", WS_EVENT_CLOSED, 1005},
    {"close 1000", {{FIN | 8, "\x03\xe8", 0}}, "", "88:1000", WS_EVENT_CLOSED, 1000},
    {"close with a reason", {{FIN | 8, "\x03\xe8hm", 0}}, "", "88:1000", WS_EVENT_CLOSED, 1000},
    {"close of one byte", {{FIN | 8, "\x03", 0}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"close twice",
     {{FIN | 8, "\x03\xe8", 0}, {FIN | 8, "\x03\xe8", 0}},
     "",
     "88:1000",
     WS_EVENT_CLOSED,
     1000},
    {"ping behind close",
     {{FIN | 8, "\x03\xe8", 0}, {FIN | 9, "x", 0}},
     "",
     "88:1000",
     WS_EVENT_CLOSED,
     1000},
    {"text behind close",
     {{FIN | 8, "\x03\xe8", 0}, {FIN | 1, "x", 0}},
     "",
     "88:1000",
     WS_EVENT_CLOSED,
     1000},
    {"close reason not UTF-8",
     {{FIN | 8, "\x03\xe8\xff", 0}},
     "",
     "88:1007",
     WS_EVENT_FAILED,
     1007},
    {"close too long", {{FIN | 8, "\x03", 126}}, "", "88:1002", WS_EVENT_FAILED, 1002},
    {"close in two frames",
     {{8, "\x03\xe8", 0}, {FIN | 0, "", 0}},
     "",
     "88:1002",
     WS_EVENT_FAILED,
     1002},
};

static void build(const struct row *row, struct strbuf *out)
{
    strbuf_init(out);
    for (size_t i = 0; i < FRAMES_MAX && row->frames[i].payload != NULL; i++) {
        const struct frame_row *frame = &row->frames[i];
        if (frame->repeat == 0) {
            frame_text(out, frame->first, frame->payload);
            continue;
        }
        char *payload = malloc(frame->repeat);
        CHECK(payload != NULL);
        memset(payload, frame->payload[0], frame->repeat);
        frame_append(out, frame->first, payload, frame->repeat);
        free(payload);
    }
}

static void check_row(const struct row *row, size_t chunk, size_t room)
{
    struct strbuf bytes;
    struct run_options options = run_defaults();
    options.chunk = chunk;
    options.room = room;
    build(row, &bytes);
    struct outcome outcome = run_session(&options, &bytes);
    char *sent = frames_shown(&outcome.sent);
    bool fine =
        outcome.last == row->last && outcome.code == row->code &&
        (row->sent == NULL || strcmp(sent, row->sent) == 0 ||
         (chunk == 0 && strchr(row->sent, ' ') != NULL)) &&
        (row->messages == NULL || strcmp(strbuf_text(&outcome.messages), row->messages) == 0);
    if (!fine) {
        printf("# %s (chunk %zu, room %zu): messages %s, sent %s, event %d, code %u\n", row->name,
               chunk, room, strbuf_text(&outcome.messages), sent, (int)outcome.last, outcome.code);
    }
    free(sent);
    outcome_done(&outcome);
    strbuf_done(&bytes);
    CHECK(fine);
}

TEST(conformance_rows_in_one_piece)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_row(&rows[i], 0, 0);
    }
}

TEST(conformance_rows_byte_by_byte)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_row(&rows[i], 1, 0);
    }
}

TEST(conformance_rows_with_little_room)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_row(&rows[i], 7, 3);
    }
}

/* --- close codes ---------------------------------------------------------------------------------------------------------- */

TEST(close_codes_are_judged_one_by_one)
{
    struct run_options options = run_defaults();
    for (unsigned code = 0; code < 5100; code++) {
        struct strbuf bytes;
        char payload[2] = {(char)(code >> 8), (char)(code & 255)};
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                    (code >= 3000 && code < 5000);
        strbuf_init(&bytes);
        frame_append(&bytes, FIN | 8, payload, 2);
        struct outcome outcome = run_session(&options, &bytes);
        CHECK_EQ_INT(outcome.last, good ? WS_EVENT_CLOSED : WS_EVENT_FAILED);
        CHECK_EQ_INT(outcome.code, good ? code : 1002);
        outcome_done(&outcome);
        strbuf_done(&bytes);
    }
}

/* --- limits --------------------------------------------------------------------------------------------------------------- */

TEST(an_unmasked_frame_is_refused)
{
    struct run_options options = run_defaults();
    struct strbuf bytes;
    strbuf_init(&bytes);
    strbuf_append(&bytes, "\x81\x02hi", 4);
    struct outcome outcome = run_session(&options, &bytes);
    CHECK_EQ_INT(outcome.code, 1002);
    outcome_done(&outcome);
    strbuf_done(&bytes);
}

static unsigned code_of_size(uint32_t most, size_t first, size_t second)
{
    struct run_options options = run_defaults();
    struct strbuf bytes;
    static const char zeros[4096];
    options.settings.max_message = most;
    strbuf_init(&bytes);
    frame_append(&bytes, second > 0 ? 2 : FIN | 2, zeros, first);
    if (second > 0) {
        frame_append(&bytes, FIN | 0, zeros, second);
    }
    struct outcome outcome = run_session(&options, &bytes);
    unsigned code = outcome.code;
    outcome_done(&outcome);
    strbuf_done(&bytes);
    return code;
}

TEST(a_message_over_its_limit_is_1009)
{
    CHECK_EQ_INT(code_of_size(1000, 1000, 0), 0);
    CHECK_EQ_INT(code_of_size(1000, 1001, 0), 1009);
    CHECK_EQ_INT(code_of_size(1000, 600, 400), 0);
    CHECK_EQ_INT(code_of_size(1000, 600, 401), 1009);
}

TEST(lengths_up_to_2_63_are_1009_and_not_minimal_ones_1002)
{
    static const struct {
        const char *bytes;
        size_t length;
        unsigned code;
    } cases[] = {
        {"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\1\2\3\4x", 15, 1009},
        {"\x82\xff\x80\0\0\0\0\0\0\1\1\2\3\4x", 15, 1002},
        {"\x82\xfe\0\1\1\2\3\4x", 9, 1002},
        {"\x82\xff\0\0\0\0\0\0\0\1\1\2\3\4x", 15, 1002},
    };
    struct run_options options = run_defaults();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct strbuf bytes;
        strbuf_init(&bytes);
        strbuf_append(&bytes, cases[i].bytes, cases[i].length);
        struct outcome outcome = run_session(&options, &bytes);
        CHECK_EQ_INT(outcome.code, cases[i].code);
        outcome_done(&outcome);
        strbuf_done(&bytes);
    }
}

TEST(more_fragments_than_allowed_are_1008)
{
    struct run_options options = run_defaults();
    for (unsigned extra = 0; extra < 2; extra++) {
        struct strbuf bytes;
        strbuf_init(&bytes);
        frame_text(&bytes, 2, "a");
        for (unsigned i = 2; i < 1024 + extra; i++) {
            frame_text(&bytes, 0, "b");
        }
        frame_text(&bytes, FIN | 0, "c");
        struct outcome outcome = run_session(&options, &bytes);
        CHECK_EQ_INT(outcome.code, extra == 0 ? 0 : 1008);
        outcome_done(&outcome);
        strbuf_done(&bytes);
    }
}

TEST(parts_never_exceed_their_room)
{
    struct run_options options = run_defaults();
    struct strbuf bytes;
    static const char zeros[100000];
    options.room = 1000;
    strbuf_init(&bytes);
    frame_append(&bytes, FIN | 2, zeros, sizeof zeros);
    struct outcome outcome = run_session(&options, &bytes);
    CHECK_EQ_INT(outcome.largest_part, 1000);
    CHECK_EQ_INT(outcome.parts, 100);
    CHECK_EQ_INT(outcome.messages.length, sizeof zeros + 3);
    outcome_done(&outcome);
    strbuf_done(&bytes);
}

/* --- without room --------------------------------------------------------------------------------------------------------- */

TEST(control_frames_pass_until_payload_waits_for_room)
{
    struct run_options options = run_defaults();
    struct strbuf bytes, sent;
    struct ws_session session;
    struct ws_part part;
    char room[16];
    strbuf_init(&bytes);
    strbuf_init(&sent);
    ws_session_init(&session, &options.settings, &options.deflate, write_to_strbuf, &sent);
    frame_text(&bytes, FIN | 9, "p");
    frame_text(&bytes, FIN | 1, "text");
    frame_text(&bytes, FIN | 1, "");
    struct slice input = {bytes.data, bytes.length};
    struct ws_room none = {NULL, 0};
    CHECK_EQ_INT(ws_session_receive(&session, &input, none, &part), WS_EVENT_BLOCKED);
    CHECK(session.pong_due);
    CHECK_EQ_INT(ws_session_receive(&session, &input, none, &part), WS_EVENT_BLOCKED);
    CHECK_EQ_INT(ws_session_receive(&session, &input, (struct ws_room){room, 0}, &part),
                 WS_EVENT_BLOCKED);
    CHECK_EQ_INT(ws_session_receive(&session, &input, (struct ws_room){room, 3}, &part),
                 WS_EVENT_PART);
    CHECK_EQ_INT(part.data.length, 3);
    CHECK(part.more && part.text);
    CHECK_EQ_INT(ws_session_receive(&session, &input, (struct ws_room){room, 3}, &part),
                 WS_EVENT_PART);
    CHECK_EQ_INT(part.data.length, 1);
    CHECK(!part.more);
    CHECK_EQ_INT(ws_session_receive(&session, &input, (struct ws_room){room, 0}, &part),
                 WS_EVENT_PART);
    CHECK_EQ_INT(part.data.length, 0);
    CHECK(!part.more);
    CHECK_EQ_INT(ws_session_receive(&session, &input, none, &part), WS_EVENT_MORE);
    CHECK(session.frames.context == NULL); /* an idle session holds no frame buffer */
    ws_session_done(&session);
    strbuf_done(&bytes);
    strbuf_done(&sent);
}

/* --- our side ------------------------------------------------------------------------------------------------------------- */

static void check_sent(struct strbuf *sent, const char *expected)
{
    char *shown = frames_shown(sent);
    bool same = strcmp(shown, expected) == 0;
    if (!same) {
        printf("# sent %s\n", shown);
    }
    free(shown);
    strbuf_clear(sent);
    CHECK(same);
}

TEST(our_messages_pings_and_the_closing_handshake)
{
    struct run_options options = run_defaults();
    struct strbuf bytes, sent;
    struct ws_session session;
    struct ws_part part;
    char room[16];
    strbuf_init(&bytes);
    strbuf_init(&sent);
    ws_session_init(&session, &options.settings, &options.deflate, write_to_strbuf, &sent);
    CHECK_EQ_INT(ws_session_send(&session, SLICE("hello"), true, false), ERROR_NONE);
    check_sent(&sent, "81:hello");
    CHECK_EQ_INT(ws_session_send(&session, SLICE("a"), false, true), ERROR_NONE);
    CHECK_EQ_INT(ws_session_ping(&session), ERROR_NONE);
    CHECK_EQ_INT(ws_session_send(&session, SLICE("b"), false, false), ERROR_NONE);
    check_sent(&sent, "02:a 89: 80:b");
    CHECK_EQ_INT(ws_session_send(&session, SLICE("\xce"), true, true), ERROR_NONE);
    CHECK_EQ_INT(ws_session_send(&session, SLICE("\xba"), true, false), ERROR_NONE);
    CHECK_EQ_INT(ws_session_send(&session, SLICE("\xce"), true, false), ERROR_INVALID);
    strbuf_clear(&sent);
    CHECK_EQ_INT(ws_session_close(&session, 3000, SLICE("bye")), ERROR_NONE);
    CHECK_EQ_INT(ws_session_close(&session, 1000, SLICE("again")), ERROR_NONE);
    check_sent(&sent, "88:3000");
    CHECK_EQ_INT(ws_session_send(&session, SLICE("late"), true, false), ERROR_NONE);
    CHECK_EQ_INT(ws_session_ping(&session), ERROR_NONE);
    frame_text(&bytes, FIN | 1, "dropped");
    frame_text(&bytes, FIN | 9, "not answered");
    frame_text(&bytes, FIN | 8, "\x0b\xb8");
    struct slice input = {bytes.data, bytes.length};
    CHECK_EQ_INT(ws_session_receive(&session, &input, (struct ws_room){room, sizeof room}, &part),
                 WS_EVENT_CLOSED);
    CHECK_EQ_INT(session.code, 3000);
    CHECK_EQ_INT(ws_session_pong(&session), ERROR_NONE);
    check_sent(&sent, "");
    ws_session_done(&session);
    strbuf_done(&bytes);
    strbuf_done(&sent);
}

TEST(a_long_close_reason_is_cut_at_a_character)
{
    struct run_options options = run_defaults();
    struct strbuf sent;
    struct ws_session session;
    char reason[124];
    memset(reason, 'r', 122);
    memcpy(reason + 122, "\xc3\xa4", 2);
    strbuf_init(&sent);
    ws_session_init(&session, &options.settings, &options.deflate, write_to_strbuf, &sent);
    CHECK_EQ_INT(ws_session_close(&session, 1011, (struct slice){reason, sizeof reason}),
                 ERROR_NONE);
    CHECK_EQ_INT(sent.length, 2 + 2 + 122);
    ws_session_done(&session);
    strbuf_done(&sent);
}

CHECK_MAIN
