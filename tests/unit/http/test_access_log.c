/* SPDX-License-Identifier: MIT */
/*
 * The access log: every atom, the three kinds of format, formats that are refused, and that nothing a client sends can break a
 * line.
 */
#include "check.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/access_log.h"
#include "http/conn.h"
#include "http/exchange.h"

#define MS UINT64_C(1000000)

static struct field request_fields[] = {
    {{"host", 4}, {"example.com", 11}},
    {{"user-agent", 10}, {"curl/8", 6}},
    {{"referer", 7}, {"https://a/", 10}},
    {{"authorization", 13}, {"Basic YWxhZGRpbjpvcGVuc2VzYW1l", 30}}, /* RFC 7617 2: aladdin */
};
static struct field response_fields[] = {{{"content-type", 12}, {"text/plain", 10}}};
static struct conn conn;

/* A GET that got 200 with 5 bytes in 1.234567 s. */
static struct exchange finished(void)
{
    conn = (struct conn){.identity = {.client_host = SLICE("192.0.2.7"),
                                      .secure = true,
                                      .tls_version_name = SLICE("TLSv1.3"),
                                      .tls_cipher_name = SLICE("TLS_AES_128_GCM_SHA256"),
                                      .server_name = SLICE("example.com")},
                         .id = 42};
    return (struct exchange){
        .conn = &conn,
        .request = {.version = HTTP_1_1,
                    .method = SLICE("GET"),
                    .scheme = SLICE("https"),
                    .authority = SLICE("example.com"),
                    .target = SLICE("/a/b?c=d"),
                    .raw_path = SLICE("/a/b"),
                    .query = SLICE("c=d"),
                    .fields = request_fields,
                    .field_count = sizeof(request_fields) / sizeof(request_fields[0])},
        .response_state = RESPONSE_FINISHED,
        .response = {.status = 200, .fields = response_fields, .field_count = 1},
        .response_bytes = 5,
        .request_bytes = 3,
        .started_at = 1000 * MS,
        .first_byte_at = 1250 * MS,
        .ended_at = 2234 * MS + 567000,
        .end_reason = END_COMPLETE,
        .retries = 1,
        .worker_pid = 77,
        .app_name = SLICE("main"),
    };
}

static void check_line(const struct exchange *exchange, const char *format, const char *expected)
{
    struct access_log *log;
    struct strbuf line;
    char error[512] = "";

    enum error failed = access_log_new(slice_from(format), &log, error, sizeof(error));
    CHECK_EQ_STR(error, "");
    CHECK_EQ_INT(failed, ERROR_NONE);
    strbuf_init(&line);
    access_log_format(log, exchange, &line);
    CHECK_EQ_STR(strbuf_text(&line), expected);
    strbuf_done(&line);
    access_log_free(log);
}

