/* SPDX-License-Identifier: MIT */
/*
 * The request parser: what is accepted and what is refused, one row per payload; each row is fed whole, byte by byte, and cut
 * at every place, and must say the same each time.
 */
#include "check.h"
#include "parse_driver.h"

#define H "Host: h\r\n"
#define GET "GET / HTTP/1.1\r\n" H
#define POST "POST / HTTP/1.1\r\n" H
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

struct payload {
    const char *bytes;
    size_t length;
    const char *expected;
};

/* A literal with its length, for NUL bytes inside. */
#define P(bytes, expected) {(bytes), sizeof(bytes) - 1, (expected)}

static char *transcript(const struct payload *payload, size_t piece, size_t cut)
{
    struct driver driver;
    driver_init(&driver, &driver_http_settings, &driver_h1_settings);
    if (cut > 0) {
        driver_feed(&driver, payload->bytes, cut);
        driver_feed(&driver, payload->bytes + cut, payload->length - cut);
    } else {
        for (size_t at = 0; at < payload->length; at += piece) {
            size_t left = payload->length - at;
            driver_feed(&driver, payload->bytes + at, piece < left ? piece : left);
        }
    }
    char *text = strdup(strbuf_text(&driver.out));
    driver_done(&driver);
    return text;
}

static void check_payload(const struct payload *payload, const char *got, const char *how, size_t n)
{
    if (strcmp(got, payload->expected) != 0) {
        printf("# payload, %s %zu: ", how, n);
        for (size_t i = 0; i < payload->length && i < 160; i++) {
            unsigned char c = (unsigned char)payload->bytes[i];
            printf(c < 0x20 || c > 0x7e ? "\\x%02x" : "%c", c);
        }
        printf("\n");
    }
    CHECK_EQ_STR(got, payload->expected);
}

static void check_all(const struct payload *payloads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct payload *payload = &payloads[i];
        char *whole = transcript(payload, payload->length, 0);
        check_payload(payload, whole, "whole", 0);
        char *single = transcript(payload, 1, 0);
        check_payload(payload, single, "bytes of", 1);
        for (size_t cut = 1; cut < payload->length; cut++) {
            char *two = transcript(payload, 0, cut);
            check_payload(payload, two, "cut at", cut);
            free(two);
        }
        free(single);
        free(whole);
    }
}

#define CHECK_ALL(payloads) check_all((payloads), sizeof(payloads) / sizeof((payloads)[0]))

