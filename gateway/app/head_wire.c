/* SPDX-License-Identifier: MIT */
/*
 * Heads in msgpack, shaped for a reader in pure Python: positional, all fields in one bin joined by NUL. The hot path writes
 * into the loop's buffer and allocates nothing.
 */
#include "app/head_wire.h"

#include <stdio.h>

#include "ipc/frame_defs.h"
#include "ipc/pack.h"

/* The most that stands before the bytes of a text. */
#define PACK_HEAD 5

static struct slice version_text(enum http_version version)
{
    switch (version) {
    case HTTP_1_0:
        return SLICE("1.0");
    case HTTP_1_1:
        return SLICE("1.1");
    case HTTP_2:
        return SLICE("2");
    case HTTP_3:
        return SLICE("3");
    }
    REQUIRE(!"a version without a name");
    return SLICE("");
}

/* Whether a name begins so. "_" counts as "-": apps that see fields by their CGI names cannot tell one from the other. */
static bool begins_like(struct slice name, struct slice start)
{
    size_t i = 0;
    while (i < start.length && i < name.length &&
           (name.data[i] == '_' ? '-' : name.data[i]) == start.data[i]) {
        i++;
    }
    return i == start.length;
}

/* Fields by which a proxy speaks of its client; from anybody else they are a forgery (threat model, row 21). */
static bool is_forwarded(struct slice name)
{
    return slice_equal(name, SLICE("forwarded")) ||
           (name.length == SLICE("x-real-ip").length && begins_like(name, SLICE("x-real-ip"))) ||
           begins_like(name, SLICE("x-forwarded-"));
}

/* The value that the worker sees: a trusted proxy may have said another host. */
static struct slice value_of(const struct field *field, const struct head_wire_context *context)
{
    bool replaced = context->host.length > 0 && slice_equal(field->name, SLICE("host"));
    return replaced ? context->host : field->value;
}

static bool is_cookie(const struct field *field)
{
    return slice_equal(field->name, SLICE("cookie"));
}

/* Whether a field has its own place in the block: crumbs behind the first cookie are joined to it (SPEC R44, RFC 9113 8.2.3). */
static bool stands_alone(const struct request_head *head, size_t index,
                         const struct head_wire_context *context)
{
    const struct field *field = &head->fields[index];
    if (context->strip_forwarded && is_forwarded(field->name)) {
        return false;
    }
    for (size_t i = 0; i < index && is_cookie(field); i++) {
        if (is_cookie(&head->fields[i])) {
            return false;
        }
    }
    return true;
}

/* How many bytes follow a cookie's own value: "; " and a crumb, for each later one. */
static size_t crumbs_length(const struct request_head *head, size_t index)
{
    size_t length = 0;
    for (size_t i = index + 1; i < head->field_count; i++) {
        length += is_cookie(&head->fields[i]) ? head->fields[i].value.length + 2 : 0;
    }
    return length;
}

static void append_crumbs(struct strbuf *out, const struct request_head *head, size_t index)
{
    for (size_t i = index + 1; i < head->field_count; i++) {
        if (is_cookie(&head->fields[i])) {
            strbuf_append_text(out, "; ");
            strbuf_append_slice(out, head->fields[i].value);
        }
    }
}

static void pack_fields(struct strbuf *out, const struct request_head *head,
                        const struct head_wire_context *context)
{
    size_t length = 0;
    for (size_t i = 0; i < head->field_count; i++) {
        const struct field *field = &head->fields[i];
        if (stands_alone(head, i, context)) {
            length += field->name.length + value_of(field, context).length + 2;
            length += is_cookie(field) ? crumbs_length(head, i) : 0;
        }
    }
    pack_bin_head(out, length == 0 ? 0 : (uint32_t)(length - 1));
    bool first = true;
    for (size_t i = 0; i < head->field_count; i++) {
        const struct field *field = &head->fields[i];
        if (!stands_alone(head, i, context)) {
            continue;
        }
        if (!first) {
            strbuf_append_char(out, '\0');
        }
        first = false;
        strbuf_append_slice(out, field->name);
        strbuf_append_char(out, '\0');
        strbuf_append_slice(out, value_of(field, context));
        if (is_cookie(field)) {
            append_crumbs(out, head, i);
        }
    }
}

