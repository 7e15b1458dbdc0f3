/* SPDX-License-Identifier: MIT */
/* The opening handshake: what is refused, what is answered, and what of permessage-deflate is agreed (RFC 7692 section 7.1). */
#include "check.h"

#include "base/strbuf.h"
#include "ws/ws_handshake.h"
#include "ws/ws_sha1.h"
#include "ws/ws_utf8.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="

static struct ws_settings settings = {
    .deflate = true, .deflate_takeover = true, .deflate_bits = 12};

#define FIELDS_MAX 6
struct request_row {
    const char *method;
    enum http_version version;
    const char *fields[FIELDS_MAX][2];
    enum ws_verdict verdict;
};

static struct request_head make_request(const struct request_row *row, struct field *fields)
{
    struct request_head head = {.kind = REQUEST_WEBSOCKET,
                                .version = row->version,
                                .method = slice_from(row->method),
                                .fields = fields};
    for (size_t i = 0; i < FIELDS_MAX && row->fields[i][0] != NULL; i++) {
        fields[i] = (struct field){slice_from(row->fields[i][0]), slice_from(row->fields[i][1])};
        head.field_count++;
    }
    return head;
}

#define VERSION {"sec-websocket-version", "13"}
#define WITH_KEY {"sec-websocket-key", KEY}

static const struct request_row rows[] = {
    {"GET", HTTP_1_1, {VERSION, WITH_KEY}, WS_VERDICT_GOOD},
    {"POST", HTTP_1_1, {VERSION, WITH_KEY}, WS_VERDICT_BAD},
    {"GET", HTTP_1_1, {WITH_KEY}, WS_VERDICT_VERSION},
    {"GET", HTTP_1_1, {{"sec-websocket-version", "12"}, WITH_KEY}, WS_VERDICT_VERSION},
    {"GET", HTTP_1_1, {{"sec-websocket-version", "13, 8"}, WITH_KEY}, WS_VERDICT_VERSION},
    {"GET", HTTP_1_1, {VERSION, VERSION, WITH_KEY}, WS_VERDICT_VERSION},
    {"GET", HTTP_1_1, {VERSION}, WS_VERDICT_BAD},
    {"GET", HTTP_1_1, {VERSION, WITH_KEY, WITH_KEY}, WS_VERDICT_BAD},
    {"GET", HTTP_1_1, {VERSION, {"sec-websocket-key", ""}}, WS_VERDICT_BAD},
    {"GET", HTTP_1_1, {VERSION, {"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ="}}, WS_VERDICT_BAD},
    {"GET", HTTP_1_1, {VERSION, {"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=a"}}, WS_VERDICT_BAD},
    {"GET", HTTP_1_1, {VERSION, {"sec-websocket-key", "dGhlIHNhbXBs*SBub25jZQ=="}}, WS_VERDICT_BAD},
    {"GET", HTTP_2, {VERSION}, WS_VERDICT_GOOD},
    {"GET", HTTP_2, {{"x", "y"}}, WS_VERDICT_VERSION},
};

TEST(handshakes_are_judged)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct field fields[FIELDS_MAX];
        const char *text = NULL;
        struct request_head head = make_request(&rows[i], fields);
        enum ws_verdict verdict = ws_handshake_judge(&head, &settings, &text);
        if (verdict != rows[i].verdict) {
            printf("# row %zu\n", i);
        }
        CHECK_EQ_INT(verdict, rows[i].verdict);
        CHECK(verdict == WS_VERDICT_GOOD || (text != NULL && text[0] != '\0'));
    }
}