TEST(every_atom)
{
    static const struct {
        const char *format, *expected;
    } rows[] = {
        {"%(h)s", "192.0.2.7"},
        {"%(l)s", "-"},
        {"%(u)s", "aladdin"},
        {"%(r)s", "GET /a/b?c=d HTTP/1.1"},
        {"%(R)s", "GET /a/b HTTP/1.1"},
        {"%(m)s", "GET"},
        {"%(U)s", "/a/b"},
        {"%(Uq)s", "/a/b?c=d"},
        {"%(q)s", "c=d"},
        {"%(H)s", "HTTP/1.1"},
        {"%(s)s", "200"},
        {"%(s)d", "200"},
        {"%(st)s", "OK"},
        {"%(S)s", "https"},
        {"%(B)s", "5"},
        {"%(b)s", "5"},
        {"%(f)s", "https://a/"},
        {"%(a)s", "curl/8"},
        {"%(T)s", "1"},
        {"%(M)s", "1234"},
        {"%(D)s", "1234567"},
        {"%(L)s", "1.234567"},
        {"%({host}i)s", "example.com"},
        {"%({Host}i)s", "example.com"},
        {"%({x-none}i)s", "-"},
        {"%({Content-Type}o)s", "text/plain"},
        {"%({x-none}o)s", "-"},
        {"%({ACCESS_TEST}e)s", "a\\x22b"},
        {"%({ACCESS_TEST_NONE}e)s", "-"},
        {"%(app)s", "main"},
        {"%(worker)s", "77"},
        {"%(retries)s", "1"},
        {"%(reason)s", "complete"},
        {"%(error)s", "-"},
        {"%(first_byte)s", "0.250000"},
        {"%(request_bytes)s", "3"},
        {"%(host)s", "example.com"},
        {"%(tls)s", "TLSv1.3"},
        {"%(cipher)s", "TLS_AES_128_GCM_SHA256"},
        {"%(conn)s", "42"},
        {"100%% \"text\" %(m)s%(s)s.", "100% \"text\" GET200."},
        {"no atom", "no atom"},
    };
    struct exchange exchange = finished();

    setenv("ACCESS_TEST", "a\"b", 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_line(&exchange, rows[i].format, rows[i].expected);
    }
    unsetenv("ACCESS_TEST");
}

TEST(the_process_id)
{
    struct exchange exchange = finished();
    char expected[32];

    snprintf(expected, sizeof(expected), "<%d>", (int)getpid());
    check_line(&exchange, "%(p)s", expected);
}

/* A request of which nothing is known but its connection: refused before it was parsed, no response. */
TEST(an_empty_exchange)
{
    struct exchange exchange = {.conn = &conn, .end_reason = END_CLIENT_GONE};

    conn = (struct conn){.id = 1};
    check_line(&exchange, "%(h)s %(u)s \"%(r)s\" %(s)s %(st)s %(b)s %(B)s %(U)s %(q)s %(Uq)s",
               "- - \"- - HTTP/1.1\" 000 - - 0 -  -");
    check_line(&exchange,
               "%(T)s %(L)s %(first_byte)s %(app)s %(worker)s %(tls)s %({a}i)s %({a}o)s %(reason)s",
               "0 0.000000 - - - - - - client_gone");
}

TEST(protocols)
{
    struct exchange exchange = finished();

    exchange.request.version = HTTP_1_0;
    check_line(&exchange, "%(H)s", "HTTP/1.0");
    exchange.request.version = HTTP_2;
    check_line(&exchange, "%(H)s", "HTTP/2");
    exchange.request.version = HTTP_3;
    check_line(&exchange, "%(H)s", "HTTP/3");
}

TEST(users_of_basic_authentication)
{
    static const struct {
        const char *value, *user;
    } rows[] = {
        {"Basic YWxhZGRpbjpvcGVuc2VzYW1l", "aladdin"},
        {"basic   YWxhZGRpbjpvcGVuc2VzYW1l", "aladdin"},
        {"Basic OnB3", "-"},         /* ":pw" */
        {"Basic YWxhZGRpbg==", "-"}, /* no colon */
        {"Basic !!!!", "-"},
        {"Basic ", "-"},
        {"Bearer YWxhZGRpbjpvcGVuc2VzYW1l", "-"},
        {"Basic YQoiOng=", "a\\x0a\\x22"}, /* a, newline, quote */
        {"", "-"},
    };
    struct exchange exchange = finished();

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct field field = {SLICE("authorization"), slice_from(rows[i].value)};
        exchange.request.fields = &field;
        exchange.request.field_count = 1;
        check_line(&exchange, "%(u)s", rows[i].user);
    }
}

TEST(a_user_that_is_long_is_cut_off)
{
    char value[1024] = "Basic ";
    struct exchange exchange = finished();

    for (size_t i = 6; i < 1020; i++) {
        value[i] = "YWFh"[(i - 6) % 4]; /* "aaa", without end */
    }
    struct field field = {SLICE("authorization"), slice_from(value)};
    exchange.request.fields = &field;
    exchange.request.field_count = 1;
    check_line(&exchange, "%(u)s", "-");
}

