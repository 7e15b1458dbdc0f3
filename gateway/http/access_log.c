/* SPDX-License-Identifier: MIT */
/*
 * The access log: a format string is compiled into a list of pieces once, and a line is the pieces in turn. It owns the compiled
 * format and reads exchanges; it knows no sink but log_queue.
 */
#include "http/access_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "http/access_log_atoms.h"
#include "http/conn.h"
#include "http/exchange.h"

#define ACCESS_LOG_MAGIC UINT32_C(0x414C4F47)
#define COMBINED "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\""

struct piece {
    void (*append)(const struct exchange *exchange, struct slice argument, struct strbuf *out);
    struct slice argument; /* literal text, or a header's name */
};

struct access_log {
    uint32_t magic;
    bool json;
    struct arena arena;
    struct piece *pieces;
    size_t count;
};

/* --- compiling ------------------------------------------------------------------------------------------------------ */

static enum error explain(char *text, size_t size, size_t at, const char *what)
{
    int length = snprintf(text, size, "at character %zu: %s; atoms are", at + 1, what);

    for (size_t i = 0; i < access_log_atom_count && length > 0 && (size_t)length < size; i++) {
        length +=
            snprintf(text + length, size - (size_t)length, " %%(%s)s", access_log_atoms[i].name);
    }
    return ERROR_INVALID;
}

/* The atom with this name; a name in braces becomes the argument. */
static const struct access_log_atom *find_atom(struct slice name, struct slice *ret_argument)
{
    struct slice tail = name;

    *ret_argument = SLICE("");
    if (name.length >= 3 && name.data[0] == '{' && name.data[name.length - 2] == '}') {
        *ret_argument = (struct slice){name.data + 1, name.length - 3};
        tail = (struct slice){name.data + name.length - 1, 1};
    }
    for (size_t i = 0; i < access_log_atom_count; i++) {
        struct slice candidate = slice_from(access_log_atoms[i].name);
        bool takes_argument = candidate.data[0] == '{';
        if (takes_argument && ret_argument->length > 0 &&
            candidate.data[candidate.length - 1] == tail.data[0]) {
            return &access_log_atoms[i];
        }
        if (!takes_argument && slice_equal(name, candidate)) {
            return &access_log_atoms[i];
        }
    }
    return NULL;
}

/* A header's name in lower case; the value of an environment variable, escaped. */
static struct slice prepare_argument(struct access_log *log, const struct access_log_atom *atom,
                                     struct slice argument)
{
    struct slice copy = arena_copy(&log->arena, argument);
    char *bytes = (char *)(uintptr_t)copy.data;

    if (copy.data == NULL) {
        return copy;
    }
    if (atom->append == access_log_literal) {
        struct strbuf value;
        strbuf_init(&value);
        access_log_escape_or_dash(slice_from(getenv(copy.data)), &value);
        copy = value.failed ? (struct slice){NULL, 0}
                            : arena_copy(&log->arena, (struct slice){value.data, value.length});
        strbuf_done(&value);
        return copy;
    }
    for (size_t i = 0; i < copy.length; i++) {
        bytes[i] = (char)(bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] + 32 : bytes[i]);
    }
    return copy;
}

static enum error add_piece(struct access_log *log, const struct access_log_atom *atom,
                            struct slice argument)
{
    struct slice prepared =
        atom != NULL ? prepare_argument(log, atom, argument) : arena_copy(&log->arena, argument);

    if (prepared.data == NULL) {
        return ERROR_NO_MEMORY;
    }
    log->pieces[log->count++] =
        (struct piece){atom != NULL ? atom->append : access_log_literal, prepared};
    return ERROR_NONE;
}

