/* SPDX-License-Identifier: MIT */
/*
 * The writer thread: loops put lines into a bounded buffer per sink, the thread takes a whole
 * buffer at once and writes it without holding the lock, so that only this thread ever waits for a
 * disk or a pipe. It owns the buffers and, while it runs, the outputs. What is dropped is counted
 * and told to stderr at most once a minute.
 */
#include "base/log_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"

#define LOG_QUEUE_SIZE ((size_t)1 << 20) /* per sink */
#define LOG_NOTICE_INTERVAL (60 * CLOCK_NS_PER_S)
#define LOG_KEEP_FD (-1)
/* Lines are gathered for so long, or until there are so many bytes: one write for many lines. */
#define LOG_GATHER_NS (20 * CLOCK_NS_PER_MS)
#define LOG_GATHER_SIZE ((size_t)128 << 10)

struct log_buffer {
    char *data;
    size_t length;
};

static struct log_writer {
    pthread_mutex_t lock;
    pthread_cond_t wake;  /* the thread waits here */
    pthread_cond_t ended; /* log_writer_stop waits here */
    pthread_t thread;
    /* under the lock: */
    struct log_buffer queues[LOG_SINK_COUNT];
    int new_fds[LOG_SINK_COUNT];
    bool reopen, stopping, has_ended;
    _Atomic uint64_t dropped;
    _Atomic uint64_t
        give_up_at; /* clock_now() value after which a full pipe is not waited for; 0 = wait */
    _Atomic bool running;
    /* the thread's own: */
    struct log_output *outputs;
    struct log_buffer taken[LOG_SINK_COUNT];
    uint64_t dropped_told;
    uint64_t told_at;
    int last_errno;
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool log_writer_running(void)
{
    return atomic_load_explicit(&writer.running, memory_order_acquire);
}

static void log_writer_count_dropped(uint64_t lines)
{
    atomic_fetch_add_explicit(&writer.dropped, lines, memory_order_relaxed);
    metric_add(METRIC_log_lines_dropped, (int64_t)lines);
}

bool log_writer_queue(enum log_sink sink, struct slice prefix, struct slice line)
{
    if (!log_writer_running()) {
        return false;
    }
    size_t needed = prefix.length + line.length + 1;
    pthread_mutex_lock(&writer.lock);
    struct log_buffer *queue = &writer.queues[sink];
    bool fits = !writer.stopping && needed <= LOG_QUEUE_SIZE - queue->length;
    size_t before = queue->length;
    if (fits) {
        char *out = queue->data + queue->length;
        if (prefix.length > 0) {
            memcpy(out, prefix.data, prefix.length);
        }
        if (line.length > 0) {
            memcpy(out + prefix.length, line.data, line.length);
        }
        out[needed - 1] = '\n';
        queue->length += needed;
    }
    /* Only the line that ends an idle time, or ends the gathering, wakes the thread. */
    bool gathered = before < LOG_GATHER_SIZE && queue->length >= LOG_GATHER_SIZE;
    if (fits && (before == 0 || gathered)) {
        pthread_cond_signal(&writer.wake);
    }
    pthread_mutex_unlock(&writer.lock);
    if (!fits) {
        log_writer_count_dropped(1);
    }
    return true;
}

static int log_writer_patience(void)
{
    uint64_t at = atomic_load_explicit(&writer.give_up_at, memory_order_relaxed);
    uint64_t now = clock_now();

    if (at == 0) {
        return -1;
    }
    return now >= at ? 0 : (int)((at - now) / CLOCK_NS_PER_MS) + 1;
}

/* Whether dropped lines wait to be told of, and the time for it has come (now) or will come
 * (`ret_at`). */
static bool log_writer_notice_due(uint64_t *ret_at)
{
    uint64_t dropped = atomic_load_explicit(&writer.dropped, memory_order_relaxed);

    if (dropped == writer.dropped_told) {
        return false;
    }
    *ret_at = writer.told_at == 0 ? clock_now() : writer.told_at + LOG_NOTICE_INTERVAL;
    return true;
}

static void log_writer_tell_dropped(void)
{
    char text[256];
    uint64_t at;

    if (!log_writer_notice_due(&at) || clock_now() < at) {
        return;
    }
    uint64_t dropped = atomic_load_explicit(&writer.dropped, memory_order_relaxed);
    int length = snprintf(text, sizeof(text), "gatewayd: %" PRIu64 " log lines dropped: %s\n",
                          dropped - writer.dropped_told,
                          writer.last_errno != 0 ? strerror(writer.last_errno)
                                                 : "they came faster than they could be written");
    writer.dropped_told = dropped;
    writer.told_at = clock_now();
    writer.last_errno = 0;
    struct log_output standard = {.target = LOG_TARGET_STANDARD, .fd = STDERR_FILENO};
    (void)log_output_write(&standard, text, (size_t)length, log_writer_patience);
}

static struct timespec log_writer_timespec(uint64_t at)
{
    return (struct timespec){.tv_sec = (time_t)(at / CLOCK_NS_PER_S),
                             .tv_nsec = (long)(at % CLOCK_NS_PER_S)};
}

/* With the lock held, lines waiting: lets more of them come. */
static void log_writer_gather(void)
{
    struct timespec until = log_writer_timespec(clock_now() + LOG_GATHER_NS);
    for (;;) {
        bool full = false;
        for (int i = 0; i < LOG_SINK_COUNT; i++) {
            full = full || writer.queues[i].length >= LOG_GATHER_SIZE ||
                   writer.new_fds[i] != LOG_KEEP_FD;
        }
        if (full || writer.stopping || writer.reopen ||
            pthread_cond_timedwait(&writer.wake, &writer.lock, &until) == ETIMEDOUT) {
            return;
        }
    }
}

/* With the lock held: waits for something to do. */
static void log_writer_wait(void)
{
    for (;;) {
        bool work = writer.stopping || writer.reopen;
        uint64_t at;
        for (int i = 0; i < LOG_SINK_COUNT; i++) {
            work = work || writer.queues[i].length > 0 || writer.new_fds[i] != LOG_KEEP_FD;
        }
        if (work) {
            log_writer_gather();
            return;
        }
        if (!log_writer_notice_due(&at)) {
            pthread_cond_wait(&writer.wake, &writer.lock);
            continue;
        }
        struct timespec until = log_writer_timespec(at);
        if (pthread_cond_timedwait(&writer.wake, &writer.lock, &until) == ETIMEDOUT) {
            return;
        }
    }
}

static void log_writer_reopen_outputs(void)
{
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        if (log_output_reopen(&writer.outputs[i]) != ERROR_NONE) {
            log_error("log", "cannot reopen %s: %s; the old file is kept", writer.outputs[i].path,
                      strerror(errno));
        }
    }
}