static size_t format_into(const char *format, const struct exchange *exchange, char *out,
                          size_t size)
{
    struct access_log *log;
    struct strbuf line;
    char error[512];

    CHECK_EQ_INT(access_log_new(slice_from(format), &log, error, sizeof(error)), ERROR_NONE);
    strbuf_init(&line);
    access_log_format(log, exchange, &line);
    CHECK(line.length < size);
    memcpy(out, strbuf_text(&line), line.length + 1);
    size_t length = line.length;
    strbuf_done(&line);
    access_log_free(log);
    return length;
}

TEST(combined)
{
    struct exchange exchange = finished();
    char line[1024], date[64];

    format_into("combined", &exchange, line, sizeof(line));
    char *start = strchr(line, '['), *end = strchr(line, ']');
    CHECK(start != NULL && end != NULL && end > start);
    memcpy(date, start, (size_t)(end - start) + 1);
    date[end - start + 1] = '\0';
    CHECK_EQ_INT(strlen(date), strlen("[20/Nov/2026:18:00:00 +0000]"));
    CHECK(date[3] == '/' && date[7] == '/' && date[12] == ':' && date[21] == ' ');
    CHECK_EQ_MEM(line, "192.0.2.7 - aladdin [", 21);
    CHECK_EQ_STR(end, "] \"GET /a/b?c=d HTTP/1.1\" 200 5 \"https://a/\" \"curl/8\"");
}

TEST(json)
{
    struct exchange exchange = finished();
    char line[2048];

    format_into("json", &exchange, line, sizeof(line));
    CHECK_EQ_MEM(line, "{\"time\":\"20", 11);
    CHECK_EQ_STR(
        strchr(line, ','),
        ",\"client\":\"192.0.2.7\",\"method\":\"GET\",\"scheme\":\"https\",\"host\":\"example."
        "com\","
        "\"target\":\"/a/b?c=d\",\"protocol\":\"HTTP/"
        "1.1\",\"status\":200,\"bytes\":5,\"request_bytes\":3,"
        "\"duration\":1.234567,\"first_byte\":0.250000,\"referer\":\"https://a/"
        "\",\"user_agent\":\"curl/8\","
        "\"app\":\"main\",\"worker\":77,\"retries\":1,\"reason\":\"complete\",\"error\":null,"
        "\"tls\":\"TLSv1.3\","
        "\"cipher\":\"TLS_AES_128_GCM_SHA256\",\"server_name\":\"example.com\",\"conn\":42}");
    exchange = (struct exchange){
        .conn = &conn, .end_reason = END_CLIENT_TIMEOUT, .error_text = SLICE("a\"\n\xff")};
    conn = (struct conn){.id = 0};
    format_into("json", &exchange, line, sizeof(line));
    CHECK_EQ_STR(
        strchr(line, ','),
        ",\"client\":null,\"method\":null,\"scheme\":null,\"host\":null,\"target\":null,"
        "\"protocol\":\"HTTP/"
        "1.1\",\"status\":null,\"bytes\":0,\"request_bytes\":0,\"duration\":0.000000,"
        "\"first_byte\":null,\"referer\":null,\"user_agent\":null,\"app\":null,\"worker\":null,"
        "\"retries\":0,"
        "\"reason\":\"client_timeout\",\"error\":\"a\\\"\\n\\ufffd\",\"tls\":null,\"cipher\":null,"
        "\"server_name\":null,\"conn\":0}");
}

