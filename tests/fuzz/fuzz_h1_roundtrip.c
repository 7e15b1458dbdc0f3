/* SPDX-License-Identifier: MIT */
/*
 * What an HTTP/1 client sent against what the worker is told: each request that the parser accepts is written as a REQUEST head,
 * read again by the decoder below, which shares no code with the gateway, and compared with a plain reading of the client's
 * bytes (http_reference.c). The body's bytes and its end are compared likewise. SPEC R39, R40, R43, R44; RFC 9112 6.3.
 *
 * Input: a byte of flags (enum flag), two for the size of the pieces, then what the client sent.
 */
#include <stdint.h>
#include <stdlib.h>

#include "app/head_wire.h"
#include "app/proxy_headers.h"
#include "h1/h1_parse.h"
#include "http/fields.h"
#include "http_reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum flag {
    FLAG_SECURE = 1,
    FLAG_TRUSTED = 2, /* the peer is a proxy whose word counts */
    FLAG_UNIX_CLIENT = 4,
    FLAG_UNIX_SERVER = 8,
    FLAG_EARLY_HINTS = 16,
    FLAG_ROOT_PATH = 32,
    FLAG_DROP_UNDERSCORE = 64,
};

struct run {
    unsigned flags;
    const char *input; /* what the client sent, unchanged */
    size_t length;
    struct http_settings http;
    struct h1_parser parser;
    struct arena arena;
    struct request_head head;
    struct reference_head reference;
    struct reference_body body;
    struct strbuf payload; /* of the message under way, as the parser gave it */
    size_t begin, head_end;
    bool in_message;
};

/* --- a reader of msgpack, for exactly what a REQUEST has --------------------------------------- */

static unsigned wire_byte(struct slice *in)
{
    REQUIRE(in->length > 0);
    unsigned byte = (unsigned char)in->data[0];
    *in = slice_skip(*in, 1);
    return byte;
}

static uint64_t wire_number(struct slice *in, unsigned width)
{
    uint64_t value = 0;
    while (width-- > 0) {
        value = value << 8 | wire_byte(in);
    }
    return value;
}

static bool wire_is(const struct slice *in, unsigned byte)
{
    return in->length > 0 && (unsigned char)in->data[0] == byte;
}

static uint64_t wire_uint(struct slice *in)
{
    unsigned type = wire_byte(in);
    if (type < 0x80) {
        return type;
    }
    REQUIRE(type >= 0xcc && type <= 0xcf);
    uint64_t value = wire_number(in, 1u << (type - 0xcc));
    REQUIRE(value >= (type == 0xcc ? 0x80u : UINT64_C(1) << (4u << (type - 0xcc))));
    return value;
}

static struct slice wire_bytes(struct slice *in, uint64_t length)
{
    REQUIRE(length <= in->length);
    struct slice bytes = {in->data, (size_t)length};
    *in = slice_skip(*in, (size_t)length);
    return bytes;
}

static struct slice wire_text(struct slice *in)
{
    unsigned type = wire_byte(in);
    struct strbuf repaired;
    if ((type & 0xe0) != 0xa0) {
        REQUIRE(type >= 0xd9 && type <= 0xdb);
    }
    struct slice text =
        wire_bytes(in, (type & 0xe0) == 0xa0 ? type & 0x1f : wire_number(in, 1u << (type - 0xd9)));
    strbuf_init(&repaired);
    reference_utf8(text, &repaired);
    REQUIRE(slice_equal(text, (struct slice){repaired.data, repaired.length}));
    strbuf_done(&repaired);
    return text;
}

static struct slice wire_bin(struct slice *in)
{
    unsigned type = wire_byte(in);
    REQUIRE(type >= 0xc4 && type <= 0xc6);
    return wire_bytes(in, wire_number(in, 1u << (type - 0xc4)));
}

static bool wire_nil(struct slice *in)
{
    bool nil = wire_is(in, 0xc0);
    *in = slice_skip(*in, nil ? 1 : 0);
    return nil;
}