/* `host\0port`, or `path\0` for a Unix socket (SPEC R43). */
static void pack_endpoint(struct strbuf *out, struct slice host, unsigned port, bool has_port)
{
    char text[8] = "";
    int digits = has_port ? snprintf(text, sizeof text, "%u", port) : 0;
    pack_bin_head(out, (uint32_t)(host.length + 1 + (size_t)digits));
    strbuf_append_slice(out, host);
    strbuf_append_char(out, '\0');
    strbuf_append(out, text, (size_t)digits);
}

static void pack_extensions(struct strbuf *out, const struct request_head *head, bool early_hints)
{
    uint32_t count =
        (head->te_trailers ? 1u : 0u) + (early_hints ? 1u : 0u) + (head->prioritised ? 1u : 0u);
    if (count == 0) {
        pack_nil(out);
        return;
    }
    pack_map(out, count);
    if (head->te_trailers) {
        pack_text(out, SLICE("trailers"));
        pack_bool(out, true);
    }
    if (early_hints) {
        pack_text(out, SLICE("early_hints"));
        pack_bool(out, true);
    }
    if (head->prioritised) {
        pack_text(out, SLICE("priority"));
        pack_array(out, 2);
        pack_uint(out, head->urgency);
        pack_bool(out, head->incremental);
    }
}

void head_wire_request(struct strbuf *out, const struct request_head *head,
                       const struct head_wire_context *context)
{
    const struct conn_identity *identity = context->identity;
    pack_array(out, 13);
    pack_uint(out, head->kind == REQUEST_WEBSOCKET ? FRAME_KIND_WEBSOCKET : FRAME_KIND_HTTP);
    pack_text(out, head->method);
    pack_text(out, version_text(head->version));
    pack_text(out, context->scheme);
    pack_text(out, head->path);
    if (slice_equal(head->path, head->raw_path)) {
        pack_nil(out);
    } else {
        pack_bin(out, head->raw_path);
    }
    pack_bin(out, head->query);
    pack_text(out, context->root_path);
    if (identity->client_host.length == 0) {
        pack_nil(out);
    } else {
        pack_endpoint(out, identity->client_host, identity->client_port, true);
    }
    pack_endpoint(out, identity->server_host, identity->server_port, identity->server_port != 0);
    pack_fields(out, head, context);
    if (identity->secure) {
        pack_array(out, 3);
        pack_uint(out, identity->tls_version);
        pack_uint(out, identity->tls_cipher);
        pack_uint(out, context->tls_conn);
    } else {
        pack_nil(out);
    }
    pack_extensions(out, head, context->early_hints);
}

static size_t count_nuls(struct slice block)
{
    size_t count = 0;
    for (size_t i = 0; i < block.length; i++) {
        count += block.data[i] == '\0';
    }
    return count;
}

/* Splits a copied field block in place. */
static enum error split_block(struct arena *arena, struct slice block, struct field **ret_fields,
                              size_t *ret_count)
{
    if (block.length == 0) {
        *ret_fields = NULL;
        *ret_count = 0;
        return ERROR_NONE;
    }
    size_t nuls = count_nuls(block);
    if (nuls % 2 == 0) {
        return ERROR_PROTOCOL; /* SPEC R39: an odd tail */
    }
    size_t count = (nuls + 1) / 2;
    struct field *fields = arena_alloc(arena, count * sizeof *fields);
    struct slice rest = arena_copy(arena, block);
    if (fields == NULL || rest.data == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        fields[i].name = slice_cut(rest, '\0', &rest);
        fields[i].value = slice_cut(rest, '\0', &rest);
    }
    *ret_fields = fields;
    *ret_count = count;
    return ERROR_NONE;
}