/* Every byte, in every place that a client or an app fills, leaves one line of printable ASCII with the format's own quotes. */
TEST(no_byte_breaks_a_line)
{
    static const char format[] =
        "%(h)s|%(u)s|%(m)s|%(S)s|%(U)s|%(q)s|%(f)s|%(a)s|%({x}i)s|%({y}o)s|%(app)s|%(error)s|"
        "%(tls)s|%(host)s|%(r)s|\"";
    char line[4096];

    for (int byte = 0; byte < 256; byte++) {
        char text[1] = {(char)byte};
        struct slice evil = {text, 1};
        struct field in[] = {
            {SLICE("x"), evil}, {SLICE("referer"), evil}, {SLICE("user-agent"), evil}};
        struct field out[] = {{SLICE("y"), evil}};
        struct exchange exchange = finished();
        conn.identity.client_host = conn.identity.tls_version_name = evil;
        exchange.request.method = exchange.request.scheme = exchange.request.target = evil;
        exchange.request.raw_path = exchange.request.query = exchange.request.authority = evil;
        exchange.app_name = exchange.error_text = evil;
        exchange.request.fields = in;
        exchange.request.field_count = 3;
        exchange.response.fields = out;
        size_t length = format_into(format, &exchange, line, sizeof(line));
        size_t quotes = 0;
        for (size_t i = 0; i < length; i++) {
            CHECK(line[i] >= 0x20 && line[i] < 0x7f);
            quotes += line[i] == '"';
        }
        CHECK_EQ_INT(quotes, 1);
        CHECK_EQ_INT(strlen(line), length);
        length = format_into("json", &exchange, line, sizeof(line));
        for (size_t i = 0; i < length; i++) {
            CHECK((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
        }
    }
}

TEST(an_escape_that_the_client_wrote_is_told_from_ours)
{
    struct exchange exchange = finished();

    exchange.request.query = SLICE("\\x0a\n");
    check_line(&exchange, "%(q)s", "\\x5cx0a\\x0a");
}

TEST(formats_that_are_refused)
{
    static const struct {
        const char *format, *text;
    } rows[] = {
        {"%", "at character 1: a single % is neither %(atom)s nor %%; atoms are %(h)s"},
        {"a%b", "at character 2: a single % is neither"},
        {"%(h)", "at character 1: %( does not end in )s"},
        {"%(h", "at character 1: %( does not end in )s"},
        {"%(h)x", "at character 1: %( does not end in )s"},
        {"%(nope)s", "at character 1: there is no atom %(nope)s"},
        {"%(h)s %()s", "at character 7: there is no atom %()s"},
        {"%({x}z)s", "at character 1: there is no atom %({x}z)s"},
        {"%({}i)s", "at character 1: there is no atom %({}i)s"},
        {"%({x})s", "at character 1: there is no atom %({x})s"},
        {"a\nb", "at character 2: a line break cannot be in a line"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct access_log *log = NULL;
        char error[2048] = "";
        CHECK_EQ_INT(access_log_new(slice_from(rows[i].format), &log, error, sizeof(error)),
                     ERROR_INVALID);
        CHECK(log == NULL);
        error[strlen(rows[i].text)] = '\0';
        CHECK_EQ_STR(error, rows[i].text);
    }
}

TEST(every_atom_is_documented)
{
    const char *meaning = NULL, *name;
    size_t count = 0;

    while ((name = access_log_atom(count, &meaning)) != NULL) {
        CHECK(strlen(name) > 0 && strlen(meaning) > 3);
        count++;
    }
    CHECK(count >= 30);
}

TEST(memory_that_runs_out)
{
    uint64_t live = mem_live();
    bool done = false;

    for (uint64_t n = 1; !done; n++) {
        struct access_log *log = NULL;
        char error[512];
        CHECK(n < 200);
        mem_fail_nth(n, 0);
        enum error failed =
            access_log_new(SLICE("%(h)s %({a}i)s %({PATH}e)s x"), &log, error, sizeof(error));
        mem_fail_nth(0, 0);
        done = failed == ERROR_NONE;
        CHECK(done || failed == ERROR_NO_MEMORY);
        access_log_free(log);
        CHECK_EQ_INT(mem_live(), live);
    }
}

CHECK_MAIN
