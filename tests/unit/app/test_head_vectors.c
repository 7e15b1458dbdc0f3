/* SPDX-License-Identifier: MIT */
/*
 * protocol/vectors/heads-*.txt against what the gateway writes (REQUEST: the canonical bytes of the same fields) and reads
 * (RESPONSE and TRAILERS: well-formed, and then what HTTP allows). The readers of the files are those of tests/vectors/.
 */
#include "check.h"

#include <stdlib.h>

#include "app/head_wire.h"
#include "base/arena.h"
#include "base/strbuf.h"
#include "http/fields.h"
#include "vectors/notation.c" /* NOLINT(bugprone-suspicious-include): helpers of another folder */

#define FIELDS 64

static const struct note_block *block;
static struct arena arena;

/* The bytes of a canonical "..." text; `*ret_end` is what follows it. */
static struct slice unquote(const char *text, const char **ret_end)
{
    char *bytes = arena_alloc(&arena, strlen(text) + 1);
    size_t length = 0;

    CHECK(bytes != NULL && text[0] == '"');
    for (text++; *text != '"'; length++) {
        CHECK(*text != 0);
        if (*text == '\\') {
            bytes[length] = (char)(digit(text[2]) << 4 | digit(text[3]));
            text += 4;
        } else {
            bytes[length] = *text++;
        }
    }
    *ret_end = text + 1;
    return (struct slice){bytes, length};
}

static struct slice unquote_all(const char *text)
{
    const char *end;
    struct slice bytes = unquote(text, &end);

    CHECK(*end == 0);
    return bytes;
}

/* --- REQUEST ----------------------------------------------------------------------------------- */

struct request {
    struct request_head head;
    struct head_wire_context context;
    struct conn_identity identity;
    struct field fields[FIELDS];
};

static enum http_version version_of(struct slice text)
{
    return slice_equal(text, SLICE("1.0"))   ? HTTP_1_0
           : slice_equal(text, SLICE("1.1")) ? HTTP_1_1
           : slice_equal(text, SLICE("2"))   ? HTTP_2
                                             : HTTP_3;
}

static unsigned endpoint(const char *value, struct slice *ret_host)
{
    const char *end;

    *ret_host = unquote(value, &end);
    CHECK(*end == ' ');
    return strcmp(end + 1, "-") == 0 ? 0 : (unsigned)strtoul(end + 1, NULL, 10);
}

static void set_field(struct request *request, const char *value)
{
    const char *end;
    struct field *field = &request->fields[request->head.field_count++];

    CHECK(request->head.field_count <= FIELDS);
    field->name = unquote(value, &end);
    field->value = unquote_all(end + 1);
}

static void set_tls(struct request *request, const char *value)
{
    char *end;

    request->identity.secure = strcmp(value, "nil") != 0;
    if (request->identity.secure) {
        request->identity.tls_version = (uint16_t)strtoul(value, &end, 10);
        request->identity.tls_cipher = (uint16_t)strtoul(end, &end, 10);
        request->context.tls_conn = (uint32_t)strtoul(end, &end, 10);
    }
}

static void set_extension(struct request *request, const char *value)
{
    request->head.te_trailers |= strcmp(value, "trailers true") == 0;
    request->context.early_hints |= strcmp(value, "early_hints true") == 0;
    if (strncmp(value, "priority", 8) == 0 || strncmp(value, "early_data", 10) == 0) {
        SKIP("no HTTP version of this gateway has this extension yet");
    }
}

/* One field: line. */
static void set(struct request *request, const char *key, size_t length, const char *value)
{
    struct slice name = {key, length};
    struct request_head *head = &request->head;

    if (slice_equal(name, SLICE("kind"))) {
        head->kind = value[0] == '1' ? REQUEST_WEBSOCKET : REQUEST_HTTP;
    } else if (slice_equal(name, SLICE("method"))) {
        head->method = unquote_all(value);
    } else if (slice_equal(name, SLICE("http_version"))) {
        head->version = version_of(unquote_all(value));
    } else if (slice_equal(name, SLICE("scheme"))) {
        request->context.scheme = unquote_all(value);
    } else if (slice_equal(name, SLICE("path"))) {
        head->path = unquote_all(value);
    } else if (slice_equal(name, SLICE("raw_path"))) {
        head->raw_path = strcmp(value, "nil") == 0 ? head->path : unquote_all(value);
    } else if (slice_equal(name, SLICE("query"))) {
        head->query = unquote_all(value);
    } else if (slice_equal(name, SLICE("root_path"))) {
        request->context.root_path = unquote_all(value);
    } else if (slice_equal(name, SLICE("client"))) {
        if (strcmp(value, "nil") != 0) {
            request->identity.client_port = endpoint(value, &request->identity.client_host);
        }
    } else if (slice_equal(name, SLICE("server"))) {
        request->identity.server_port = endpoint(value, &request->identity.server_host);
    } else if (slice_equal(name, SLICE("header"))) {
        set_field(request, value);
    } else if (slice_equal(name, SLICE("tls"))) {
        set_tls(request, value);
    } else {
        CHECK(slice_equal(name, SLICE("extension")));
        set_extension(request, value);
    }
}