TEST(origins_are_compared_whole)
{
    static const struct slice accepted[] = {{"https://a.example", 17},
                                            {"http://b.example:3000", 21}};
    static const struct {
        const char *origin;
        enum ws_verdict verdict;
    } cases[] = {
        {"https://a.example", WS_VERDICT_GOOD},
        {"HTTPS://A.example", WS_VERDICT_GOOD},
        {"http://b.example:3000", WS_VERDICT_GOOD},
        {"http://a.example", WS_VERDICT_ORIGIN},
        {"https://a.example.b", WS_VERDICT_ORIGIN},
        {"https://a.example:444", WS_VERDICT_ORIGIN},
        {"null", WS_VERDICT_ORIGIN},
        {"", WS_VERDICT_ORIGIN},
    };
    struct ws_settings strict = settings;
    strict.origins = accepted;
    strict.origin_count = 2;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct request_row row = {"GET", HTTP_1_1, {VERSION, WITH_KEY}, WS_VERDICT_GOOD};
        struct field fields[FIELDS_MAX];
        const char *text;
        row.fields[2][0] = "origin";
        row.fields[2][1] = cases[i].origin;
        struct request_head head = make_request(&row, fields);
        CHECK_EQ_INT(ws_handshake_judge(&head, &strict, &text), cases[i].verdict);
        CHECK_EQ_INT(ws_handshake_judge(&head, &settings, &text), WS_VERDICT_GOOD);
    }
}

/* --- the answer ----------------------------------------------------------------------------------------------------------- */

static void check_answer(const struct request_row *row, const char *subprotocol,
                         const char *expected)
{
    struct field fields[FIELDS_MAX], own[1] = {{SLICE("x-app"), SLICE("1")}};
    struct arena arena;
    struct response_head answer;
    struct strbuf text;
    arena_init(&arena, 1024);
    strbuf_init(&text);
    struct request_head head = make_request(row, fields);
    struct ws_deflate_params params = ws_deflate_negotiate(&head, &settings);
    CHECK_EQ_INT(
        ws_handshake_answer(&arena, &head, &params, slice_from(subprotocol), own, 1, &answer),
        ERROR_NONE);
    for (size_t i = 0; i < answer.field_count; i++) {
        strbuf_printf(&text, "%.*s: %.*s|", SLICE_PRINT(answer.fields[i].name),
                      SLICE_PRINT(answer.fields[i].value));
    }
    CHECK_EQ_STR(strbuf_text(&text), expected);
    strbuf_done(&text);
    arena_done(&arena);
}

TEST(answers_have_what_their_carrier_needs)
{
    static const struct request_row plain = {"GET", HTTP_1_1, {VERSION, WITH_KEY}, WS_VERDICT_GOOD};
    static const struct request_row h2 = {"GET", HTTP_2, {VERSION}, WS_VERDICT_GOOD};
    static const struct request_row deflate = {
        "GET",
        HTTP_1_1,
        {VERSION,
         WITH_KEY,
         {"sec-websocket-extensions", "x-other, permessage-deflate; client_max_window_bits"}},
        WS_VERDICT_GOOD};
    check_answer(&plain, NULL, "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=|x-app: 1|");
    check_answer(&h2, "chat", "sec-websocket-protocol: chat|x-app: 1|");
    check_answer(&deflate, NULL,
                 "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=|sec-websocket-extensions: "
                 "permessage-deflate; client_max_window_bits=12|x-app: 1|");
}

TEST(subprotocols_are_found_in_lists_and_repeated_fields)
{
    static const struct request_row row = {
        "GET",
        HTTP_1_1,
        {{"sec-websocket-protocol", "a, bc ,d"}, {"x", "y"}, {"sec-websocket-protocol", "e"}},
        WS_VERDICT_GOOD};
    static const struct {
        const char *name;
        bool offered;
    } cases[] = {{"a", true},  {"bc", true}, {"d", true}, {"e", true},
                 {"b", false}, {"y", false}, {"A", false}};
    struct field fields[FIELDS_MAX];
    struct request_head head = make_request(&row, fields);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_EQ_INT(ws_handshake_offers(&head, slice_from(cases[i].name)), cases[i].offered);
    }
}

