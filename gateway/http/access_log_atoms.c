/* SPDX-License-Identifier: MIT */
/*
 * The atoms of the access log: each writes one value of an exchange. They own nothing and know no format.
 *
 * Everything but the format's own text and numbers goes through access_log_escape: bytes below 0x20 and from 0x7f, quote and
 * backslash become \xNN, so that a line stays one line of ASCII whatever a client (or an app) sent (CWE-117).
 */
#include "http/access_log_atoms.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/conn.h"
#include "http/exchange.h"
#include "http/respond.h"

/* --- values --------------------------------------------------------------------------------------------------------- */

void access_log_escape(struct slice bytes, struct strbuf *out)
{
    size_t clean = 0; /* start of the run that needs no escape */

    for (size_t i = 0; i < bytes.length; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            continue;
        }
        strbuf_append(out, bytes.data + clean, i - clean);
        strbuf_printf(out, "\\x%02x", c);
        clean = i + 1;
    }
    if (clean < bytes.length) {
        strbuf_append(out, bytes.data + clean, bytes.length - clean);
    }
}

void access_log_escape_or_dash(struct slice bytes, struct strbuf *out)
{
    if (bytes.length == 0) {
        strbuf_append_char(out, '-');
    } else {
        access_log_escape(bytes, out);
    }
}

uint64_t access_log_duration(const struct exchange *exchange)
{
    return exchange->ended_at > exchange->started_at ? exchange->ended_at - exchange->started_at
                                                     : 0;
}

struct slice access_log_protocol(const struct exchange *exchange)
{
    switch (exchange->request.version) {
    case HTTP_1_0:
        return SLICE("HTTP/1.0");
    case HTTP_2:
        return SLICE("HTTP/2");
    case HTTP_3:
        return SLICE("HTTP/3");
    default:
        return SLICE("HTTP/1.1");
    }
}

static const struct field *find_field(const struct exchange *exchange, struct slice name)
{
    return head_find(exchange->request.fields, exchange->request.field_count, name);
}

static struct slice request_field(const struct exchange *exchange, struct slice name)
{
    const struct field *field = find_field(exchange, name);
    return field != NULL ? field->value : SLICE("");
}

bool access_log_has_status(const struct exchange *exchange)
{
    return exchange->response_state != RESPONSE_NONE && exchange->response.status > 0;
}

/* --- atoms ---------------------------------------------------------------------------------------------------------- */

#define ATOM(name)                                                                                 \
    static void name(const struct exchange *exchange, struct slice argument, struct strbuf *out)
#define UNUSED_ARGUMENT (void)argument

void access_log_literal(const struct exchange *exchange, struct slice argument, struct strbuf *out)
{
    (void)exchange;
    strbuf_append_slice(out, argument);
}

struct slice access_log_client(const struct exchange *exchange)
{
    return exchange->client_host.length > 0 ? exchange->client_host
                                            : exchange->conn->identity.client_host;
}

ATOM(append_client)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(access_log_client(exchange), out);
}

