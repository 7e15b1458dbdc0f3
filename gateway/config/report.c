/* SPDX-License-Identifier: MIT */
/*
 * The lines of a report. It owns nothing: the buffer is the caller's.
 */
#include "config/report.h"

#include <stdarg.h>
#include <stdio.h>

#include "config/config.h"

#define REPORT_LINE_MAX 2048

/* Control characters of a quoted value would break the line, or the terminal. */
static void append_clean(const char *text, struct strbuf *out)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) {
            strbuf_printf(out, "\\x%02x", c);
        } else {
            strbuf_append_char(out, *text);
        }
    }
}

PRINTF_LIKE(3, 0)
static void add(struct report *report, const char *place, const char *format, va_list arguments)
{
    char text[REPORT_LINE_MAX];

    report->count++;
    if (report->count > CONFIG_ERRORS_MAX) {
        return;
    }
    vsnprintf(text, sizeof(text), format, arguments);
    append_clean(place, report->out);
    strbuf_append_text(report->out, ": ");
    append_clean(text, report->out);
    strbuf_append_char(report->out, '\n');
}

static void place_at(const char *file, unsigned line, unsigned column, char *out, size_t size)
{
    snprintf(out, size, "%s:%u:%u", file, line > 0 ? line : 1, column > 0 ? column : 1);
}

void report_place(const char *file, const struct toml_node *node, char *out, size_t size)
{
    if (node != NULL && node->from_override != NULL) {
        snprintf(out, size, "-o %s", node->from_override);
    } else {
        place_at(file, node ? node->line : 1, node ? node->column : 1, out, size);
    }
}

void report_value(struct report *report, const struct toml_node *node, const char *format, ...)
{
    char place[REPORT_LINE_MAX];
    va_list arguments;

    report_place(report->file, node, place, sizeof(place));
    va_start(arguments, format);
    add(report, place, format, arguments);
    va_end(arguments);
}

void report_key(struct report *report, const struct toml_node *node, const char *format, ...)
{
    char place[REPORT_LINE_MAX];
    va_list arguments;

    if (node->from_override != NULL || node->key_line == 0) {
        report_place(report->file, node, place, sizeof(place));
    } else {
        place_at(report->file, node->key_line, node->key_column, place, sizeof(place));
    }
    va_start(arguments, format);
    add(report, place, format, arguments);
    va_end(arguments);
}

void report_line(struct report *report, unsigned line, unsigned column, const char *format, ...)
{
    char place[REPORT_LINE_MAX];
    va_list arguments;

    place_at(report->file, line, column, place, sizeof(place));
    va_start(arguments, format);
    add(report, place, format, arguments);
    va_end(arguments);
}

void report_end(struct report *report)
{
    if (report->count > CONFIG_ERRORS_MAX) {
        strbuf_printf(report->out, "%s: %u more errors\n", report->file,
                      report->count - CONFIG_ERRORS_MAX);
    }
}