/* --- elements ---------------------------------------------------------------------------------- */

/* SPEC R43: one NUL, a port without leading zeros. */
static void check_endpoint(struct slice endpoint, bool may_lack_port)
{
    struct slice port, more;
    slice_cut(endpoint, '\0', &port);
    REQUIRE(port.data != NULL);
    slice_cut(port, '\0', &more);
    REQUIRE(more.data == NULL && (port.length > 0 || may_lack_port));
    unsigned long value = 0;
    for (size_t i = 0; i < port.length; i++) {
        REQUIRE(port.data[i] >= '0' && port.data[i] <= '9');
        REQUIRE(i == 0 || port.data[0] != '0');
        value = value * 10 + (unsigned long)(port.data[i] - '0');
    }
    REQUIRE(port.length <= 5 && value <= 65535);
}

static bool is_word_of(const char *const *words, struct slice name)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (slice_equal_nocase(slice_from(words[i]), name)) {
            return true;
        }
    }
    return false;
}

/* Whether a field of the client's goes to the worker. */
static bool passes(const struct run *run, struct slice name)
{
    static const char *const hop[] = {"connection", "keep-alive",        "proxy-connection", "te",
                                      "upgrade",    "transfer-encoding", "expect",           NULL};
    static const char *const forwarded[] = {"forwarded", "x-real-ip", NULL};
    static const char start[] = "x-forwarded-";
    char text[64] = ""; /* its CGI name means the same to an app: "_" as "-" */
    struct slice spelt = {text, name.length < sizeof text ? name.length : sizeof text};
    struct slice beginning = {text, sizeof start - 1};

    if (is_word_of(hop, name)) {
        return false;
    }
    if ((run->flags & FLAG_DROP_UNDERSCORE) != 0 && memchr(name.data, '_', name.length) != NULL) {
        return false;
    }
    for (size_t i = 0; i < spelt.length; i++) {
        text[i] = (char)(name.data[i] == '_' ? '-' : name.data[i]);
    }
    bool speaks_of_client =
        (name.length < sizeof text && is_word_of(forwarded, spelt)) ||
        (name.length >= beginning.length && slice_equal_nocase(beginning, slice_from(start)));
    return (run->flags & FLAG_TRUSTED) != 0 || !speaks_of_client;
}

static void expect_field(struct strbuf *out, struct slice name, struct slice value)
{
    if (out->length > 0) {
        strbuf_append_char(out, '\0');
    }
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        strbuf_append_char(out, c >= 'A' && c <= 'Z' ? (char)(c + 32) : c);
    }
    strbuf_append_char(out, '\0');
    strbuf_append_slice(out, value);
}

/* The field block that the client's fields must give: host first, cookies as one, the rest in order. */
static void expect_block(const struct run *run, struct slice other_host, struct strbuf *out)
{
    const struct reference_head *head = &run->reference;
    struct slice host;
    bool cookies_done = false;

    if (reference_count(head, SLICE("host"), &host) > 0) {
        expect_field(out, SLICE("host"), other_host.length > 0 ? other_host : host);
    }
    for (size_t i = 0; i < head->field_count; i++) {
        struct reference_field field = head->fields[i];
        bool cookie = slice_equal_nocase(field.name, SLICE("cookie"));
        if (!passes(run, field.name) || slice_equal_nocase(field.name, SLICE("host")) ||
            (cookie && cookies_done)) {
            continue;
        }
        expect_field(out, field.name, field.value);
        for (size_t k = i + 1; cookie && k < head->field_count; k++) {
            if (slice_equal_nocase(head->fields[k].name, field.name)) {
                strbuf_append_text(out, "; ");
                strbuf_append_slice(out, head->fields[k].value);
            }
        }
        cookies_done |= cookie;
    }
}

