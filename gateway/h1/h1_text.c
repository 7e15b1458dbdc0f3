/* SPDX-License-Identifier: MIT */
/* Tokens that arrive in pieces. It bounds nothing: its user counts what it appends. */
#include "h1/h1_text.h"

#include <string.h>

#define TEXT_REGION 1024

void h1_text_init(struct h1_text *text, struct arena *arena)
{
    *text = (struct h1_text){.arena = arena};
}

/* Room for `length` more bytes; the token moves to a new region when the old one is full. */
static bool reserve(struct h1_text *text, size_t length)
{
    if (text->capacity - text->used >= length) {
        return true;
    }
    size_t token_length = text->used - text->token;
    size_t capacity = (token_length + length) * 2;
    if (capacity < TEXT_REGION) {
        capacity = TEXT_REGION;
    }
    char *data = arena_alloc(text->arena, capacity);
    if (data == NULL) {
        return false;
    }
    if (token_length > 0) {
        memcpy(data, text->data + text->token, token_length);
    }
    text->data = data;
    text->capacity = capacity;
    text->used = token_length;
    text->token = 0;
    return true;
}

bool h1_text_append(struct h1_text *text, const char *bytes, size_t length)
{
    if (!reserve(text, length)) {
        return false;
    }
    if (length > 0) {
        memcpy(text->data + text->used, bytes, length);
    }
    text->used += length;
    return true;
}

bool h1_text_append_lower(struct h1_text *text, const char *bytes, size_t length)
{
    if (!reserve(text, length)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        text->data[text->used + i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    text->used += length;
    return true;
}

struct slice h1_text_token(const struct h1_text *text)
{
    if (text->used == text->token) {
        return (struct slice){"", 0};
    }
    return (struct slice){text->data + text->token, text->used - text->token};
}

struct slice h1_text_finish(struct h1_text *text)
{
    struct slice token = h1_text_token(text);
    text->token = text->used;
    return token;
}

void h1_text_drop(struct h1_text *text)
{
    text->used = text->token;
}
