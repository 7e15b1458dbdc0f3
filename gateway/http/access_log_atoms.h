/* SPDX-License-Identifier: MIT */
/*
 * The atoms of the access log, and what its JSON form shares with them. Internal to http/access_log*.c.
 */
#ifndef GATEWAY_HTTP_ACCESS_LOG_ATOMS_H
#define GATEWAY_HTTP_ACCESS_LOG_ATOMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/strbuf.h"

struct exchange;

struct access_log_atom {
    const char *name; /* "{header}i" stands for every name in braces, which becomes the argument */
    void (*append)(const struct exchange *exchange, struct slice argument, struct strbuf *out);
    const char *meaning;
};

extern const struct access_log_atom access_log_atoms[];
extern const size_t access_log_atom_count;

/* Appends the argument as it is: the text between atoms. */
void access_log_literal(const struct exchange *exchange, struct slice argument, struct strbuf *out);
/* Appends bytes that somebody else chose, escaped; "-" for none in the second. */
void access_log_escape(struct slice bytes, struct strbuf *out);
void access_log_escape_or_dash(struct slice bytes, struct strbuf *out);
/* Nanoseconds from the first byte of the request to its end. */
uint64_t access_log_duration(const struct exchange *exchange);
/* "1.000123". */
void access_log_seconds(uint64_t time, struct strbuf *out);
/* "HTTP/1.1". */
struct slice access_log_protocol(const struct exchange *exchange);
/* Who sent the request: behind a trusted proxy its client, otherwise the peer. */
struct slice access_log_client(const struct exchange *exchange);
/* Whether the client got a response head. */
bool access_log_has_status(const struct exchange *exchange);

#endif