/* Applies what was asked for and writes what was taken. Without the lock. */
static void log_writer_work(bool reopen, const int new_fds[LOG_SINK_COUNT])
{
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        if (new_fds[i] != LOG_KEEP_FD) {
            log_output_close(&writer.outputs[i]);
            writer.outputs[i].target = LOG_TARGET_FILE;
            writer.outputs[i].fd = new_fds[i];
            writer.outputs[i].broken_line = false;
        }
    }
    if (reopen) {
        log_writer_reopen_outputs();
    }
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        uint64_t lost = log_output_write(&writer.outputs[i], writer.taken[i].data,
                                         writer.taken[i].length, log_writer_patience);
        if (lost > 0) {
            writer.last_errno = errno;
            log_writer_count_dropped(lost);
        }
        writer.taken[i].length = 0;
    }
    log_writer_tell_dropped();
}

static void *log_writer_main(void *unused)
{
    bool stopping = false;

    (void)unused;
    pthread_setname_np(pthread_self(), "gw-log");
    pthread_mutex_lock(&writer.lock);
    while (!stopping) {
        int new_fds[LOG_SINK_COUNT];
        log_writer_wait();
        for (int i = 0; i < LOG_SINK_COUNT; i++) {
            struct log_buffer empty = writer.taken[i];
            writer.taken[i] = writer.queues[i];
            writer.queues[i] = empty;
            new_fds[i] = writer.new_fds[i];
            writer.new_fds[i] = LOG_KEEP_FD;
        }
        bool reopen = writer.reopen;
        writer.reopen = false;
        stopping = writer.stopping;
        pthread_mutex_unlock(&writer.lock);
        log_writer_work(reopen, new_fds);
        pthread_mutex_lock(&writer.lock);
    }
    writer.has_ended = true;
    pthread_cond_signal(&writer.ended);
    pthread_mutex_unlock(&writer.lock);
    return NULL;
}