static void run_request(const struct note_bytes *bytes)
{
    static struct request request;
    struct strbuf out;

    request = (struct request){.head = {.content_length = -1}};
    for (size_t i = 0; i < block->count; i++) {
        if (strcmp(block->lines[i].key, "field") == 0) {
            const char *rest = block->lines[i].rest;
            size_t length = strcspn(rest, "=");
            set(&request, rest, length, rest + length + 1);
        }
    }
    request.head.fields = request.fields;
    request.context.identity = &request.identity;
    strbuf_init(&out);
    head_wire_request(&out, &request.head, &request.context);
    CHECK(!out.failed);
    CHECK_EQ_INT(out.length, bytes->length);
    CHECK_EQ_MEM(out.data, bytes->data, out.length);
    strbuf_done(&out);
}

/* --- RESPONSE, TRAILERS ------------------------------------------------------------------------ */

static void compare_fields(const struct field *fields, size_t count)
{
    size_t next = 0;

    for (size_t i = 0; i < block->count; i++) {
        if (strcmp(block->lines[i].key, "field") != 0) {
            continue;
        }
        const char *rest = block->lines[i].rest, *end;
        CHECK(strncmp(rest, "header=", 7) == 0 && next < count);
        CHECK(slice_equal(unquote(rest + 7, &end), fields[next].name));
        CHECK(slice_equal(unquote_all(end + 1), fields[next].value));
        next++;
    }
    CHECK_EQ_INT(next, count);
}

static void run_response(const struct note_bytes *bytes)
{
    struct response_head head = {.status = 200, .content_length = -1};
    const char *text = NULL;
    struct slice input = {(const char *)bytes->data, bytes->length};
    enum error error = head_wire_fields(&arena, input, &head.fields, &head.field_count);

    if (error == ERROR_NONE) {
        error = response_head_check(&arena, &head, &text);
    }
    if (note_get(block, "ok") != NULL) {
        CHECK_EQ_INT(error, ERROR_NONE);
        compare_fields(head.fields, head.field_count);
    } else {
        CHECK(error == ERROR_PROTOCOL || error == ERROR_INVALID);
    }
}

/* --- main -------------------------------------------------------------------------------------- */

static void run_block(void)
{
    const char *head = note_get(block, "head");
    static struct note_bytes bytes; /* static: a test may leave by longjmp */

    note_clear(&bytes);
    note_hex_lines(&bytes, block);
    if (strcmp(head, "request") == 0) {
        run_request(&bytes);
    } else {
        run_response(&bytes);
    }
}

/* What the gateway does not write or read in app/ is checked elsewhere. */
static bool concerns_app(void)
{
    const char *head = note_get(block, "head");
    bool request = strcmp(head, "request") == 0 && note_get(block, "canonical") != NULL;

    return request || strcmp(head, "response") == 0 || strcmp(head, "trailers") == 0;
}

static int number, failures;

/* A guard against an empty folder, which would pass. */
TEST(there_are_vectors)
{
    CHECK(number > 70);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* what was printed before a crash is seen */
    for (block = note_load("protocol/vectors", "heads-"); block != NULL; block = block->next) {
        if (!concerns_app()) {
            continue;
        }
        number++;
        arena_init(&arena, 4096);
        int result = setjmp(check_leave);
        if (result == 0) {
            run_block();
        }
        failures += result == 1;
        printf("%s %d - %s%s%s\n", result == 1 ? "not ok" : "ok", number, block->name,
               result == 2 ? " # SKIP " : "", result == 2 ? check_skip_reason : "");
        arena_done(&arena);
    }
    if (setjmp(check_leave) == 0) {
        check_first->run();
    } else {
        printf("not ok %d - %s\n", ++number, check_first->name);
        failures++;
    }
    printf("1..%d\n", number);
    return failures == 0 ? 0 : 1;
}
