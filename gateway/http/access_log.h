/* SPDX-License-Identifier: MIT */
/*
 * The access log: a format compiled once, then one line per exchange from its plain fields. "combined", "json", or a format
 * string with the atoms of Gunicorn and Hypercorn. Everything that a client chose is escaped (controls, DEL, quote and
 * backslash as \xNN), so that no request can forge a line.
 */
#ifndef GATEWAY_HTTP_ACCESS_LOG_H
#define GATEWAY_HTTP_ACCESS_LOG_H

#include "base/error.h"
#include "base/slice.h"
#include "base/strbuf.h"

struct access_log;
struct exchange;

/* Compiles a format. On ERROR_INVALID `error_text` says at which character, what, and which atoms exist. */
enum error access_log_new(struct slice format, struct access_log **ret_log, char *error_text,
                          size_t error_size) MUST_CHECK;
void access_log_free(struct access_log *log);
/* Formats the line of an ended exchange (client half still attached) into `out`, without newline. */
void access_log_format(const struct access_log *log, const struct exchange *exchange,
                       struct strbuf *out);
/* The i-th atom ("h", "{header}i") and what it stands for, NULL behind the last: for documentation. */
const char *access_log_atom(size_t i, const char **ret_meaning);
/* Formats and queues it for the log writer. */
void access_log_write(const struct access_log *log, const struct exchange *exchange);

#endif