enum error head_wire_fields(struct arena *arena, struct slice bytes, struct field **ret_fields,
                            size_t *ret_count)
{
    struct pack_value value;
    enum error error = pack_decode(arena, bytes, &value);
    if (error != ERROR_NONE) {
        return error;
    }
    if (value.type != PACK_ARRAY || value.count != 1 || value.items[0].type != PACK_BIN) {
        return ERROR_PROTOCOL;
    }
    return split_block(arena, value.items[0].bytes, ret_fields, ret_count);
}

enum error head_wire_accept(struct arena *arena, struct slice bytes, struct slice *ret_subprotocol,
                            struct field **ret_fields, size_t *ret_count)
{
    struct pack_value value;
    enum error error = pack_decode(arena, bytes, &value);
    if (error != ERROR_NONE) {
        return error;
    }
    if (value.type != PACK_ARRAY || value.count != 2 || value.items[1].type != PACK_BIN ||
        (value.items[0].type != PACK_TEXT && value.items[0].type != PACK_NIL)) {
        return ERROR_PROTOCOL;
    }
    *ret_subprotocol = (struct slice){NULL, 0};
    if (value.items[0].type == PACK_TEXT) {
        *ret_subprotocol = arena_copy(arena, value.items[0].bytes);
        if (ret_subprotocol->data == NULL) {
            return ERROR_NO_MEMORY;
        }
        if (ret_subprotocol->length == 0) {
            return ERROR_PROTOCOL; /* no client can offer it */
        }
    }
    return split_block(arena, value.items[1].bytes, ret_fields, ret_count);
}

/* Bounds of the map's rows (SPEC section 4, CONN), and what its keys and heads need at most. */
#define CONN_CERTIFICATES 16
#define CONN_NAME_MAX 4096
#define CONN_SERVER_CERT_MAX 16384
#define CONN_OVERHEAD 256

/* The certificates of a concatenated PEM, one text each, as many as fit into `max` bytes. */
static uint32_t split_pem(struct slice pem, size_t max, struct slice out[CONN_CERTIFICATES])
{
    static const char end_line[] = "-----END CERTIFICATE-----";
    uint32_t count = 0;
    while (count < CONN_CERTIFICATES) {
        const char *end =
            pem.length == 0 ? NULL : memmem(pem.data, pem.length, end_line, sizeof end_line - 1);
        if (end == NULL) {
            break;
        }
        size_t length = (size_t)(end - pem.data) + sizeof end_line - 1;
        if (length < pem.length && pem.data[length] == '\n') {
            length++;
        }
        if (length + PACK_HEAD > max) {
            break;
        }
        max -= length + PACK_HEAD;
        out[count++] = (struct slice){pem.data, length};
        pem = (struct slice){pem.data + length, pem.length - length};
    }
    return count;
}

static void pack_text_or_nil(struct strbuf *out, struct slice text)
{
    if (text.length > 0) {
        pack_text(out, text);
    } else {
        pack_nil(out);
    }
}

void head_wire_conn(struct strbuf *out, const struct conn_identity *identity, size_t max)
{
    struct slice certificates[CONN_CERTIFICATES];
    struct slice none = {NULL, 0};
    /* A name that is cut would be another name. */
    struct slice name =
        identity->client_name.length <= CONN_NAME_MAX ? identity->client_name : none;
    struct slice server =
        identity->server_cert_pem.length <= CONN_SERVER_CERT_MAX ? identity->server_cert_pem : none;
    size_t others = CONN_OVERHEAD + name.length + server.length;
    REQUIRE(max > others);
    uint32_t count = split_pem(identity->client_chain_pem, max - others, certificates);
    pack_map(out, 4);
    pack_text(out, SLICE("client_cert_chain"));
    pack_array(out, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_text(out, certificates[i]);
    }
    pack_text(out, SLICE("client_cert_name"));
    pack_text_or_nil(out, name);
    pack_text(out, SLICE("client_cert_error"));
    pack_nil(out);
    pack_text(out, SLICE("server_cert"));
    pack_text_or_nil(out, server);
}