ATOM(append_dash)
{
    (void)exchange;
    UNUSED_ARGUMENT;
    strbuf_append_char(out, '-');
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The user of `Authorization: Basic` (RFC 7617 2): decoded up to the colon, so that a password is never in memory here. */
ATOM(append_user)
{
    char user[256];
    size_t length = 0;
    unsigned bits = 0, count = 0;
    bool colon = false;
    struct slice value = request_field(exchange, SLICE("authorization"));

    UNUSED_ARGUMENT;
    if (value.length > 6 && slice_equal_nocase((struct slice){value.data, 6}, SLICE("basic "))) {
        value = slice_trim((struct slice){value.data + 6, value.length - 6});
        for (size_t i = 0; i < value.length && !colon && length < sizeof(user); i++) {
            int six = base64_value(value.data[i]);
            if (six < 0) {
                break;
            }
            bits = (bits << 6 | (unsigned)six) & 0xffffff;
            count += 6;
            if (count >= 8) {
                count -= 8;
                user[length] = (char)(bits >> count & 0xff);
                colon = user[length] == ':';
                length += !colon;
            }
        }
    }
    access_log_escape_or_dash((struct slice){user, colon ? length : 0}, out);
}

/* "[20/Nov/2026:18:00:00 +0000]", the time of the log line in local time; made once a second and thread. */
ATOM(append_time)
{
    static _Thread_local time_t cached_at;
    static _Thread_local char cached[96];
    time_t now = (time_t)(clock_wall() / CLOCK_NS_PER_S);

    (void)exchange;
    UNUSED_ARGUMENT;
    if (now != cached_at) {
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        struct tm local;
        localtime_r(&now, &local);
        long offset = local.tm_gmtoff / 60;
        snprintf(cached, sizeof(cached), "[%02d/%s/%04d:%02d:%02d:%02d %c%02ld%02ld]",
                 local.tm_mday, months[local.tm_mon % 12], local.tm_year + 1900, local.tm_hour,
                 local.tm_min, local.tm_sec, offset < 0 ? '-' : '+', labs(offset) / 60,
                 labs(offset) % 60);
        cached_at = now;
    }
    strbuf_append_text(out, cached);
}

ATOM(append_method)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->request.method, out);
}

ATOM(append_target)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->request.target, out);
}

ATOM(append_path)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->request.raw_path, out);
}

ATOM(append_path_query)
{
    append_path(exchange, argument, out);
    if (exchange->request.query.length > 0) {
        strbuf_append_char(out, '?');
        access_log_escape(exchange->request.query, out);
    }
}

ATOM(append_query)
{
    UNUSED_ARGUMENT;
    access_log_escape(exchange->request.query, out);
}

ATOM(append_protocol)
{
    UNUSED_ARGUMENT;
    strbuf_append_slice(out, access_log_protocol(exchange));
}

ATOM(append_request_line)
{
    append_method(exchange, argument, out);
    strbuf_append_char(out, ' ');
    append_target(exchange, argument, out);
    strbuf_append_char(out, ' ');
    append_protocol(exchange, argument, out);
}

ATOM(append_request_line_no_query)
{
    append_method(exchange, argument, out);
    strbuf_append_char(out, ' ');
    append_path(exchange, argument, out);
    strbuf_append_char(out, ' ');
    append_protocol(exchange, argument, out);
}

/* "000" when the client got no head: parsers of the combined format expect a number. */
ATOM(append_status)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%03u", access_log_has_status(exchange) ? exchange->response.status : 0);
}

ATOM(append_status_phrase)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(
        slice_from(access_log_has_status(exchange) ? status_phrase(exchange->response.status) : ""),
        out);
}

ATOM(append_scheme)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->request.scheme, out);
}

ATOM(append_bytes)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%" PRIu64, exchange->response_bytes);
}

ATOM(append_bytes_or_dash)
{
    if (exchange->response_bytes == 0) {
        strbuf_append_char(out, '-');
    } else {
        append_bytes(exchange, argument, out);
    }
}

ATOM(append_request_bytes)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%" PRIu64, exchange->request_bytes);
}

ATOM(append_request_header)
{
    access_log_escape_or_dash(request_field(exchange, argument), out);
}

ATOM(append_response_header)
{
    const struct field *field =
        access_log_has_status(exchange)
            ? head_find(exchange->response.fields, exchange->response.field_count, argument)
            : NULL;
    access_log_escape_or_dash(field != NULL ? field->value : SLICE(""), out);
}

ATOM(append_referer)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(request_field(exchange, SLICE("referer")), out);
}

ATOM(append_user_agent)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(request_field(exchange, SLICE("user-agent")), out);
}

void access_log_seconds(uint64_t time, struct strbuf *out)
{
    strbuf_printf(out, "%" PRIu64 ".%06" PRIu64, time / CLOCK_NS_PER_S,
                  time % CLOCK_NS_PER_S / CLOCK_NS_PER_US);
}

ATOM(append_duration_s)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%" PRIu64, access_log_duration(exchange) / CLOCK_NS_PER_S);
}

ATOM(append_duration_ms)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%" PRIu64, access_log_duration(exchange) / CLOCK_NS_PER_MS);
}

