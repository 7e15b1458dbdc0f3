/* SPDX-License-Identifier: MIT */
/*
 * The public face of the logs: levels, the form of a line, and the choice between the writer thread
 * and a direct write. It owns the two outputs. It is one of the two process-wide states of the
 * gateway (the metrics are the other).
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_output.h"
#include "base/log_writer.h"
#include "base/metrics.h"

#define LOG_TEXT_MAX 2048 /* of one error line before escaping; what is longer is cut */
#define LOG_STOP_TIMEOUT_MS 2000

static const char *const level_names[LOG_LEVEL_COUNT] = {"debug", "info", "warning", "error"};

static _Atomic int current_level = LOG_INFO;
/* Until log_open the error log is stderr, so that nothing said early is lost. */
static struct log_output outputs[LOG_SINK_COUNT] = {
    [LOG_SINK_ERROR] = {.target = LOG_TARGET_STANDARD, .fd = STDERR_FILENO},
    [LOG_SINK_ACCESS] = {.target = LOG_TARGET_OFF, .fd = -1},
};
/* Told to the threads that log: whether error lines carry a level digit instead of a timestamp. */
static _Atomic bool error_is_syslog;
static _Atomic bool access_is_on;
/* Held for a direct write: threads may log before the writer thread runs. */
static pthread_mutex_t direct_lock = PTHREAD_MUTEX_INITIALIZER;

void log_set_level(enum log_level level)
{
    REQUIRE((unsigned)level < LOG_LEVEL_COUNT);
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

bool log_level_parse(struct slice name, enum log_level *ret_level)
{
    for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
        if (slice_equal(name, slice_from(level_names[i]))) {
            *ret_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

enum error log_open(const struct log_settings *settings, const char **ret_text)
{
    static char text[512];
    struct log_output fresh[LOG_SINK_COUNT];

    REQUIRE(!log_writer_running());
    enum error error =
        log_output_open(&fresh[LOG_SINK_ERROR], settings->error, STDERR_FILENO, text, sizeof(text));
    if (error != ERROR_NONE) {
        *ret_text = text;
        return error;
    }
    error = log_output_open(&fresh[LOG_SINK_ACCESS], settings->access, STDOUT_FILENO, text,
                            sizeof(text));
    if (error != ERROR_NONE) {
        log_output_close(&fresh[LOG_SINK_ERROR]);
        *ret_text = text;
        return error;
    }
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        log_output_close(&outputs[i]);
        outputs[i] = fresh[i];
    }
    atomic_store(&error_is_syslog, fresh[LOG_SINK_ERROR].target == LOG_TARGET_SYSLOG);
    atomic_store(&access_is_on, fresh[LOG_SINK_ACCESS].target != LOG_TARGET_OFF);
    log_set_level(settings->level);
    return ERROR_NONE;
}

enum error log_start(void)
{
    return log_writer_start(outputs);
}

void log_reopen(void)
{
    if (log_writer_running()) {
        log_writer_reopen();
        return;
    }
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        if (log_output_reopen(&outputs[i]) != ERROR_NONE) {
            log_error("log", "cannot reopen %s: %s; the old file is kept", outputs[i].path,
                      strerror(errno));
        }
    }
}

void log_stop(void)
{
    if (log_writer_running() && !log_writer_stop(LOG_STOP_TIMEOUT_MS)) {
        static const char text[] =
            "gatewayd: the log could not be written in time: lines are lost\n";
        ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
        (void)written;
    }
}

int log_file_descriptor(enum log_sink sink)
{
    REQUIRE((unsigned)sink < LOG_SINK_COUNT && !log_writer_running());
    return outputs[sink].target == LOG_TARGET_FILE ? outputs[sink].fd : -1;
}

void log_replace_take(enum log_sink sink, int fd)
{
    REQUIRE((unsigned)sink < LOG_SINK_COUNT && log_writer_running());
    log_writer_replace(sink, fd);
}

bool log_access_enabled(void)
{
    return atomic_load_explicit(&access_is_on, memory_order_relaxed);
}

/* The master's and the early way: the calling thread writes, and waits for nobody. */
static int no_patience(void)
{
    return 0;
}

static void log_line(enum log_sink sink, struct slice prefix, struct slice line)
{
    char text[4 * LOG_TEXT_MAX + 512];

    if (log_writer_queue(sink, prefix, line)) {
        return;
    }
    size_t length = prefix.length + line.length;
    if (length > sizeof(text) - 1) {
        length = sizeof(text) - 1;
        line.length = length - prefix.length;
    }
    if (prefix.length > 0) {
        memcpy(text, prefix.data, prefix.length);
    }
    if (line.length > 0) {
        memcpy(text + prefix.length, line.data, line.length);
    }
    text[length] = '\n';
    pthread_mutex_lock(&direct_lock);
    uint64_t lost = log_output_write(&outputs[sink], text, length + 1, no_patience);
    pthread_mutex_unlock(&direct_lock);
    metric_add(METRIC_log_lines_dropped, (int64_t)lost);
}

void log_queue(enum log_sink sink, struct slice line)
{
    bool digit =
        sink == LOG_SINK_ERROR && atomic_load_explicit(&error_is_syslog, memory_order_relaxed);

    REQUIRE((unsigned)sink < LOG_SINK_COUNT);
    log_line(sink, digit ? SLICE("1") : SLICE(""), line);
}

/* Copies text with control characters as \xNN (CWE-117: no text of a peer may start a line);
 * returns the length. */
static size_t log_escape(char *out, const char *text, size_t length)
{
    static const char hex[] = "0123456789abcdef";
    char *start = out;

    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != 0x7f) {
            *out++ = (char)c;
            continue;
        }
        *out++ = '\\';
        *out++ = 'x';
        *out++ = hex[c >> 4];
        *out++ = hex[c & 15];
    }
    return (size_t)(out - start);
}

/* "2026-11-20T18:00:00.123Z warning h1: " (RFC 3339), or for syslog the level's digit and the
 * module. */
static size_t log_prefix(char *out, size_t size, enum log_level level, const char *module)
{
    int length;

    if (atomic_load_explicit(&error_is_syslog, memory_order_relaxed)) {
        length = snprintf(out, size, "%d%s: ", (int)level, module);
    } else {
        uint64_t now = clock_wall();
        time_t seconds = (time_t)(now / CLOCK_NS_PER_S);
        struct tm utc;
        gmtime_r(&seconds, &utc);
        length =
            snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ %s %s: ", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     (unsigned)(now / CLOCK_NS_PER_MS % 1000), level_names[level], module);
    }
    REQUIRE(length > 0);
    return (size_t)length < size ? (size_t)length : size - 1;
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
    char prefix[128];
    char text[LOG_TEXT_MAX];
    char line[4 * LOG_TEXT_MAX];
    va_list arguments;
    int saved_errno = errno;

    REQUIRE((unsigned)level < LOG_LEVEL_COUNT);
    size_t prefix_length = log_prefix(prefix, sizeof(prefix), level, module);
    errno = saved_errno; /* for %m */
    va_start(arguments, format);
    int wanted = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    size_t length = wanted < 0 ? 0 : (size_t)wanted;
    if (length >= sizeof(text)) {
        length = sizeof(text) - 1;
        memcpy(text + length - 3, "...", 3);
    }
    length = log_escape(line, text, length);
    log_line(LOG_SINK_ERROR, (struct slice){prefix, prefix_length}, (struct slice){line, length});
    errno = saved_errno; /* logging never disturbs the error that is being handled */
}