static void log_writer_free_buffers(void)
{
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        mem_free(writer.queues[i].data);
        mem_free(writer.taken[i].data);
        writer.queues[i] = writer.taken[i] = (struct log_buffer){0};
    }
}

/* Signals belong to the threads that ask for them, never to this one. */
static int log_writer_create_thread(void)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int result = pthread_create(&writer.thread, NULL, log_writer_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return result;
}

enum error log_writer_start(struct log_output *outputs)
{
    pthread_condattr_t monotonic;
    bool complete = true;

    REQUIRE(!log_writer_running());
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&writer.wake, &monotonic);
    pthread_cond_init(&writer.ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        writer.queues[i].data = mem_alloc(LOG_QUEUE_SIZE);
        writer.taken[i].data = mem_alloc(LOG_QUEUE_SIZE);
        writer.new_fds[i] = LOG_KEEP_FD;
        complete = complete && writer.queues[i].data != NULL && writer.taken[i].data != NULL;
    }
    if (!complete) {
        log_writer_free_buffers();
        return ERROR_NO_MEMORY;
    }
    writer.outputs = outputs;
    writer.reopen = writer.stopping = writer.has_ended = false;
    atomic_store(&writer.give_up_at, 0);
    int result = log_writer_create_thread();
    if (result != 0) {
        log_writer_free_buffers();
        errno = result;
        return ERROR_IO;
    }
    atomic_store_explicit(&writer.running, true, memory_order_release);
    return ERROR_NONE;
}

void log_writer_reopen(void)
{
    pthread_mutex_lock(&writer.lock);
    writer.reopen = true;
    pthread_cond_signal(&writer.wake);
    pthread_mutex_unlock(&writer.lock);
}

void log_writer_replace(enum log_sink sink, int fd)
{
    pthread_mutex_lock(&writer.lock);
    if (writer.new_fds[sink] != LOG_KEEP_FD) {
        close(writer.new_fds[sink]);
    }
    writer.new_fds[sink] = fd;
    pthread_cond_signal(&writer.wake);
    pthread_mutex_unlock(&writer.lock);
}

bool log_writer_stop(int timeout_ms)
{
    uint64_t at = clock_now() + (uint64_t)timeout_ms * CLOCK_NS_PER_MS;
    struct timespec until = {.tv_sec = (time_t)(at / CLOCK_NS_PER_S),
                             .tv_nsec = (long)(at % CLOCK_NS_PER_S)};
    int result = 0;

    /* A pipe that is full is given up a little earlier than the thread itself. */
    atomic_store(&writer.give_up_at, at - (uint64_t)timeout_ms * CLOCK_NS_PER_MS / 4);
    pthread_mutex_lock(&writer.lock);
    writer.stopping = true;
    pthread_cond_signal(&writer.wake);
    while (!writer.has_ended && result == 0) {
        result = pthread_cond_timedwait(&writer.ended, &writer.lock, &until);
    }
    bool ended = writer.has_ended;
    pthread_mutex_unlock(&writer.lock);
    atomic_store_explicit(&writer.running, false, memory_order_release);
    if (!ended) {
        /* It hangs in a write(); its buffers must stay. */
        pthread_detach(writer.thread);
        return false;
    }
    pthread_join(writer.thread, NULL);
    log_writer_free_buffers();
    pthread_cond_destroy(&writer.wake);
    pthread_cond_destroy(&writer.ended);
    return true;
}
