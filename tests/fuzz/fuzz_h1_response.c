/* SPDX-License-Identifier: MIT */
/*
 * An app's response head and body to HTTP/1.1 bytes: what response_head_check accepts must come back from llhttp's response parser
 * as the same status, the same fields (and none that nobody gave), the same body, and nothing after it. No CR, LF or NUL of an
 * app can become part of the syntax.
 *
 * Input: flags, status (2 bytes), size of the write pieces, then the fields: their number and per field two lengths, name and
 * value; with FLAG_WIRE the head of a RESPONSE frame (2 bytes of length before it) instead. With FLAG_TRAILERS the payload of a
 * TRAILERS frame follows in the same way. What is left is the body.
 */
#include <llhttp.h>
#include <stdint.h>
#include <stdio.h>

#include "app/head_wire.h"
#include "base/strbuf.h"
#include "h1/h1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELDS 24
#define TRAILERS 8
#define PARSED_FIELDS (FIELDS + TRAILERS + 8)
#define BODY_MAX 4096

enum flag { FLAG_HTTP10 = 1, FLAG_HEAD = 2, FLAG_CLOSE = 4, FLAG_WIRE = 8, FLAG_TRAILERS = 16 };

struct input {
    const uint8_t *data;
    size_t size;
};

struct parsed {
    struct strbuf names[PARSED_FIELDS], values[PARSED_FIELDS], body;
    size_t count, head_count; /* trailers are behind those of the head */
    unsigned status;
    bool skip_body, complete;
};

static size_t take_byte(struct input *input)
{
    if (input->size == 0) {
        return 0;
    }
    input->size--;
    return *input->data++;
}

static struct slice take_bytes(struct input *input, size_t length)
{
    if (length > input->size) {
        length = input->size;
    }
    struct slice bytes = {(const char *)input->data, length};
    input->data += length;
    input->size -= length;
    return bytes;
}

/* --- the client's view ----------------------------------------------------------------------------- */

static int on_field(llhttp_t *parser, const char *at, size_t length)
{
    struct parsed *parsed = parser->data;
    REQUIRE(parsed->count < PARSED_FIELDS);
    strbuf_append(&parsed->names[parsed->count], at, length);
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t length)
{
    struct parsed *parsed = parser->data;
    strbuf_append(&parsed->values[parsed->count], at, length);
    return 0;
}

static int on_value_complete(llhttp_t *parser)
{
    ((struct parsed *)parser->data)->count++;
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct parsed *parsed = parser->data;
    parsed->status = (unsigned)llhttp_get_status_code(parser);
    parsed->head_count = parsed->count;
    return parsed->skip_body ? 1 : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
    strbuf_append(&((struct parsed *)parser->data)->body, at, length);
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    struct parsed *parsed = parser->data;
    REQUIRE(!parsed->complete);
    parsed->complete = true;
    return 0;
}

