/* SPDX-License-Identifier: MIT */
/* The rules of fields, authorities and response heads. */
#include "check.h"

#include "base/mem.h"
#include "http/fields.h"

TEST(names)
{
    CHECK(field_name_valid(SLICE("content-type")) &&
          field_name_valid(SLICE("!#$%&'*+-.^_`|~09azAZ")));
    static const char *const bad[] = {"",  "a b", "a:", "a\r", "a\n",  "\x80", "(",
                                      ")", ",",   "/",  ";",   "<",    "=",    "@",
                                      "[", "\"",  "{",  "}",   "\x7f", "\t"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!field_name_valid(slice_from(bad[i])));
    }
    CHECK(!field_name_valid(SLICE("a\0b")));
}

TEST(values)
{
    CHECK(field_value_valid(SLICE("")) && field_value_valid(SLICE("a\tb c\x80\xff")));
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'};
        bool legal = c == '\t' || (c >= 0x20 && c != 0x7f);
        CHECK_EQ_INT(field_value_valid((struct slice){text, 3}), legal);
    }
    CHECK(!field_value_valid(SLICE(" a")) && !field_value_valid(SLICE("a\t")));
}

TEST(authorities)
{
    static const char *const good[] = {"h",
                                       "example.com:80",
                                       "a_b-c~d",
                                       "127.0.0.1:65535",
                                       "[::1]",
                                       "[::1]:443",
                                       "h:",
                                       "xn--bcher-kva.example",
                                       "b%C3%BCcher.example"};
    static const char *const bad[] = {"",       ":80",   "h:65536", "h:a",     "h:8 0",
                                      "u@h",    "h/",    "h?",      "h#",      "h h",
                                      "[::1",   "[]",    "[::1]x",  "[::1]:x", "[fe80::1%25eth0]",
                                      "[v1.x]", "::1",   "h:1:2",   "h%00",    "h%2f",
                                      "h%",     "h\x80", "<h>",     "h\\",     "[127.0.0.1]"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK(authority_valid(slice_from(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (authority_valid(slice_from(bad[i]))) {
            CHECK_EQ_STR(bad[i], "refused");
        }
    }
}

TEST(connection_specific)
{
    CHECK(field_is_connection_specific(SLICE("connection")) &&
          field_is_connection_specific(SLICE("te")));
    CHECK(!field_is_connection_specific(SLICE("trailer")) &&
          !field_is_connection_specific(SLICE("host")));
}

static enum error check_response(struct arena *arena, struct response_head *head, unsigned status,
                                 struct field *fields, size_t count)
{
    const char *text = NULL;
    *head = (struct response_head){.status = status, .fields = fields, .field_count = count};
    enum error error = response_head_check(arena, head, &text);
    CHECK((error == ERROR_INVALID) == (text != NULL));
    return error;
}

TEST(response_heads_are_cleaned)
{
    struct arena arena;
    struct response_head head;
    arena_init(&arena, 256);
    struct field fields[] = {
        {SLICE("Content-Type"), SLICE(" text/html\t")},
        {SLICE("Transfer-Encoding"), SLICE("chunked")},
        {SLICE("Content-Length"), SLICE("007")},
        {SLICE("CONNECTION"), SLICE("close")},
        {SLICE("content-length"), SLICE("7")},
        {SLICE("set-cookie"), SLICE("a")},
        {SLICE("Set-Cookie"), SLICE("b")},
        {SLICE("Upgrade"), SLICE("x")},
    };
    CHECK_EQ_INT(check_response(&arena, &head, 200, fields, 8), ERROR_NONE);
    CHECK_EQ_INT(head.field_count, 4);
    CHECK_EQ_INT(head.content_length, 7);
    CHECK(slice_equal(head.fields[0].name, SLICE("content-type")));
    CHECK(slice_equal(head.fields[0].value, SLICE("text/html")));
    CHECK(slice_equal(head.fields[1].name, SLICE("content-length")));
    CHECK(slice_equal(head.fields[3].name, SLICE("set-cookie")));
    static const unsigned without[] = {100, 103, 204, 205};
    for (size_t i = 0; i < 4; i++) {
        struct field length = {SLICE("Content-Length"), SLICE("7")};
        CHECK_EQ_INT(check_response(&arena, &head, without[i], &length, 1), ERROR_NONE);
        CHECK_EQ_INT(head.field_count, 0);
        CHECK_EQ_INT(head.content_length, -1);
    }
    struct field length = {SLICE("content-length"), SLICE("7")};
    CHECK_EQ_INT(check_response(&arena, &head, 304, &length, 1), ERROR_NONE);
    CHECK_EQ_INT(head.content_length, 7);
    arena_done(&arena);
}

TEST(response_heads_are_refused)
{
    static const struct {
        unsigned status;
        struct field fields[2];
        size_t count;
    } rows[] = {
        {0, {{{NULL, 0}, {NULL, 0}}}, 0},
        {99, {{{NULL, 0}, {NULL, 0}}}, 0},
        {101, {{{NULL, 0}, {NULL, 0}}}, 0},
        {1000, {{{NULL, 0}, {NULL, 0}}}, 0},
        {200, {{{"a b", 3}, {"x", 1}}}, 1},
        {200, {{{"", 0}, {"x", 1}}}, 1},
        {200, {{{"a\r\nb", 4}, {"x", 1}}}, 1},
        {200, {{{"a", 1}, {"x\r\nset-cookie: y", 16}}}, 1},
        {200, {{{"a", 1}, {"x\ny", 3}}}, 1},
        {200, {{{"a", 1}, {"x\0y", 3}}}, 1},
        {200, {{{"a", 1}, {"x\x7f", 2}}}, 1},
        {200, {{{"content-length", 14}, {"", 0}}}, 1},
        {200, {{{"content-length", 14}, {"-1", 2}}}, 1},
        {200, {{{"content-length", 14}, {"1, 1", 4}}}, 1},
        {200, {{{"content-length", 14}, {"9223372036854775808", 19}}}, 1},
        {200, {{{"content-length", 14}, {"1", 1}}, {{"Content-Length", 14}, {"2", 1}}}, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct arena arena;
        struct response_head head;
        struct field fields[2] = {rows[i].fields[0], rows[i].fields[1]};
        arena_init(&arena, 256);
        CHECK_EQ_INT(check_response(&arena, &head, rows[i].status, fields, rows[i].count),
                     ERROR_INVALID);
        arena_done(&arena);
    }
}

TEST(memory_runs_out_while_checking)
{
    struct arena arena;
    struct response_head head = {.status = 200};
    struct field field = {SLICE("Capital"), SLICE("x")};
    const char *text = NULL;
    head.fields = &field;
    head.field_count = 1;
    arena_init(&arena, 256);
    mem_fail_nth(1, 0);
    CHECK_EQ_INT(response_head_check(&arena, &head, &text), ERROR_NO_MEMORY);
    mem_fail_nth(0, 0);
    arena_done(&arena);
}

TEST(framing)
{
    const struct request_head get = {.method = SLICE("GET")};
    const struct request_head head = {.method = SLICE("HEAD")};
    static const struct {
        unsigned status;
        int64_t length;
        enum body_framing get, head;
    } rows[] = {
        {200, -1, BODY_OPEN, BODY_NONE}, {200, 5, BODY_LENGTH, BODY_NONE},
        {200, 0, BODY_NONE, BODY_NONE},  {204, -1, BODY_NONE, BODY_NONE},
        {205, -1, BODY_NONE, BODY_NONE}, {304, 5, BODY_NONE, BODY_NONE},
        {103, -1, BODY_NONE, BODY_NONE}, {500, 5, BODY_LENGTH, BODY_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct response_head response = {.status = rows[i].status,
                                         .content_length = rows[i].length};
        CHECK_EQ_INT(response_framing(&get, &response), rows[i].get);
        CHECK_EQ_INT(response_framing(&head, &response), rows[i].head);
    }
}

TEST(trailers)
{
    struct arena arena;
    const char *text = NULL;
    arena_init(&arena, 256);
    struct field good[] = {{SLICE("X-Sum"), SLICE(" 1 ")}, {SLICE("grpc-status"), SLICE("0")}};
    CHECK_EQ_INT(trailers_check(&arena, good, 2, &text), ERROR_NONE);
    CHECK(slice_equal(good[0].name, SLICE("x-sum")) && slice_equal(good[0].value, SLICE("1")));
    static const char *const bad[] = {"Content-Length", "transfer-encoding",
                                      "Host",           "Authorization",
                                      "set-cookie",     "content-type",
                                      "Trailer",        "te",
                                      "if-match",       "a b",
                                      "connection",     "date"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct field field = {slice_from(bad[i]), SLICE("1")};
        CHECK_EQ_INT(trailers_check(&arena, &field, 1, &text), ERROR_INVALID);
    }
    struct field split = {SLICE("x"), SLICE("a\r\nb")};
    CHECK_EQ_INT(trailers_check(&arena, &split, 1, &text), ERROR_INVALID);
    arena_done(&arena);
}

CHECK_MAIN
