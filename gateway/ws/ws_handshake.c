/* SPDX-License-Identifier: MIT */
/* Refuses what is wrong with a sentence that says so, and derives Sec-WebSocket-Accept. */
#include "ws/ws_handshake.h"

#include <string.h>

#include "http/fields.h"
#include "ws/ws_sha1.h"

#define KEY_LENGTH 24 /* 16 bytes in Base64 */
/* Fields of the handshake in an answer, besides the app's. */
#define OWN_FIELDS 3

/* The only field of this name; NULL when there is none or more than one. */
static const struct field *single(const struct request_head *request, struct slice name)
{
    const struct field *field = head_find(request->fields, request->field_count, name);
    if (field == NULL) {
        return NULL;
    }
    size_t after = (size_t)(field - request->fields) + 1;
    bool again = head_find(field + 1, request->field_count - after, name) != NULL;
    return again ? NULL : field;
}

static bool is_base64(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* RFC 6455 4.1: 16 bytes in Base64. */
static bool key_valid(const struct field *field)
{
    if (field == NULL || field->value.length != KEY_LENGTH) {
        return false;
    }
    const char *key = field->value.data;
    for (size_t i = 0; i < KEY_LENGTH - 2; i++) {
        if (!is_base64(key[i])) {
            return false;
        }
    }
    return key[KEY_LENGTH - 2] == '=' && key[KEY_LENGTH - 1] == '=';
}

/* Programs that are no browser send no Origin: the list guards browsers' users against foreign pages. */
static bool origin_accepted(const struct request_head *request, const struct ws_settings *settings)
{
    const struct field *field = head_find(request->fields, request->field_count, SLICE("origin"));
    if (settings->origin_count == 0 || field == NULL) {
        return true;
    }
    for (size_t i = 0; i < settings->origin_count; i++) {
        if (slice_equal_nocase(field->value, settings->origins[i])) {
            return true;
        }
    }
    return false;
}

enum ws_verdict ws_handshake_judge(const struct request_head *request,
                                   const struct ws_settings *settings, const char **ret_text)
{
    const struct field *version = single(request, SLICE("sec-websocket-version"));
    if (!slice_equal(request->method, SLICE("GET"))) {
        *ret_text = "A WebSocket begins with GET.";
        return WS_VERDICT_BAD;
    }
    if (version == NULL || !slice_equal(version->value, SLICE("13"))) {
        *ret_text = "This server speaks version 13 of WebSocket.";
        return WS_VERDICT_VERSION;
    }
    bool has_key = request->version < HTTP_2; /* RFC 8441 5.1 has none */
    if (has_key && !key_valid(single(request, SLICE("sec-websocket-key")))) {
        *ret_text = "The field Sec-WebSocket-Key is missing or malformed.";
        return WS_VERDICT_BAD;
    }
    if (!origin_accepted(request, settings)) {
        *ret_text = "WebSockets from this origin are not accepted.";
        return WS_VERDICT_ORIGIN;
    }
    return WS_VERDICT_GOOD;
}

bool ws_handshake_offers(const struct request_head *request, struct slice subprotocol)
{
    for (size_t i = 0; i < request->field_count; i++) {
        struct slice rest = request->fields[i].value;
        if (!slice_equal(request->fields[i].name, SLICE("sec-websocket-protocol"))) {
            continue;
        }
        while (rest.data != NULL) {
            if (slice_equal(slice_trim(slice_cut(rest, ',', &rest)), subprotocol)) {
                return true;
            }
        }
    }
    return false;
}

enum error ws_handshake_check_fields(struct arena *arena, struct field *fields, size_t *count,
                                     const char **ret_text)
{
    static const struct slice own = {"sec-websocket-", 14};
    for (size_t i = 0; i < *count; i++) {
        struct slice name = fields[i].name;
        struct slice begin = {name.data, name.length < own.length ? name.length : own.length};
        if (slice_equal_nocase(begin, own) || slice_equal_nocase(name, SLICE("connection")) ||
            slice_equal_nocase(name, SLICE("upgrade")) ||
            slice_equal_nocase(name, SLICE("content-length"))) {
            *ret_text = "a field of the handshake among the fields of WS_ACCEPT";
            return ERROR_INVALID;
        }
    }
    struct response_head head = {.status = 200, .fields = fields, .field_count = *count};
    enum error error = response_head_check(arena, &head, ret_text);
    *count = head.field_count;
    return error;
}

/* RFC 6455 4.2.2, 5.4. */
static struct slice accept_value(struct arena *arena, struct slice key)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[KEY_LENGTH + sizeof guid - 1];
    uint8_t digest[WS_SHA1_SIZE];
    char value[WS_BASE64_SIZE(WS_SHA1_SIZE)];
    REQUIRE(key.length == KEY_LENGTH);
    memcpy(text, key.data, KEY_LENGTH);
    memcpy(text + KEY_LENGTH, guid, sizeof guid - 1);
    ws_sha1((struct slice){text, sizeof text}, digest);
    ws_base64(digest, sizeof digest, value);
    return arena_copy(arena, (struct slice){value, sizeof value});
}

enum error ws_handshake_answer(struct arena *arena, const struct request_head *request,
                               const struct ws_deflate_params *deflate, struct slice subprotocol,
                               const struct field *fields, size_t count,
                               struct response_head *ret_head)
{
    struct field *all = arena_calloc(arena, count + OWN_FIELDS, sizeof *all);
    size_t used = 0;
    if (all == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (request->version < HTTP_2) {
        struct slice key = single(request, SLICE("sec-websocket-key"))->value;
        all[used++] = (struct field){SLICE("sec-websocket-accept"), accept_value(arena, key)};
    }
    if (subprotocol.length > 0) {
        all[used++] = (struct field){SLICE("sec-websocket-protocol"), subprotocol};
    }
    if (deflate->enabled) {
        all[used++] =
            (struct field){SLICE("sec-websocket-extensions"), ws_deflate_answer(arena, deflate)};
    }
    for (size_t i = 0; i < used; i++) {
        if (all[i].value.data == NULL) {
            return ERROR_NO_MEMORY;
        }
    }
    if (count > 0) {
        memcpy(all + used, fields, count * sizeof *fields);
    }
    *ret_head =
        (struct response_head){.fields = all, .field_count = used + count, .content_length = -1};
    return ERROR_NONE;
}
