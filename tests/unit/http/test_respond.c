/* SPDX-License-Identifier: MIT */
/* http/respond.c: what the gateway says itself; http/end_reason.c: the table behind it. */
#include "check.h"

#include "base/mem.h"
#include "base/metrics.h"
#include "http/respond.h"
#include "http_fixture.h"

static struct http_fixture f;

TEST(every_reason_has_a_name_and_those_with_a_status_a_sentence)
{
    for (int i = 0; i < END_REASON_COUNT; i++) {
        enum end_reason reason = (enum end_reason)i;
        unsigned status = end_reason_status(reason);
        CHECK(end_reason_name(reason)[0] != '\0');
        CHECK(status == 0 || (status >= 400 && status < 600));
        CHECK((status != 0) == (end_reason_text(reason)[0] != '\0'));
        CHECK(status == 0 || status_phrase(status)[0] != '\0');
    }
}

TEST(phrases_are_found_and_unknown_ones_empty)
{
    CHECK_EQ_STR(status_phrase(100), "Continue");
    CHECK_EQ_STR(status_phrase(200), "OK");
    CHECK_EQ_STR(status_phrase(413), "Content Too Large");
    CHECK_EQ_STR(status_phrase(511), "Network Authentication Required");
    CHECK_EQ_STR(status_phrase(99), "");
    CHECK_EQ_STR(status_phrase(299), "");
    CHECK_EQ_STR(status_phrase(999), "");
}

TEST(an_error_is_short_text_with_its_length)
{
    http_fixture_init(&f);
    int64_t own = metrics_sum(METRIC_responses_by_gateway);
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    exchange_worker_detach(f.exchange);
    respond_error(f.exchange, END_NO_ROUTE, SLICE("Try another."));
    CHECK_EQ_INT(f.status, 404);
    CHECK_EQ_STR(http_fixture_field(&f, "content-type"), "text/plain; charset=utf-8");
    CHECK_EQ_STR(http_fixture_field(&f, "content-length"), "60");
    CHECK_EQ_STR(http_fixture_field(&f, "retry-after"), "");
    http_fixture_take(&f, 1000);
    CHECK_EQ_STR(strbuf_text(&f.body),
                 "No application is configured for this address. Try another.\n");
    CHECK(f.finished);
    CHECK_EQ_INT(metrics_sum(METRIC_responses_by_gateway) - own, 1);
    http_fixture_done(&f);
}

TEST(a_head_request_gets_the_length_and_no_text)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "HEAD", -1, false));
    exchange_fail(f.exchange, END_FIRST_BYTE_TIMEOUT, SLICE("limits.first_byte"));
    CHECK_EQ_INT(f.status, 504);
    CHECK(f.head_end);
    http_fixture_take(&f, 1000);
    CHECK(f.finished);
    CHECK_EQ_STR(strbuf_text(&f.body), "");
    http_fixture_done(&f);
}

TEST(another_status_says_its_own_sentence)
{
    http_fixture_init(&f);
    f.attach = false;
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    respond_status(f.exchange, 431, "Too much.");
    CHECK_EQ_INT(f.status, 431);
    CHECK_EQ_INT(f.exchange->end_reason, END_CLIENT_PROTOCOL);
    http_fixture_take(&f, 1000);
    CHECK_EQ_STR(strbuf_text(&f.body), "Too much.\n");
    http_fixture_done(&f);
}

/* --- redirects ---------------------------------------------------------------------------------------------------------- */

TEST(a_redirect_names_the_same_url_with_https)
{
    static const struct {
        const char *authority, *path, *query;
        unsigned port;
        const char *location;
    } rows[] = {
        {"example.com", "/a%20b", "", 443, "https://example.com/a%20b"},
        {"example.com:8080", "/", "x=1&y", 443, "https://example.com/?x=1&y"},
        {"example.com:80", "/", "", 8443, "https://example.com:8443/"},
        {"[2001:db8::1]:80", "/", "", 8443, "https://[2001:db8::1]:8443/"},
        {"[2001:db8::1]", "/", "", 443, "https://[2001:db8::1]/"},
        {"example.com", "*", "", 443, "https://example.com"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        http_fixture_init(&f);
        f.conn.identity.redirect_port = rows[i].port;
        struct exchange *exchange = http_fixture_request(&f, "GET", rows[i].authority, -1, false);
        CHECK(exchange != NULL);
        exchange->request.raw_path = slice_from(rows[i].path);
        exchange->request.query = slice_from(rows[i].query);
        exchange_request_head(exchange);
        CHECK_EQ_INT(f.on_heads, 0);
        CHECK_EQ_INT(f.status, 308);
        CHECK_EQ_STR(http_fixture_field(&f, "location"), rows[i].location);
        http_fixture_done(&f);
    }
}

TEST(a_redirect_needs_a_host)
{
    http_fixture_init(&f);
    f.conn.identity.redirect_port = 443;
    struct exchange *exchange = http_fixture_request(&f, "GET", "", -1, false);
    CHECK(exchange != NULL);
    exchange_request_head(exchange);
    CHECK_EQ_INT(f.status, 400);
    http_fixture_done(&f);
}

/* Without memory there is a whole response or none: never a redirect to nowhere. */
TEST(without_memory_a_response_is_whole_or_cut)
{
    for (uint64_t n = 1;; n++) {
        http_fixture_init(&f);
        f.conn.identity.redirect_port = 443;
        struct exchange *exchange = http_fixture_request(&f, "GET", "example.com", -1, false);
        CHECK(exchange != NULL);
        uint64_t made = mem_made();
        mem_fail_nth(n, 0);
        exchange_request_head(exchange);
        made = mem_made() - made;
        mem_fail_nth(0, 0);
        if (f.aborts == 0) {
            CHECK_EQ_STR(http_fixture_field(&f, "location"), "https://example.com/a");
            http_fixture_take(&f, 1000);
            CHECK(f.finished);
        } else {
            CHECK_EQ_INT(f.abort_reason, END_NO_MEMORY);
        }
        http_fixture_done(&f);
        if (made < n) {
            CHECK(n > 2);
            break;
        }
    }
}

CHECK_MAIN
