/* SPDX-License-Identifier: MIT */
/*
 * A borrowed run of bytes: pointer and length, no owner, no NUL behind it.
 */
#ifndef GATEWAY_BASE_SLICE_H
#define GATEWAY_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *data; /* may be NULL only when length is 0 */
    size_t length;
};

/* A slice of a string literal. */
#define SLICE(literal) ((struct slice){("" literal), sizeof(literal) - 1})
/* printf("%.*s", SLICE_PRINT(s)). */
#define SLICE_PRINT(s) ((int)(s).length), ((s).data ? (s).data : "")

/* The slice of a NUL-terminated string (NULL: empty). */
static inline struct slice slice_from(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* Without its first `count` <= length bytes. (To add 0 to NULL is undefined in C17: hence not by
 * hand.) */
static inline struct slice slice_skip(struct slice s, size_t count)
{
    return count == 0 ? s : (struct slice){s.data + count, s.length - count};
}

/* Equal but for the case of ASCII letters. */
bool slice_equal_nocase(struct slice a, struct slice b);
/* Whether `s` starts with `prefix`. */
bool slice_starts_with(struct slice s, struct slice prefix);
/* Without spaces and tabs at both ends (RFC 9110 5.6.3 OWS). */
struct slice slice_trim(struct slice s);
/* Cuts at the first `separator`: the part before it is returned, `*rest` is what follows it
 * (data NULL when there was none). */
struct slice slice_cut(struct slice s, char separator, struct slice *rest);
/* Parses a decimal number of digits only, at most `max`; false for anything else, an empty slice
 * too. */
bool slice_to_uint(struct slice s, unsigned long long max, unsigned long long *ret_value);

#endif
