/* SPDX-License-Identifier: MIT */
/* The Forwarded field (RFC 7239). It owns nothing. */
#include "app/forwarded.h"

#include "http/fields.h"

/* Takes spaces and tabs off the beginning. */
static void skip_space(struct slice *rest)
{
    while (rest->length > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t')) {
        *rest = slice_skip(*rest, 1);
    }
}

/* Takes what is before the first of `stops` off. */
static struct slice take_until(struct slice *rest, const char *stops)
{
    size_t length = 0;
    while (length < rest->length && strchr(stops, rest->data[length]) == NULL) {
        length++;
    }
    struct slice taken = {rest->data, length};
    *rest = slice_skip(*rest, length);
    return taken;
}

/* A quoted-string (RFC 9110 5.6.4) without its quotes. What has an escape in it is refused: no address, name or scheme needs one. */
static bool take_quoted(struct slice *rest, struct slice *ret_value)
{
    *rest = slice_skip(*rest, 1);
    struct slice value = take_until(rest, "\"\\");
    if (rest->length == 0 || rest->data[0] != '"') {
        return false;
    }
    *rest = slice_skip(*rest, 1);
    *ret_value = value;
    return true;
}

/* forwarded-pair: token "=" value; each name once in a hop. */
static bool take_pair(struct slice *rest, struct forwarded_hop *hop)
{
    struct slice name = take_until(rest, "=;, \t");
    struct slice value;

    if (!field_name_valid(name) || rest->length < 2 || rest->data[0] != '=') {
        return false;
    }
    *rest = slice_skip(*rest, 1);
    if (rest->data[0] == '"') {
        if (!take_quoted(rest, &value)) {
            return false;
        }
    } else {
        /* Not every proxy quotes what has a colon or brackets in it, as the grammar wants. */
        value = take_until(rest, ";, \t\"");
    }
    struct slice *place = slice_equal_nocase(name, SLICE("for"))     ? &hop->node
                          : slice_equal_nocase(name, SLICE("host"))  ? &hop->host
                          : slice_equal_nocase(name, SLICE("proto")) ? &hop->proto
                                                                     : NULL;
    if (place != NULL) {
        if (place->length > 0) {
            return false;
        }
        *place = value;
    }
    return true;
}

/* forwarded-element: pairs with ";" between them. */
static bool take_hop(struct slice *rest, struct forwarded_hop *hop)
{
    *hop = (struct forwarded_hop){{NULL, 0}, {NULL, 0}, {NULL, 0}};
    for (;;) {
        skip_space(rest);
        if (rest->length > 0 && rest->data[0] != ';' && rest->data[0] != ',' &&
            !take_pair(rest, hop)) {
            return false;
        }
        skip_space(rest);
        if (rest->length == 0 || rest->data[0] == ',') {
            return true;
        }
        if (rest->data[0] != ';') {
            return false;
        }
        *rest = slice_skip(*rest, 1);
    }
}

size_t forwarded_read(const struct request_head *head,
                      struct forwarded_hop hops[FORWARDED_HOPS_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < head->field_count; i++) {
        struct slice rest = head->fields[i].value;
        if (!slice_equal(head->fields[i].name, SLICE("forwarded"))) {
            continue;
        }
        for (;;) {
            if (count == FORWARDED_HOPS_MAX || !take_hop(&rest, &hops[count])) {
                return 0;
            }
            count++;
            if (rest.length == 0) {
                break;
            }
            rest = slice_skip(rest, 1);
        }
    }
    return count;
}