/* "%(name)s" or "%%" at `*at`, which moves behind it. */
static enum error compile_atom(struct access_log *log, struct slice format, size_t *at, char *text,
                               size_t text_size)
{
    size_t start = *at, end;
    struct slice argument;

    if (start + 1 < format.length && format.data[start + 1] == '%') {
        *at += 2;
        return add_piece(log, NULL, SLICE("%"));
    }
    if (start + 1 >= format.length || format.data[start + 1] != '(') {
        return explain(text, text_size, start, "a single % is neither %(atom)s nor %%");
    }
    for (end = start + 2; end < format.length && format.data[end] != ')'; end++) {
    }
    if (end + 1 >= format.length || (format.data[end + 1] != 's' && format.data[end + 1] != 'd')) {
        return explain(text, text_size, start, "%( does not end in )s");
    }
    const struct access_log_atom *atom =
        find_atom((struct slice){format.data + start + 2, end - start - 2}, &argument);
    if (atom == NULL) {
        char what[80]; /* a longer name is no atom of anybody's */
        snprintf(what, sizeof(what), "there is no atom %%%.*s", (int)(end + 1 - start),
                 format.data + start + 1);
        return explain(text, text_size, start, what);
    }
    *at = end + 2;
    return add_piece(log, atom, argument);
}

static enum error compile(struct access_log *log, struct slice format, char *text, size_t text_size)
{
    size_t percents = 0, at = 0;
    enum error error = ERROR_NONE;

    for (size_t i = 0; i < format.length; i++) {
        if (format.data[i] == '\n' || format.data[i] == '\r' || format.data[i] == '\0') {
            return explain(text, text_size, i, "a line break cannot be in a line");
        }
        percents += format.data[i] == '%';
    }
    log->pieces = arena_calloc(&log->arena, 2 * percents + 1, sizeof(*log->pieces));
    if (log->pieces == NULL) {
        return ERROR_NO_MEMORY;
    }
    while (at < format.length && error == ERROR_NONE) {
        const char *percent = memchr(format.data + at, '%', format.length - at);
        size_t end = percent != NULL ? (size_t)(percent - format.data) : format.length;
        if (end > at) {
            error = add_piece(log, NULL, (struct slice){format.data + at, end - at});
            at = end;
        } else {
            error = compile_atom(log, format, &at, text, text_size);
        }
    }
    return error;
}

enum error access_log_new(struct slice format, struct access_log **ret_log, char *error_text,
                          size_t error_size)
{
    struct access_log *log = mem_calloc(1, sizeof(*log));
    enum error error = ERROR_NONE;

    if (log == NULL) {
        return ERROR_NO_MEMORY;
    }
    log->magic = ACCESS_LOG_MAGIC;
    arena_init(&log->arena, 1024);
    log->json = slice_equal(format, SLICE("json"));
    if (!log->json) {
        error = compile(log, slice_equal(format, SLICE("combined")) ? SLICE(COMBINED) : format,
                        error_text, error_size);
    }
    if (error != ERROR_NONE) {
        access_log_free(log);
        return error;
    }
    *ret_log = log;
    return ERROR_NONE;
}

void access_log_free(struct access_log *log)
{
    if (log == NULL) {
        return;
    }
    REQUIRE_OBJECT(log, ACCESS_LOG_MAGIC);
    log->magic = MAGIC_FREED;
    arena_done(&log->arena);
    mem_free(log);
}

const char *access_log_atom(size_t i, const char **ret_meaning)
{
    if (i >= access_log_atom_count) {
        return NULL;
    }
    *ret_meaning = access_log_atoms[i].meaning;
    return access_log_atoms[i].name;
}

/* --- JSON ----------------------------------------------------------------------------------------------------------- */

/* ,"name":"text", or null for nothing. */
static void json_text(struct strbuf *out, const char *name, struct slice text)
{
    strbuf_printf(out, ",\"%s\":", name);
    if (text.length == 0) {
        strbuf_append_text(out, "null");
        return;
    }
    strbuf_append_char(out, '"');
    strbuf_append_json(out, text);
    strbuf_append_char(out, '"');
}

