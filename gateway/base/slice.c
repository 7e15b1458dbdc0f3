/* SPDX-License-Identifier: MIT */
/* Comparing, cutting and reading of borrowed bytes. ASCII only: no locale is ever asked. */
#include "base/slice.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.length != b.length) {
        return false;
    }
    for (size_t i = 0; i < a.length; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.length >= prefix.length &&
           (prefix.length == 0 || memcmp(s.data, prefix.data, prefix.length) == 0);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.length > 0 && is_blank(s.data[0])) {
        s.data++;
        s.length--;
    }
    while (s.length > 0 && is_blank(s.data[s.length - 1])) {
        s.length--;
    }
    return s;
}

struct slice slice_cut(struct slice s, char separator, struct slice *rest)
{
    const char *found = s.length > 0 ? memchr(s.data, separator, s.length) : NULL;

    if (found == NULL) {
        *rest = (struct slice){NULL, 0};
        return s;
    }
    size_t before = (size_t)(found - s.data);
    *rest = (struct slice){found + 1, s.length - before - 1};
    return (struct slice){s.data, before};
}

bool slice_to_uint(struct slice s, unsigned long long max, unsigned long long *ret_value)
{
    unsigned long long value = 0;

    if (s.length == 0) {
        return false;
    }
    for (size_t i = 0; i < s.length; i++) {
        if (s.data[i] < '0' || s.data[i] > '9') {
            return false;
        }
        unsigned digit = (unsigned)(s.data[i] - '0');
        /* value * 10 + digit <= max, said without overflow. */
        if (value > max / 10 || digit > max - value * 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}