/* SPEC R39, R40, R44, whatever the client said. */
static void check_block(const struct run *run, struct slice block)
{
    size_t hosts = 0, cookies = 0;
    bool first = true;

    while (block.length > 0) {
        struct slice name = slice_cut(block, '\0', &block);
        REQUIRE(block.data != NULL);
        struct slice value = slice_cut(block, '\0', &block);
        REQUIRE(block.data == NULL || block.length > 0);
        REQUIRE(name.length > 0);
        for (size_t i = 0; i < name.length; i++) {
            REQUIRE(strchr("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~", name.data[i]));
        }
        for (size_t i = 0; i < value.length; i++) {
            unsigned char c = (unsigned char)value.data[i];
            REQUIRE((c >= 0x20 || c == '\t') && c != 0x7f);
        }
        bool host = slice_equal(name, SLICE("host"));
        REQUIRE(!host || first);
        hosts += host;
        cookies += slice_equal(name, SLICE("cookie"));
        first = false;
    }
    REQUIRE(hosts == 1 || (hosts == 0 && run->head.version == HTTP_1_0));
    REQUIRE(cookies <= 1);
}

static void check_fields(const struct run *run, struct slice other_host, struct slice block)
{
    struct strbuf expected;

    check_block(run, block);
    strbuf_init(&expected);
    expect_block(run, other_host, &expected);
    REQUIRE(slice_equal(block, (struct slice){expected.data, expected.length}));
    strbuf_done(&expected);
}

static void check_target(const struct run *run, struct slice path, struct slice raw_path,
                         struct slice query)
{
    const struct reference_head *head = &run->reference;

    REQUIRE(slice_equal(path, (struct slice){head->path.data, head->path.length}));
    REQUIRE(slice_equal(raw_path, head->raw_path) && slice_equal(query, head->query));
    REQUIRE(memchr(path.data, '\0', path.length) == NULL);
    REQUIRE(path.data[0] == '/' || slice_equal(path, SLICE("*")));
    for (size_t i = 0; i < head->origin.length; i++) {
        REQUIRE(head->origin.data[i] > ' ' && head->origin.data[i] < 0x7f);
    }
}

static void check_extensions(const struct run *run, struct slice *in)
{
    bool trailers = reference_list_has(&run->reference, SLICE("te"), SLICE("trailers"));
    bool early_hints = (run->flags & FLAG_EARLY_HINTS) != 0;
    unsigned count = (trailers ? 1 : 0) + (early_hints ? 1 : 0);

    if (count == 0) {
        REQUIRE(wire_nil(in));
        return;
    }
    REQUIRE(wire_byte(in) == (0x80 | count));
    if (trailers) {
        REQUIRE(slice_equal(wire_text(in), SLICE("trailers")) && wire_byte(in) == 0xc3);
    }
    if (early_hints) {
        REQUIRE(slice_equal(wire_text(in), SLICE("early_hints")) && wire_byte(in) == 0xc3);
    }
}

/* --- a head ------------------------------------------------------------------------------------ */

static void check_wire(const struct run *run, const struct head_wire_context *context,
                       struct slice in)
{
    const struct reference_head *head = &run->reference;
    bool secure = (run->flags & FLAG_SECURE) != 0;
    struct slice version = {head->version.data + 5, 3};

    bool websocket = run->head.kind == REQUEST_WEBSOCKET;
    REQUIRE(wire_byte(&in) == 0x9d && wire_uint(&in) == (websocket ? 1 : 0));
    REQUIRE(slice_equal(wire_text(&in), head->method));
    REQUIRE(slice_equal(wire_text(&in), version));
    struct slice scheme = wire_text(&in);
    REQUIRE(slice_equal(scheme, context->scheme));
    REQUIRE(slice_equal(scheme, websocket ? SLICE("ws") : SLICE("http")) ||
            slice_equal(scheme, websocket ? SLICE("wss") : SLICE("https")));
    struct slice path = wire_text(&in);
    struct slice raw_path = wire_is(&in, 0xc0) ? path : (struct slice){NULL, 0};
    raw_path = wire_nil(&in) ? path : wire_bin(&in);
    check_target(run, path, raw_path, wire_bin(&in));
    REQUIRE(slice_equal(wire_text(&in), context->root_path));
    if (context->identity->client_host.length == 0) {
        REQUIRE(wire_nil(&in));
    } else {
        check_endpoint(wire_bin(&in), false);
    }
    check_endpoint(wire_bin(&in), true);
    check_fields(run, context->host, wire_bin(&in));
    if (secure) {
        REQUIRE(wire_byte(&in) == 0x93 && wire_uint(&in) == 0x0304);
        REQUIRE(wire_uint(&in) == 0x1301 && wire_uint(&in) == context->tls_conn);
    } else {
        REQUIRE(wire_nil(&in));
    }
    check_extensions(run, &in);
    REQUIRE(in.length == 0);
}