/* --- permessage-deflate --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *offer, *answer; /* "": declined */
} offers[] = {
    {"permessage-deflate", "permessage-deflate; client_no_context_takeover"},
    {"Permessage-Deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=12"},
    {"permessage-deflate;client_max_window_bits=15",
     "permessage-deflate; client_max_window_bits=12"},
    {"permessage-deflate; client_max_window_bits=10",
     "permessage-deflate; client_max_window_bits=10"},
    {"permessage-deflate; client_max_window_bits=8",
     "permessage-deflate; client_max_window_bits=8"},
    {"permessage-deflate; client_max_window_bits=\"9\"",
     "permessage-deflate; client_max_window_bits=9"},
    {"permessage-deflate; server_max_window_bits=10; client_max_window_bits",
     "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12"},
    {"permessage-deflate; server_max_window_bits=15; client_max_window_bits",
     "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"},
    {"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
    /* the second offer where the first cannot be taken */
    {"permessage-deflate; server_max_window_bits=8, permessage-deflate; client_max_window_bits",
     "permessage-deflate; client_max_window_bits=12"},
    {"x; a=\"b, permessage-deflate\", permessage-deflate; client_max_window_bits",
     "permessage-deflate; client_max_window_bits=12"},
    /* declined */
    {"permessage-deflate; server_max_window_bits=8", ""},
    {"permessage-deflate; server_max_window_bits", ""},
    {"permessage-deflate; server_max_window_bits=16", ""},
    {"permessage-deflate; server_max_window_bits=7", ""},
    {"permessage-deflate; server_max_window_bits=010", ""},
    {"permessage-deflate; client_max_window_bits=", ""},
    {"permessage-deflate; client_max_window_bits=1x", ""},
    {"permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
    {"permessage-deflate; server_no_context_takeover=1", ""},
    {"permessage-deflate; client_no_context_takeover; client_no_context_takeover", ""},
    {"permessage-deflate; unknown", ""},
    {"permessage-deflate;", ""},
    {"permessage-deflate; =", ""},
    {"permessage-bzip2", ""},
    {"", ""},
    {"\"", ""},
};

TEST(deflate_offers)
{
    for (size_t i = 0; i < sizeof offers / sizeof offers[0]; i++) {
        struct field field = {SLICE("sec-websocket-extensions"), slice_from(offers[i].offer)};
        struct request_head head = {.version = HTTP_1_1, .fields = &field, .field_count = 1};
        struct arena arena;
        arena_init(&arena, 512);
        struct ws_deflate_params params = ws_deflate_negotiate(&head, &settings);
        const char *answer = params.enabled ? ws_deflate_answer(&arena, &params).data : "";
        CHECK_EQ_STR(answer, offers[i].answer);
        struct ws_settings off = settings;
        off.deflate = false;
        CHECK(!ws_deflate_negotiate(&head, &off).enabled);
        arena_done(&arena);
    }
}

TEST(without_takeover_by_configuration)
{
    struct field field = {SLICE("sec-websocket-extensions"),
                          SLICE("permessage-deflate; client_max_window_bits")};
    struct request_head head = {.version = HTTP_1_1, .fields = &field, .field_count = 1};
    struct ws_settings none = settings;
    struct arena arena;
    none.deflate_takeover = false;
    arena_init(&arena, 512);
    struct ws_deflate_params params = ws_deflate_negotiate(&head, &none);
    CHECK_EQ_STR(ws_deflate_answer(&arena, &params).data,
                 "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                 "client_max_window_bits=12");
    arena_done(&arena);
}

/* --- helpers of the handshake --------------------------------------------------------------------------------------------- */

TEST(sha1_of_rfc_3174_and_of_each_padding)
{
    static const struct {
        const char *text, *digest;
    } cases[] = {
        {"abc", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "hJg+RBw70m66rkqh+VEp5eVGcPE="},
        {"", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t digest[WS_SHA1_SIZE];
        char text[WS_BASE64_SIZE(WS_SHA1_SIZE) + 1] = {0};
        ws_sha1((struct slice){cases[i].text, strlen(cases[i].text)}, digest);
        ws_base64(digest, sizeof digest, text);
        CHECK_EQ_STR(text, cases[i].digest);
    }
}

TEST(utf8_of_every_character_and_no_other)
{
    for (uint32_t code = 0x80; code <= 0x110fff; code++) {
        char bytes[4];
        size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        bytes[0] = (char)((length == 2   ? 0xc0u
                           : length == 3 ? 0xe0u
                                         : 0xf0u) |
                          code >> (6 * (length - 1)));
        for (size_t i = 1; i < length; i++) {
            bytes[i] = (char)(0x80u | (code >> (6 * (length - 1 - i)) & 0x3f));
        }
        bool good = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        CHECK(ws_utf8_valid((struct slice){bytes, length}) == good);
        CHECK(!ws_utf8_valid((struct slice){bytes, length - 1}));
    }
}

CHECK_MAIN