static void json_field(struct strbuf *out, const char *name, const struct exchange *exchange,
                       struct slice field_name)
{
    const struct field *field =
        head_find(exchange->request.fields, exchange->request.field_count, field_name);
    json_text(out, name, field != NULL ? field->value : SLICE(""));
}

static void json_number(struct strbuf *out, const char *name, uint64_t value, bool known)
{
    strbuf_printf(out, ",\"%s\":", name);
    if (known) {
        strbuf_printf(out, "%" PRIu64, value);
    } else {
        strbuf_append_text(out, "null");
    }
}

static void json_seconds(struct strbuf *out, const char *name, uint64_t time, bool known)
{
    strbuf_printf(out, ",\"%s\":", name);
    if (known) {
        access_log_seconds(time, out);
    } else {
        strbuf_append_text(out, "null");
    }
}

/* RFC 3339 in UTC with milliseconds. */
static void json_time(struct strbuf *out)
{
    uint64_t now = clock_wall();
    time_t seconds = (time_t)(now / CLOCK_NS_PER_S);
    struct tm utc;

    gmtime_r(&seconds, &utc);
    strbuf_printf(out, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03uZ\"", utc.tm_year + 1900,
                  utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                  (unsigned)(now / CLOCK_NS_PER_MS % 1000));
}

static void format_json(const struct exchange *exchange, struct strbuf *out)
{
    const struct conn_identity *identity = &exchange->conn->identity;
    bool answered = exchange->first_byte_at > exchange->started_at;

    json_time(out);
    json_text(out, "client", access_log_client(exchange));
    json_text(out, "method", exchange->request.method);
    json_text(out, "scheme", exchange->request.scheme);
    json_text(out, "host", exchange->request.authority);
    json_text(out, "target", exchange->request.target);
    json_text(out, "protocol", access_log_protocol(exchange));
    json_number(out, "status", exchange->response.status, access_log_has_status(exchange));
    json_number(out, "bytes", exchange->response_bytes, true);
    json_number(out, "request_bytes", exchange->request_bytes, true);
    json_seconds(out, "duration", access_log_duration(exchange), true);
    json_seconds(out, "first_byte", exchange->first_byte_at - exchange->started_at, answered);
    json_field(out, "referer", exchange, SLICE("referer"));
    json_field(out, "user_agent", exchange, SLICE("user-agent"));
    json_text(out, "app", exchange->app_name);
    json_number(out, "worker", (uint64_t)exchange->worker_pid, exchange->worker_pid > 0);
    json_number(out, "retries", exchange->retries, true);
    json_text(out, "reason", slice_from(end_reason_name(exchange->end_reason)));
    json_text(out, "error", exchange->error_text);
    json_text(out, "tls", identity->tls_version_name);
    json_text(out, "cipher", identity->tls_cipher_name);
    json_text(out, "server_name", identity->server_name);
    json_number(out, "conn", exchange->conn->id, true);
    strbuf_append_char(out, '}');
}

/* --- lines ---------------------------------------------------------------------------------------------------------- */

void access_log_format(const struct access_log *log, const struct exchange *exchange,
                       struct strbuf *out)
{
    REQUIRE_OBJECT(log, ACCESS_LOG_MAGIC);
    REQUIRE(exchange->conn != NULL);
    if (log->json) {
        format_json(exchange, out);
        return;
    }
    for (size_t i = 0; i < log->count; i++) {
        log->pieces[i].append(exchange, log->pieces[i].argument, out);
    }
}

void access_log_write(const struct access_log *log, const struct exchange *exchange)
{
    struct strbuf line;

    if (!log_access_enabled()) {
        return;
    }
    strbuf_init(&line);
    access_log_format(log, exchange, &line);
    if (!line.failed) {
        log_queue(LOG_SINK_ACCESS, (struct slice){line.data, line.length});
    } else {
        METRIC_INCREMENT(log_lines_dropped);
    }
    strbuf_done(&line);
}