TEST(accepts_what_is_legal)
{
    static const struct payload payloads[] = {
        P(GET "\r\n", "GET / h. "),
        P("GET /a/b?c=d&e HTTP/1.1\r\n" H "\r\n", "GET /a/b?c=d&e h. "),
        P("GET /?a={b|c}^`\\ HTTP/1.1\r\n" H "\r\n", "GET /?a={b|c}^`\\ h. "),
        P("GET //x/../y/%2e%2F HTTP/1.1\r\n" H "\r\n", "GET //x/../y/%2e%2F h. "),
        P("GET / HTTP/1.0\r\n\r\n", "GET / . "),
        P("GET / HTTP/1.0\r\n" H "\r\n", "GET / h. "),
        P("\r\n" GET "\r\n", "GET / h. "),
        P("\r\n\r\n" GET "\r\n", "GET / h. "),
        P("GET / HTTP/1.1\r\nHOST: Example.COM:8080\r\n\r\n", "GET / example.com:8080. "),
        P("GET / HTTP/1.1\r\nHost:h\r\n\r\n", "GET / h. "),
        P("GET / HTTP/1.1\r\nHost: \t h \t \r\n\r\n", "GET / h. "),
        P("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / [::1]:80. "),
        P("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "GET / 127.0.0.1. "),
        P("GET http://h/p?q HTTP/1.1\r\n" H "\r\n", "GET /p?q h. "),
        P("GET http://H:80/p HTTP/1.1\r\n" H "\r\n", "GET /p h:80. "),
        P("GET http://h HTTP/1.1\r\n" H "\r\n", "GET / h. "),
        P("GET HTTP://h?x HTTP/1.1\r\n" H "\r\n", "GET /?x h. "),
        P("OPTIONS * HTTP/1.1\r\n" H "\r\n", "OPTIONS * h. "),
        P("OPTIONS http://h HTTP/1.1\r\n" H "\r\n", "OPTIONS * h. "),
        P("OPTIONS /x HTTP/1.1\r\n" H "\r\n", "OPTIONS /x h. "),
        P("HEAD / HTTP/1.1\r\n" H "\r\n", "HEAD / h. "),
        P("DELETE /1 HTTP/1.1\r\n" H "\r\n", "DELETE /1 h. "),
        P("PROPFIND /dav HTTP/1.1\r\n" H "\r\n", "PROPFIND /dav h. "),
        P("M-SEARCH /s HTTP/1.1\r\n" H "\r\n", "M-SEARCH /s h. "),
        P("PATCH /p HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nok", "PATCH /p h{ok}. "),
        P(POST "Content-Length: 5\r\n\r\nhello", "POST / h{hello}. "),
        P(POST "Content-Length: 0\r\n\r\n", "POST / h. "),
        P(POST "Content-Length: 0003\r\n\r\nabc", "POST / h{abc}. "),
        P(POST "Content-Length:  3 \r\n\r\nabc", "POST / h{abc}. "),
        P(GET "Content-Length: 3\r\n\r\nabc", "GET / h{abc}. "),
        P("HEAD / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx", "HEAD / h{x}. "),
        P(POST "Content-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\n" H "\r\n",
          "POST / h{abc}. GET /2 h. "),
        P(GET "\r\n" GET "\r\n" GET "\r\n", "GET / h. GET / h. GET / h. "),
        P(GET "\r\n\r\n" GET "\r\n", "GET / h. GET / h. "),
    };
    CHECK_ALL(payloads);
}

TEST(accepts_legal_bodies_and_fields)
{
    static const struct payload payloads[] = {
        P(CHUNKED "0\r\n\r\n", "POST / h. "),
        P(CHUNKED "5\r\nhello\r\n0\r\n\r\n", "POST / h{hello}. "),
        P(CHUNKED "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "POST / h{hello}. "),
        P(CHUNKED "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
          "POST / h{01234567890123456789}. "),
        P(CHUNKED "000000000000005\r\nhello\r\n0\r\n\r\n", "POST / h{hello}. "),
        P(CHUNKED "5;a=b\r\nhello\r\n0;x\r\n\r\n", "POST / h{hello}. "),
        P(CHUNKED "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n", "POST / h{hello}. "),
        P(CHUNKED "5\r\nhello\r\n000\r\n\r\n", "POST / h{hello}. "),
        P(CHUNKED "1\r\nx\r\n0\r\nX-Sum: 1\r\nY: \r\n\r\n" GET "\r\n", "POST / h{x}. GET / h. "),
        P(CHUNKED "1\r\nx\r\n0\r\nHost: evil\r\nAuthorization: a\r\n\r\n", "POST / h{x}. "),
        P(CHUNKED "4\r\n\r\n\r\n\r\n0\r\n\r\n", "POST / h{\r\n\r\n}. "),
        P(POST "transfer-ENCODING: ChunKed\r\n\r\n1\r\nx\r\n0\r\n\r\n", "POST / h{x}. "),
        P(GET "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "GET / h{x}. "),
        P(GET "X: \x80\xff\r\n\r\n", "GET / h. "),
        P(GET "X:\r\nY: \r\n\r\n", "GET / h. "),
        P(GET "Content_Length: 9\r\n\r\n", "GET / h. "),
        P(GET "!#$%&'*+-.^_`|~: tchar\r\n\r\n", "GET / h. "),
        P(GET
          "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n" GET
          "\r\n",
          "GET / h. GET / h. "),
        P(POST "Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok" GET "\r\n",
          "POST / h{ok}. GET / h. "),
        P(GET "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
          "GET / h. "),
        P(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", "POST / h{x}. "),
        P("POST / HTTP/1.0\r\nExpect: nonsense\r\nContent-Length: 1\r\n\r\nx", "POST / {x}. "),
        P(GET "Cookie: a=1\r\nCookie: b=2; c=\"3\"\r\n\r\n", "GET / h. "),
        P(GET "Cookie: a=\x80; =; ;; b\r\n\r\n", "GET / h. "),
        P(GET "Cookie:\r\n\r\n", "GET / h. "),
        P(GET "Range: bytes=0-0, 5-\r\nTE: trailers\r\nMax-Forwards: 0\r\n\r\n", "GET / h. "),
        P("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "~ "),
        P("GET / HT", ""), /* not complete: nothing is said yet */
        P(POST "Content-Length: 5\r\n\r\nhel", "POST / h{hel"),
    };
    CHECK_ALL(payloads);
}

TEST(refuses_request_lines)
{
    static const struct payload payloads[] = {
        P("\r\n\r\n\r\n" GET "\r\n", "!400 "),
        P("\n" GET "\r\n", "!400 "),
        P("\r" GET "\r\n", "!400 "),
        P(" GET / HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("\tGET / HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("\0GET / HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("\x16\x03\x01\x02\x00\x01\x00", "!400 "),
        P("GET  / HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /  HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET / HTTP/1.1 \r\n" H "\r\n", "!400 "),
        P("GET\t/ HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /\tHTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /\r\n\r\n", "!400 "),
        P("GET /\n", "!400 "),
        P("GET\r\n", "!400 "),
        P("GET / \r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\n" H "\n\n", "!400 "),
        P("GET / HTTP/1.1\rX" H "\r\n", "!400 "),
        P("GET / HTTP/1.1\r\r\n" H "\r\n", "!400 "),
        P("GET / HTTP/1.2\r\n" H "\r\n", "!505 "),
        P("GET / HTTP/2.0\r\n" H "\r\n", "!505 "),
        P("GET / HTTP/0.9\r\n" H "\r\n", "!505 "),
        P("GET / HTTP/3.0\r\n" H "\r\n", "!505 "),
        P("GET / HTTP/1.10\r\n" H "\r\n", "!400 "),
        P("GET / HTTP/11\r\n" H "\r\n", "!400 "),
        P("GET / HTTP/1\r\n" H "\r\n", "!400 "),
        P("GET / http/1.1\r\n" H "\r\n", "!400 "),
        P("GET / HTTPS/1.1\r\n" H "\r\n", "!400 "),
        P("GET / RTSP/1.0\r\n" H "\r\n", "!400 "),
        P("GET / HTTP/a.b\r\n" H "\r\n", "!400 "),
        P("DESCRIBE /x RTSP/1.0\r\n" H "\r\n", "!501 "),
        P("SOURCE /x ICE/1.0\r\n" H "\r\n", "!501 "),
        P("get / HTTP/1.1\r\n" H "\r\n", "!501 "),
        P("GETT / HTTP/1.1\r\n" H "\r\n", "!501 "),
        P("FOO / HTTP/1.1\r\n" H "\r\n", "!501 "),
        P("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "!501 "),
        P("GE(T / HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("G\x80T / HTTP/1.1\r\n" H "\r\n", "!400 "),
    };
    CHECK_ALL(payloads);
}

TEST(refuses_methods_and_targets)
{
    static const struct payload payloads[] = {
        P("CONNECT h:443 HTTP/1.1\r\n" H "\r\n", "!501 "),
        P("TRACE / HTTP/1.1\r\n" H "\r\n", "!501 "),
        P("PRI * HTTP/1.1\r\n\r\n", "!501 "),
        P("PRI / HTTP/2.0\r\n\r\n", "!501 "),
        P("GET * HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET h:80 HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET a HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET ?a HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET ftp://h/ HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET https://h/ HTTP/1.1\r\n" H "\r\n", "!400 "), /* a plain connection */
        P("GET http:/h/ HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET http:///p HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET http://user@h/ HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET http://user:pass@h/ HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET http://other/ HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET http://h:81/ HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET http://h/#f HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a#b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a\"b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a<b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a>b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a\\b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a^b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a`b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a{b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a|b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a}b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /?a<b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /?a#b HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a\x7f HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a\x01 HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a\0 HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /\xc3\xbc HTTP/1.1\r\n" H "\r\n", "!400 "),
        P("GET /a%00b HTTP/1.1\r\n" H "\r\n", "!400 "),
    };
    CHECK_ALL(payloads);
}

TEST(refuses_fields)
{
    static const struct payload payloads[] = {
        P("GET / HTTP/1.1\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost:\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h\r\nX: y\r\nhost: i\r\n\r\n", "!400 "),
        P("GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h i\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h/p\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h?q\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: http://h\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h:http\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h:99999\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h\x80\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost: h%00\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost : h\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\nHost\t: h\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\n Host: h\r\n\r\n", "!400 "),
        P("GET / HTTP/1.1\r\n\tHost: h\r\n\r\n", "!400 "),
        P(GET "X: a\r\n b\r\n\r\n", "!400 "),
        P(GET "X: a\r\n\tb\r\n\r\n", "!400 "),
        P(GET "X:\r\n b\r\n\r\n", "!400 "),
        P(GET "X: a\nY: b\r\n\r\n", "!400 "),
        P(GET "X: a\rY: b\r\n\r\n", "!400 "),
        P(GET "X: a\r\n\n", "!400 "),
        P(GET "X: a\r\n\rX", "!400 "),
        P(GET "X: a\0b\r\n\r\n", "!400 "),
        P(GET "X: a\x7f\r\n\r\n", "!400 "),
        P(GET "X: a\x01\r\n\r\n", "!400 "),
        P(GET ": empty\r\n\r\n", "!400 "),
        P(GET "X\r\n\r\n", "!400 "),
        P(GET "X Y: z\r\n\r\n", "!400 "),
        P(GET "X(: z\r\n\r\n", "!400 "),
        P(GET "X\x80: z\r\n\r\n", "!400 "),
        P(GET "X\0: z\r\n\r\n", "!400 "),
        P(GET "\"X\": z\r\n\r\n", "!400 "),
        P(GET "Cookie: a=\0b\r\n\r\n", "!400 "),
        P(GET "Cookie: a=b\rSet: x\r\n\r\n", "!400 "),
        P(POST "Expect: 100-continue, x\r\nContent-Length: 1\r\n\r\nx", "!417 "),
        P(POST "Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", "!417 "),
        P(GET "Expect: x\r\n\r\n", "!417 "),
        P(GET "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx", "!400 "),
        P(GET "Upgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n",
          "!400 "),
    };
    CHECK_ALL(payloads);
}

TEST(refuses_framing)
{
    static const struct payload payloads[] = {
        P(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: 3\r\nTransfer-Encoding:\r\n\r\nabc", "!400 "),
        P(POST "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", "!400 "),
        P(POST "Transfer-Encoding:\r\n\r\n", "!400 "),
        P(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: 3, 3\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: +3\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: -1\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: 0x3\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: 3 4\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: 3.0\r\n\r\nabc", "!400 "),
        P(POST "Content-Length: \r\n\r\n", "!400 "),
        P(POST "Content-Length: abc\r\n\r\n", "!400 "),
        P(POST "Content-Length: 9223372036854775808\r\n\r\n", "!400 "),
        P(POST "Content-Length: 18446744073709551616\r\n\r\n", "!400 "),
        P(POST "Content-Length: 99999999999999999999999\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "!501 "),
        P(POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          "!400 "),
        P(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          "!400 "),
        P(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
          "!400 "),
        P(POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", "!501 "),
        P(POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "!501 "),
        P(POST "Transfer-Encoding: identity\r\n\r\n", "!501 "),
        P(POST "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding: \x0b"
               "chunked\r\n\r\n0\r\n\r\n",
          "!400 "),
        P(POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "!400 "),
        P(POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "!400 "),
        P("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400 "),
        P("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
          "!400 "),
    };
    CHECK_ALL(payloads);
}

TEST(refuses_chunks)
{
    static const struct payload payloads[] = {
        P(CHUNKED "0x3\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "+3\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "-3\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED " 3\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3 \r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3\t\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3_0\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "g\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3\rabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3\r\nabc\n0\r\n\r\n", "POST / h{abc!400 "),
        P(CHUNKED "3\r\nabc\r0\r\n\r\n", "POST / h{abc!400 "),
        P(CHUNKED "3\r\nabcd\r\n0\r\n\r\n", "POST / h{abc!400 "),
        P(CHUNKED "3\r\nab\r\n0\r\n\r\n", "POST / h{ab\r!400 "),
        P(CHUNKED "fffffffffffffffff\r\n", "POST / h!400 "),
        P(CHUNKED "10000000000000000\r\n", "POST / h!400 "),
        P(CHUNKED "3;\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3;a\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3;a\rXabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3;a=\0\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "3;a=\"b\r\nabc\r\n0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\n\n", "POST / h!400 "),
        P(CHUNKED "0\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\nContent-Length: 1\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\nX : y\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\n: y\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\nX: a\0\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\nX: a\r\n b\r\n\r\n", "POST / h!400 "),
        P(CHUNKED "0\r\nX: a\nY: b\r\n\r\n", "POST / h!400 "),
    };
    CHECK_ALL(payloads);
}

/* --- what a head says --------------------------------------------------------------------------------------------------- */

static void check_head(const char *bytes, const char *expected)
{
    struct driver driver;
    driver_init(&driver, &driver_http_settings, &driver_h1_settings);
    driver.verbose = true;
    driver_feed(&driver, bytes, strlen(bytes));
    CHECK_EQ_STR(strbuf_text(&driver.out), expected);
    driver_done(&driver);
}

TEST(translates_heads)
{
    check_head("GET /a%20b?c%20d HTTP/1.1\r\nAccept: x\r\nHost: H:1\r\nX-Y:  z \r\n\r\n",
               "GET /a%20b?c%20d h:1 v11 keep=1 expect=0 te=0 ws=0 length=-1 path=/a b "
               "[host: H:1] [accept: x] [x-y: z]. ");
    check_head(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close, TE\r\nTE: gzip;q=0.5, Trailers\r\n"
        "Expect: 100-continue\r\nContent-Length: 1\r\nTrailer: x\r\n\r\nx",
        "POST / h v11 keep=0 expect=1 te=1 ws=0 length=1 path=/ [host: h] [content-length: 1] "
        "[trailer: x]{x}. ");
    check_head(
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\r\n",
        "GET /  v10 keep=1 expect=0 te=0 ws=0 length=-1 path=/. ");
    check_head("GET / HTTP/1.0\r\n\r\n", "GET /  v10 keep=0 expect=0 te=0 ws=0 length=-1 path=/. ");
    check_head("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: foo, WebSocket\r\nConnection: keep-alive, "
               "Upgrade\r\n\r\n",
               "GET / h v11 keep=1 expect=0 te=0 ws=1 length=-1 path=/ [host: h]. ");
    check_head(
        "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", /* nothing to wait for */
        "GET / h v11 keep=1 expect=0 te=0 ws=0 length=-1 path=/ [host: h]. ");
}

TEST(drops_underscore_fields_when_told)
{
    struct http_settings settings = driver_http_settings;
    settings.drop_underscore_fields = true;
    struct driver driver;
    driver_init(&driver, &settings, &driver_h1_settings);
    driver.verbose = true;
    static const char bytes[] = GET "X_Y: 1\r\nA: 2\r\n\r\n";
    driver_feed(&driver, bytes, sizeof bytes - 1);
    CHECK_EQ_STR(strbuf_text(&driver.out),
                 "GET / h v11 keep=1 expect=0 te=0 ws=0 length=-1 path=/ [host: h] [a: 2]. ");
    driver_done(&driver);
}

TEST(tells_what_is_left_of_a_body)
{
    struct driver driver;
    static const char length[] = POST "Content-Length: 5\r\n\r\nab";
    driver_init(&driver, &driver_http_settings, &driver_h1_settings);
    driver_feed(&driver, length, sizeof length - 1);
    CHECK_EQ_INT(h1_parser_body_left(&driver.parser), 3);
    driver_done(&driver);
    static const char chunked[] = CHUNKED "5\r\nab";
    driver_init(&driver, &driver_http_settings, &driver_h1_settings);
    driver_feed(&driver, chunked, sizeof chunked - 1);
    CHECK(h1_parser_body_left(&driver.parser) == UINT64_MAX);
    driver_feed(&driver, "cde\r\n0\r\n\r\n", 10);
    CHECK_EQ_INT(h1_parser_body_left(&driver.parser), 0);
    driver_done(&driver);
}

CHECK_MAIN