ATOM(append_duration_us)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%" PRIu64, access_log_duration(exchange) / CLOCK_NS_PER_US);
}

ATOM(append_duration_decimal)
{
    UNUSED_ARGUMENT;
    access_log_seconds(access_log_duration(exchange), out);
}

ATOM(append_first_byte)
{
    UNUSED_ARGUMENT;
    if (exchange->first_byte_at <= exchange->started_at) {
        strbuf_append_char(out, '-');
    } else {
        access_log_seconds(exchange->first_byte_at - exchange->started_at, out);
    }
}

ATOM(append_pid)
{
    (void)exchange;
    UNUSED_ARGUMENT;
    strbuf_printf(out, "<%d>", (int)getpid());
}

ATOM(append_app)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->app_name, out);
}

ATOM(append_worker)
{
    UNUSED_ARGUMENT;
    if (exchange->worker_pid == 0) {
        strbuf_append_char(out, '-');
    } else {
        strbuf_printf(out, "%d", exchange->worker_pid);
    }
}

ATOM(append_retries)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%u", exchange->retries);
}

ATOM(append_reason)
{
    UNUSED_ARGUMENT;
    strbuf_append_text(out, end_reason_name(exchange->end_reason));
}

ATOM(append_error)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->error_text, out);
}

ATOM(append_tls_version)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->conn->identity.tls_version_name, out);
}

ATOM(append_tls_cipher)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->conn->identity.tls_cipher_name, out);
}

ATOM(append_host)
{
    UNUSED_ARGUMENT;
    access_log_escape_or_dash(exchange->request.authority, out);
}

ATOM(append_connection)
{
    UNUSED_ARGUMENT;
    strbuf_printf(out, "%" PRIu64, exchange->conn->id);
}

const struct access_log_atom access_log_atoms[] = {
    {"h", append_client, "the client's address"},
    {"l", append_dash, "always \"-\""},
    {"u", append_user, "the user of Basic authentication"},
    {"t", append_time, "time of the line, as [20/Nov/2026:18:00:00 +0000]"},
    {"r", append_request_line, "request line: method, target, protocol"},
    {"R", append_request_line_no_query, "request line without the query string"},
    {"m", append_method, "method"},
    {"U", append_path, "path without the query string"},
    {"Uq", append_path_query, "path with the query string"},
    {"q", append_query, "query string"},
    {"H", append_protocol, "protocol"},
    {"s", append_status, "status; 000 when no head was sent"},
    {"st", append_status_phrase, "status phrase"},
    {"S", append_scheme, "scheme"},
    {"B", append_bytes, "bytes of the response body"},
    {"b", append_bytes_or_dash, "the same, \"-\" for none"},
    {"f", append_referer, "Referer"},
    {"a", append_user_agent, "User-Agent"},
    {"T", append_duration_s, "duration in whole seconds"},
    {"M", append_duration_ms, "duration in milliseconds"},
    {"D", append_duration_us, "duration in microseconds"},
    {"L", append_duration_decimal, "duration in seconds with six decimals"},
    {"p", append_pid, "process id of the gateway"},
    {"{header}i", append_request_header, "a request field"},
    {"{header}o", append_response_header, "a response field"},
    {"{name}e", access_log_literal, "an environment variable of the gateway"},
    {"app", append_app, "the app"},
    {"worker", append_worker, "process id of the worker that answered"},
    {"retries", append_retries, "how often the request was placed again"},
    {"reason", append_reason, "how the request ended: complete, client_gone, worker_lost ..."},
    {"error", append_error, "why the gateway answered itself or cut the response"},
    {"first_byte", append_first_byte, "seconds until the app's response began"},
    {"request_bytes", append_request_bytes, "bytes of the request body"},
    {"host", append_host, "host that was asked for"},
    {"tls", append_tls_version, "TLS version"},
    {"cipher", append_tls_cipher, "TLS cipher suite"},
    {"conn", append_connection, "number of the connection"},
};
const size_t access_log_atom_count = sizeof(access_log_atoms) / sizeof(access_log_atoms[0]);