static bool is_trusted(const void *context, struct slice host)
{
    (void)context;
    return slice_starts_with(host, SLICE("10."));
}

static void encode(struct run *run)
{
    static const struct apps_settings settings = {
        .proxy_headers = {.use_for = true, .use_proto = true, .use_host = true, .use_prefix = true},
        .trusted = is_trusted};
    bool unix_client = (run->flags & FLAG_UNIX_CLIENT) != 0;
    bool unix_server = (run->flags & FLAG_UNIX_SERVER) != 0;
    struct conn conn = {
        .identity = {.client_host = unix_client ? SLICE("") : SLICE("192.0.2.1"),
                     .client_port = unix_client ? 0 : 40000,
                     .server_host = unix_server ? SLICE("/run/x.sock") : SLICE("2001:db8::1"),
                     .server_port = unix_server ? 0 : 443,
                     .unix_peer = unix_client,
                     .secure = (run->flags & FLAG_SECURE) != 0,
                     .trusted_proxy = (run->flags & FLAG_TRUSTED) != 0,
                     .tls_version = 0x0304,
                     .tls_cipher = 0x1301}};
    struct proxy_identity proxied;
    struct strbuf out;

    proxy_headers_resolve(&settings, &conn, &run->head, &proxied);
    struct head_wire_context context = {.identity = &proxied.identity,
                                        .scheme = proxied.scheme,
                                        .host = proxied.host,
                                        .root_path = proxied.prefix.length > 0 ? proxied.prefix
                                                     : (run->flags & FLAG_ROOT_PATH) != 0
                                                         ? SLICE("/root")
                                                         : SLICE(""),
                                        .tls_conn = 70000,
                                        .early_hints = (run->flags & FLAG_EARLY_HINTS) != 0,
                                        .strip_forwarded = !conn.identity.trusted_proxy};
    strbuf_init(&out);
    head_wire_request(&out, &run->head, &context);
    REQUIRE(!out.failed);
    check_wire(run, &context, (struct slice){out.data, out.length});
    strbuf_done(&out);
}

/* R10 of the promises: nothing reaches a worker whose framing two readers could see in two ways. */
static void check_framing(const struct run *run)
{
    const struct reference_head *head = &run->reference;
    struct slice coding, length, host;
    size_t codings = reference_count(head, SLICE("transfer-encoding"), &coding);
    size_t lengths = reference_count(head, SLICE("content-length"), &length);
    size_t hosts = reference_count(head, SLICE("host"), &host);

    REQUIRE(codings + lengths <= 1 && hosts <= 1);
    REQUIRE(codings == 0 || slice_equal_nocase(coding, SLICE("chunked")));
    for (size_t i = 0; lengths > 0 && i < length.length; i++) {
        REQUIRE(length.data[i] >= '0' && length.data[i] <= '9');
    }
    REQUIRE(lengths == 0 || length.length > 0);
    REQUIRE(hosts == 1 || slice_equal(head->version, SLICE("HTTP/1.0")));
    REQUIRE(codings == 0 || slice_equal(head->version, SLICE("HTTP/1.1")));
}

static void on_head(struct run *run, size_t at)
{
    struct slice bytes = {run->input + run->begin, at - run->begin};
    struct slice rest = {run->input + at, run->length - at};

    run->head_end = at;
    run->in_message = true;
    reference_head_read(&run->reference, bytes);
    reference_body_read(&run->body, &run->reference, rest);
    check_framing(run);
    encode(run);
}

