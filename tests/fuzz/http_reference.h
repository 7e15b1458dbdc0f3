/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 requests read in the plainest way, for fuzz targets that compare: what a head that was accepted says, and what the
 * body behind it is. Shares no code with gateway/ but strbuf and slice; judges nothing (it is only shown what was accepted).
 */
#ifndef TESTS_FUZZ_HTTP_REFERENCE_H
#define TESTS_FUZZ_HTTP_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/strbuf.h"

struct reference_field {
    struct slice name,
        value; /* as sent, without white space around the value; they borrow from the head */
};

/* One request head. */
struct reference_head {
    struct slice method, target, version; /* version is "HTTP/1.1" */
    struct strbuf origin;                 /* the target in origin-form */
    struct slice raw_path, query;         /* of `origin` */
    struct strbuf path;                   /* raw_path decoded, always UTF-8 */
    struct reference_field *fields;
    size_t field_count;
};

/* Reads a head that ends in an empty line. reference_head_done frees what it holds. */
void reference_head_read(struct reference_head *head, struct slice bytes);
void reference_head_done(struct reference_head *head);
/* How many fields have this name (in lower case; any case counts), and the first one's value. */
size_t reference_count(const struct reference_head *head, struct slice name,
                       struct slice *ret_first);
/* Whether the comma-separated lists of all fields of this name have this word (parameters aside). */
bool reference_list_has(const struct reference_head *head, struct slice name, struct slice word);
/* Appends the text with U+FFFD for each maximal part that is no UTF-8 (Unicode 3.9). */
void reference_utf8(struct slice text, struct strbuf *out);

/* What is known of a body. */
struct reference_body {
    struct strbuf payload;
    size_t used;   /* bytes of the message behind its head, as far as they are there */
    bool complete; /* all of it is there */
};

/* Reads the body that the head announces from the bytes behind it. */
void reference_body_read(struct reference_body *body, const struct reference_head *head,
                         struct slice bytes);
void reference_body_done(struct reference_body *body);

#endif
