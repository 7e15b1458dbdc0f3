/* SPDX-License-Identifier: MIT */
/* app/proxy_headers.c: who is believed, and what. */
#include "check.h"

#include "app/proxy_headers.h"

static struct apps_settings settings;
static struct conn conn;
static struct request_head head;
static struct field fields[8];
static struct proxy_identity out;

/* 10.0.0.0/8 and fd00::/8 by their beginning. */
static bool is_trusted(const void *context, struct slice host)
{
    CHECK(context == &settings);
    return slice_starts_with(host, SLICE("10.")) || slice_starts_with(host, SLICE("fd"));
}

static void begin(bool trusted)
{
    settings = (struct apps_settings){
        .trusted = is_trusted,
        .trusted_context = &settings,
        .proxy_headers = {
            .use_for = true, .use_proto = true, .use_host = true, .use_prefix = true}};
    conn = (struct conn){.identity = {.client_host = SLICE("10.0.0.1"),
                                      .client_port = 5000,
                                      .trusted_proxy = trusted}};
    head = (struct request_head){.scheme = SLICE("http"), .fields = fields};
}

static void add(const char *name, const char *value)
{
    fields[head.field_count++] = (struct field){slice_from(name), slice_from(value)};
}

static void resolve(void)
{
    proxy_headers_resolve(&settings, &conn, &head, &out);
}

static bool client_is(const char *host)
{
    return slice_equal(out.identity.client_host, slice_from(host));
}

TEST(nothing_is_believed_of_a_stranger)
{
    begin(false);
    add("x-forwarded-for", "192.0.2.1");
    add("x-forwarded-proto", "https");
    add("x-forwarded-host", "evil.example");
    add("x-forwarded-prefix", "/evil");
    resolve();
    CHECK(client_is("10.0.0.1"));
    CHECK_EQ_INT(out.identity.client_port, 5000);
    CHECK(slice_equal(out.scheme, SLICE("http")));
    CHECK_EQ_INT(out.host.length, 0);
    CHECK_EQ_INT(out.prefix.length, 0);
}

TEST(only_what_is_switched_on_is_believed)
{
    begin(true);
    settings.proxy_headers = (struct proxy_headers_settings){.use_for = false};
    add("x-forwarded-for", "192.0.2.1");
    add("x-forwarded-proto", "https");
    add("x-forwarded-host", "a.example");
    add("x-forwarded-prefix", "/a");
    resolve();
    CHECK(client_is("10.0.0.1"));
    CHECK(slice_equal(out.scheme, SLICE("http")));
    CHECK_EQ_INT(out.host.length, 0);
    CHECK_EQ_INT(out.prefix.length, 0);
}

TEST(the_chain_is_walked_from_the_right_over_trusted_addresses)
{
    static const struct {
        const char *value, *client;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"192.0.2.1, 10.0.0.2", "192.0.2.1"},
        {"203.0.113.9, 192.0.2.1 ,10.0.0.3,\t10.0.0.2", "192.0.2.1"}, /* the first one is made up */
        {"10.0.0.4, 10.0.0.3", "10.0.0.4"},                           /* all are trusted */
        {"192.0.2.1:4711", "192.0.2.1"},
        {"2001:db8::1", "2001:db8::1"},
        {"[2001:db8::1]:4711, fd00::1", "2001:db8::1"},
        {"[2001:db8::1]", "2001:db8::1"},
        {"192.0.2.1, unknown", "10.0.0.1"},            /* who wrote that is the last one known */
        {"192.0.2.1, <script>, 10.0.0.3", "10.0.0.3"}, /* likewise */
        {"192.0.2.1, 10.0.0.999", "10.0.0.1"},
        {"192.0.2.1,", "10.0.0.1"},
        {"[2001:db8::1", "10.0.0.1"},
        {"", "10.0.0.1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(true);
        add("x-forwarded-for", rows[i].value);
        resolve();
        CHECK(client_is(rows[i].client));
        bool replaced = strcmp(rows[i].client, "10.0.0.1") != 0;
        CHECK_EQ_INT(out.identity.client_port, replaced ? 0 : 5000);
    }
}

TEST(a_chain_may_be_spread_over_fields)
{
    begin(true);
    add("x-forwarded-for", "203.0.113.9, 192.0.2.1");
    add("accept", "text/html");
    add("x-forwarded-for", "10.0.0.2");
    resolve();
    CHECK(client_is("192.0.2.1"));
}