/* --- a message --------------------------------------------------------------------------------- */

/* What was delivered is the beginning of what there is; all of it when the parser has no objection. */
static void check_body(struct run *run, size_t at, enum h1_event last)
{
    const struct strbuf *whole = &run->body.payload;

    REQUIRE(run->payload.length <= whole->length);
    REQUIRE(run->payload.length == 0 ||
            memcmp(run->payload.data, whole->data, run->payload.length) == 0);
    REQUIRE(last == H1_EVENT_FAILED || run->payload.length == whole->length);
    REQUIRE(last == H1_EVENT_FAILED || run->body.complete == (last == H1_EVENT_END));
    REQUIRE(last != H1_EVENT_END || at == run->head_end + run->body.used);
}

static void end_message(struct run *run)
{
    if (run->in_message) {
        reference_head_done(&run->reference);
        reference_body_done(&run->body);
    }
    run->in_message = false;
    strbuf_clear(&run->payload);
    arena_done(&run->arena);
}

/* Takes one event at the offset `at` of the input; false when nothing more comes. */
static bool take_event(struct run *run, enum h1_event event, struct slice body, size_t at)
{
    switch (event) {
    case H1_EVENT_BEGIN:
        run->begin = at;
        h1_parser_begin(&run->parser, &run->arena, &run->head);
        break;
    case H1_EVENT_HEAD:
        on_head(run, at);
        break;
    case H1_EVENT_BODY:
        strbuf_append_slice(&run->payload, body);
        break;
    case H1_EVENT_END:
        check_body(run, at, event);
        end_message(run);
        break;
    case H1_EVENT_FAILED:
        if (run->in_message) {
            check_body(run, at, event);
        }
        return false;
    case H1_EVENT_H2_PREFACE:
        return false;
    case H1_EVENT_NEED_DATA:
        break;
    }
    return true;
}

/* Feeds bytes [from, from + length) in memory of exactly their size; false when nothing more comes. */
static bool feed(struct run *run, size_t from, size_t length)
{
    char *piece = malloc(length);
    size_t at = 0;
    enum h1_event event;
    bool more;

    REQUIRE(piece != NULL);
    memcpy(piece, run->input + from, length);
    do {
        size_t used = 0;
        struct slice body;
        event = h1_parser_feed(&run->parser, piece + at, length - at, &used, &body);
        at += used;
        more = take_event(run, event, body, from + at);
    } while (more && event != H1_EVENT_NEED_DATA);
    free(piece);
    return more;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct h1_settings h1_settings = {.leading_crlf_max = 2,
                                                   .chunk_line_max = 4096,
                                                   .chunk_overhead_max = 100 * 1024,
                                                   .read_buffer = 16384};
    static struct run run;

    if (size < 3) {
        return 0;
    }
    run = (struct run){.flags = data[0],
                       .input = (const char *)data + 3,
                       .length = size - 3,
                       .http = {.target_max = 8192,
                                .header_block_max = 32768,
                                .header_fields_max = 100,
                                .cookie_crumbs_max = 100,
                                .trailer_block_max = 8192,
                                .trailer_fields_max = 32,
                                .drop_underscore_fields = (data[0] & FLAG_DROP_UNDERSCORE) != 0}};
    h1_parser_init(&run.parser, &run.http, &h1_settings, (run.flags & FLAG_SECURE) != 0);
    arena_init(&run.arena, 2048);
    strbuf_init(&run.payload);
    size_t piece = data[1] == 0 ? SIZE_MAX : (size_t)data[1] * (data[2] % 16 + 1);
    bool more = true;
    for (size_t at = 0; more && at < run.length; at += piece) {
        piece = piece < run.length - at ? piece : run.length - at;
        more = feed(&run, at, piece);
    }
    if (more && run.in_message) {
        check_body(&run, run.length, H1_EVENT_NEED_DATA);
    }
    end_message(&run);
    strbuf_done(&run.payload);
    return 0;
}