static void parse_back(const struct strbuf *out, struct parsed *parsed)
{
    static const llhttp_settings_t settings = {
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_header_value_complete = on_value_complete,
        .on_headers_complete = on_headers_complete,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    llhttp_t parser;
    llhttp_init(&parser, HTTP_RESPONSE, &settings);
    parser.data = parsed;
    REQUIRE(llhttp_execute(&parser, strbuf_text(out), out->length) == HPE_OK);
    REQUIRE(llhttp_finish(&parser) == HPE_OK);
    REQUIRE(parsed->complete);
}

/* --- the gateway's side ------------------------------------------------------------------------------ */

static void write_response(struct h1_writer *writer, struct arena *arena, struct byteq *body,
                           const struct response_head *trailers, size_t piece, struct strbuf *out)
{
    struct iovec vectors[8];
    for (;;) {
        REQUIRE(h1_writer_plan(writer, arena, body, true, trailers->fields,
                               trailers->field_count) == ERROR_NONE);
        size_t count = h1_writer_gather(writer, body, vectors, 8);
        if (count == 0) {
            break;
        }
        size_t taken = 0;
        for (size_t i = 0; i < count && taken < piece; i++) {
            size_t length = vectors[i].iov_len < piece - taken ? vectors[i].iov_len : piece - taken;
            strbuf_append(out, vectors[i].iov_base, length);
            taken += length;
        }
        byteq_consume(body, h1_writer_sent(writer, taken));
    }
    REQUIRE(h1_writer_finished(writer));
}

static bool is_ours(const struct parsed *parsed, size_t i)
{
    static const char *const ours[] = {"connection: close",
                                       "connection: keep-alive",
                                       "transfer-encoding: chunked",
                                       "content-length: 0",
                                       "date: D",
                                       "server: S"};
    char line[64];
    snprintf(line, sizeof line, "%s: %s", strbuf_text(&parsed->names[i]),
             strbuf_text(&parsed->values[i]));
    for (size_t k = 0; k < sizeof ours / sizeof ours[0]; k++) {
        if (strcmp(line, ours[k]) == 0) {
            return true;
        }
    }
    return false;
}

static struct field parsed_field(const struct parsed *parsed, size_t i)
{
    struct slice value = {strbuf_text(&parsed->values[i]), parsed->values[i].length};
    return (struct field){{strbuf_text(&parsed->names[i]), parsed->names[i].length},
                          slice_trim(value)};
}

static bool same_field(struct field a, const struct field *b)
{
    return slice_equal(a.name, b->name) && slice_equal(a.value, b->value);
}

static void check_fields(const struct response_head *head, const struct parsed *parsed)
{
    REQUIRE(parsed->head_count >= head->field_count);
    REQUIRE(parsed->head_count <= head->field_count + 5);
    for (size_t i = 0; i < parsed->head_count; i++) {
        if (i < head->field_count) {
            REQUIRE(same_field(parsed_field(parsed, i), &head->fields[i]));
        } else {
            REQUIRE(is_ours(parsed, i));
        }
    }
}

/* All trailers, where the framing has room for them. */
static void check_trailers(const struct response_head *trailers, bool chunked,
                           const struct parsed *parsed)
{
    size_t count = parsed->count - parsed->head_count;
    REQUIRE(count == (chunked ? trailers->field_count : 0));
    for (size_t i = 0; i < count; i++) {
        REQUIRE(same_field(parsed_field(parsed, parsed->head_count + i), &trailers->fields[i]));
    }
}

static void exchange_one(struct arena *arena, const struct request_head *request,
                         struct response_head *head, const struct response_head *trailers,
                         struct slice content, size_t piece, bool close)
{
    static const struct http_settings settings = {
        .date_header = true, .server_header = true, .server_name = {"S", 1}};
    static struct parsed parsed;
    struct h1_writer writer;
    struct byteq body;
    struct strbuf out;
    enum body_framing framing = response_framing(request, head);
    struct h1_head_context context = {
        .settings = &settings, .request = request, .date = SLICE("D")};
    if (framing == BODY_LENGTH) {
        if ((uint64_t)head->content_length > content.length) {
            return;
        }
        content.length = (size_t)head->content_length;
    } else if (framing == BODY_NONE) {
        content.length = 0;
    }
    context.close = close || (framing == BODY_OPEN && request->version == HTTP_1_0);
    memset(&parsed, 0, sizeof parsed);
    byteq_init(&body);
    strbuf_init(&out);
    h1_writer_init(&writer);
    parsed.skip_body = slice_equal(request->method, SLICE("HEAD"));
    REQUIRE(h1_writer_head(&writer, arena, &context, head) == ERROR_NONE);
    REQUIRE(content.length == 0 || byteq_append(&body, content.data, content.length) == ERROR_NONE);
    write_response(&writer, arena, &body, trailers, piece, &out);
    parse_back(&out, &parsed);
    REQUIRE(parsed.status == head->status && parsed.body.length == content.length);
    REQUIRE(content.length == 0 || memcmp(parsed.body.data, content.data, content.length) == 0);
    check_fields(head, &parsed);
    check_trailers(trailers, framing == BODY_OPEN && request->version != HTTP_1_0, &parsed);
    for (size_t i = 0; i < PARSED_FIELDS; i++) {
        strbuf_done(&parsed.names[i]);
        strbuf_done(&parsed.values[i]);
    }
    strbuf_done(&parsed.body);
    strbuf_done(&out);
    byteq_done(&body);
}

/* The fields of a frame's payload, not judged yet. False when it is malformed, or has more than `max`. */
static bool take_frame(struct input *input, struct arena *arena, size_t max,
                       struct response_head *head)
{
    size_t length = take_byte(input) * 256;
    length += take_byte(input);
    enum error error =
        head_wire_fields(arena, take_bytes(input, length), &head->fields, &head->field_count);
    REQUIRE(error == ERROR_NONE || error == ERROR_PROTOCOL);
    return error == ERROR_NONE && head->field_count <= max;
}

static void take_fields(struct input *input, struct response_head *head)
{
    head->field_count = take_byte(input) % (FIELDS + 1);
    for (size_t i = 0; i < head->field_count; i++) {
        size_t name = take_byte(input);
        size_t value = take_byte(input);
        head->fields[i].name = take_bytes(input, name);
        head->fields[i].value = take_bytes(input, value);
    }
}

static void test(struct input *input, struct arena *arena)
{
    struct field fields[FIELDS];
    struct response_head head = {.fields = fields}, trailers = {.field_count = 0};
    const char *why = NULL;
    size_t flags = take_byte(input);
    head.status = (unsigned)(take_byte(input) * 256);
    head.status += (unsigned)take_byte(input);
    size_t piece = take_byte(input) + 1;
    if ((flags & FLAG_WIRE) == 0) {
        take_fields(input, &head);
    } else if (!take_frame(input, arena, FIELDS, &head)) {
        return;
    }
    if ((flags & FLAG_TRAILERS) != 0 &&
        (!take_frame(input, arena, TRAILERS, &trailers) ||
         trailers_check(arena, trailers.fields, trailers.field_count, &why) != ERROR_NONE)) {
        return;
    }
    struct request_head request = {.version = flags & FLAG_HTTP10 ? HTTP_1_0 : HTTP_1_1,
                                   .method = flags & FLAG_HEAD ? SLICE("HEAD") : SLICE("GET")};
    /* The final response only: an informational one is followed by it, and llhttp would wait for that. */
    if (response_head_check(arena, &head, &why) == ERROR_NONE && head.status >= 200) {
        exchange_one(arena, &request, &head, &trailers, take_bytes(input, BODY_MAX), piece,
                     (flags & FLAG_CLOSE) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct arena arena;
    arena_init(&arena, 1024);
    test(&input, &arena);
    arena_done(&arena);
    return 0;
}