TEST(the_scheme_is_one_of_four)
{
    static const struct {
        const char *value;
        enum request_kind kind;
        const char *scheme;
    } rows[] = {{"https", REQUEST_HTTP, "https"},
                {"HTTPS", REQUEST_HTTP, "https"},
                {"http, https", REQUEST_HTTP, "https"},
                {"https,http", REQUEST_HTTP, "http"},
                {"wss", REQUEST_HTTP, "https"},
                {"https", REQUEST_WEBSOCKET, "wss"},
                {"ws", REQUEST_WEBSOCKET, "ws"},
                {"gopher", REQUEST_HTTP, "http"},
                {"", REQUEST_HTTP, "http"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(true);
        head.kind = rows[i].kind;
        add("x-forwarded-proto", rows[i].value);
        resolve();
        CHECK(slice_equal(out.scheme, slice_from(rows[i].scheme)));
    }
}

TEST(hosts_and_prefixes_are_checked)
{
    static const struct {
        const char *host, *prefix, *expected_host, *expected_prefix;
    } rows[] = {{"a.example", "/app", "a.example", "/app"},
                {"b.example, a.example:8443", "/x, /app/", "a.example:8443", "/app"},
                {"user@a.example", "app", "", ""},
                {"a.example/x", "/a b", "", ""},
                {"a b", "/\xc3\xa4", "", ""},
                {"", "//evil.example", "", ""},
                {"", "/", "", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(true);
        add("x-forwarded-host", rows[i].host);
        add("x-forwarded-prefix", rows[i].prefix);
        resolve();
        CHECK(slice_equal(out.host, slice_from(rows[i].expected_host)));
        CHECK(slice_equal(out.prefix, slice_from(rows[i].expected_prefix)));
    }
}

TEST(forwarded_is_walked_from_the_right_over_trusted_hops)
{
    static const struct {
        const char *value, *client, *scheme, *host;
    } rows[] = {
        {"for=192.0.2.1;proto=https;host=a.example", "192.0.2.1", "https", "a.example"},
        {"For=\"192.0.2.1:4711\"; Proto=HTTPS", "192.0.2.1", "https", ""},
        {"for=\"[2001:db8::7]:80\"", "2001:db8::7", "http", ""},
        /* The client's hop says which scheme and host the client used. */
        {"for=192.0.2.1;proto=https;host=a.example, for=10.0.0.7;proto=http;host=inner",
         "192.0.2.1", "https", "a.example"},
        /* What the client wrote itself lies left of the first stranger. */
        {"for=203.0.113.9;proto=https, for=192.0.2.1;proto=http", "192.0.2.1", "http", ""},
        {"for=10.0.0.9, for=10.0.0.7;proto=https", "10.0.0.9", "http", ""},
        {"for=unknown;proto=https, for=10.0.0.7", "10.0.0.7", "http", ""},
        {"for=_hidden;proto=https", "10.0.0.1", "https", ""},
        {"proto=https", "10.0.0.1", "https", ""},
        {"by=203.0.113.43;for=192.0.2.1;secret=x", "192.0.2.1", "http", ""},
        {" for=192.0.2.1 ;; proto=https ,", "10.0.0.1", "http", ""},
        {"", "10.0.0.1", "http", ""},
        {"for=192.0.2.1;host=\"a b\";proto=gopher", "192.0.2.1", "http", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(true);
        add("forwarded", rows[i].value);
        resolve();
        CHECK(client_is(rows[i].client));
        CHECK(slice_equal(out.scheme, slice_from(rows[i].scheme)));
        CHECK(slice_equal(out.host, slice_from(rows[i].host)));
    }
}

TEST(a_malformed_forwarded_list_is_not_believed_at_all)
{
    static const char *const rows[] = {
        "for=192.0.2.1;proto=https, for",
        "for=192.0.2.1, for=\"10.0.0.7",
        "for=192.0.2.1;for=192.0.2.2",
        "for =192.0.2.1",
        "for= 192.0.2.1",
        "for=\"192.0.2\\.1\"",
        "for=192.0.2.1 proto=https",
        "=192.0.2.1",
        "for=192.0.2.1;proto=https;host=\"a\"b",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(true);
        add("forwarded", rows[i]);
        resolve();
        CHECK(client_is("10.0.0.1"));
        CHECK(slice_equal(out.scheme, SLICE("http")));
        CHECK_EQ_INT(out.host.length, 0);
    }
    begin(true);
    char chain[600] = "for=192.0.2.1";
    for (size_t i = 1; i < 33; i++) {
        strcat(chain, ",for=10.0.0.2");
    }
    add("forwarded", chain);
    resolve();
    CHECK(client_is("10.0.0.1"));
}

TEST(a_chain_of_forwarded_may_be_spread_over_fields)
{
    begin(true);
    add("forwarded", "for=203.0.113.9, for=192.0.2.1;proto=https");
    add("forwarded", "for=10.0.0.7");
    resolve();
    CHECK(client_is("192.0.2.1"));
    CHECK(slice_equal(out.scheme, SLICE("https")));
}

TEST(one_style_counts_in_a_request)
{
    static const struct {
        enum proxy_headers_style style;
        bool x_forwarded;
        const char *client;
    } rows[] = {{PROXY_HEADERS_AUTO, true, "192.0.2.1"},
                {PROXY_HEADERS_AUTO, false, "203.0.113.9"},
                {PROXY_HEADERS_FORWARDED, true, "203.0.113.9"},
                {PROXY_HEADERS_X_FORWARDED, true, "192.0.2.1"},
                {PROXY_HEADERS_X_FORWARDED, false, "10.0.0.1"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(true);
        settings.proxy_headers.style = rows[i].style;
        add("forwarded", "for=203.0.113.9;proto=https");
        if (rows[i].x_forwarded) {
            add("x-forwarded-for", "192.0.2.1");
        }
        resolve();
        CHECK(client_is(rows[i].client));
        /* The other style lends nothing to the one that counts. */
        CHECK(slice_equal(out.scheme, slice_from(client_is("203.0.113.9") ? "https" : "http")));
    }
}

CHECK_MAIN
