/* SPDX-License-Identifier: MIT */
/*
 * Reads a worker's file piece by piece as the client takes it. It owns the descriptor. A file lives on without its forward while a thread
 * reads for it, and is closed when that has come back.
 */
#include "app/forward_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "app/forward.h"
#include "base/chunk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "http/conn.h"
#include "http/exchange_body.h"
#include "loop/file_pool.h"

#define FORWARD_FILE_MAGIC UINT32_C(0x46494C45)
/* What is read at once, and below what is held of the response more is read. */
#define PIECE 65536u

struct forward_file {
    uint32_t magic;
    struct forward *forward; /* NULL: nobody wants it, a thread still reads */
    struct app *app;
    struct loop *loop;
    int fd;
    bool end;        /* the response is complete with it */
    bool reading;    /* `job` is with the file threads */
    bool local;      /* the kernel reads it without waiting: closing does not wait either */
    uint64_t offset; /* of the next read */
    uint64_t left;   /* to be read */
    uint64_t unsent; /* has not left for the client */
    size_t before;   /* bytes of DATA that leave before the first of the file */
    struct chunk *chunk;
    struct file_job job;
    struct loop_dirty dirty; /* the next piece, and the end */
    struct loop_grave grave;
};

static struct file_pool *pool_of(const struct forward_file *file)
{
    return file->app->apps->files;
}

static void free_file(struct forward_file *file)
{
    REQUIRE_OBJECT(file, FORWARD_FILE_MAGIC);
    chunk_unref(file->chunk);
    file->magic = MAGIC_FREED;
    METRIC_DECREMENT(files_open);
    atomic_fetch_sub_explicit(&file->app->open_files, 1, memory_order_relaxed);
    mem_free(file);
}

static void free_grave(struct loop_grave *grave)
{
    free_file(LIST_CONTAINER(grave, struct forward_file, grave));
}

static void bury(struct forward_file *file)
{
    if (file->local) {
        close(file->fd);
    } else {
        file_pool_close(pool_of(file), file->fd);
    }
    loop_bury(file->loop, &file->grave, free_grave);
}

void forward_file_drop(struct forward *forward)
{
    struct forward_file *file = forward->file;
    if (file == NULL) {
        return;
    }
    REQUIRE_OBJECT(file, FORWARD_FILE_MAGIC);
    forward->file = NULL;
    file->forward = NULL;
    loop_unmark_dirty(file->loop, &file->dirty);
    if (!file->reading) {
        bury(file);
    }
}

/* The response cannot go on; the worker, which waits for FILE_DONE, is told by RESET. */
static void fail(struct forward *forward, enum end_reason reason, const char *text)
{
    if (forward->stream != NULL) {
        channel_stream_reset(forward->stream,
                             reason == END_NO_MEMORY ? FRAME_ERROR_INTERNAL : FRAME_ERROR_PROTOCOL);
        forward->stream = NULL;
    }
    forward_fail(forward, reason, text);
}

/* `result` and `error` as of pread: no bytes, or none any more. */
static void fail_read(struct forward_file *file, ssize_t result, int error)
{
    char text[128];
    struct forward *forward = file->forward;
    METRIC_INCREMENT(files_failed);
    snprintf(text, sizeof text, "%s: %llu bytes are missing",
             result == 0 ? "the file was made shorter while it was sent" : strerror(error),
             (unsigned long long)file->left);
    log_warning("app", "%.*s: worker %d: a file cannot be sent: %s",
                SLICE_PRINT(forward->exchange->app_name), forward->exchange->worker_pid, text);
    fail(forward, END_WORKER_PROTOCOL, text);
}

/* --- reading -------------------------------------------------------------------------------------------------------------- */

/* A piece has been read; the file may be gone afterwards. */
static bool take_piece(struct forward_file *file, size_t length)
{
    struct forward *forward = file->forward;
    struct exchange *exchange = forward->exchange;
    struct chunk *chunk = file->chunk;
    file->chunk = NULL;
    chunk->length = (uint32_t)length;
    file->offset += length;
    file->left -= length;
    metric_add(METRIC_file_bytes, (int64_t)length);
    forward->last_data_at = loop_now(file->loop);
    enum error error = exchange_respond_chunk_take(exchange, chunk, length);
    if (error == ERROR_NONE && file->left == 0 && file->end) {
        error = exchange_respond_end(exchange, NULL, 0);
    }
    switch (error) {
    case ERROR_NONE:
        return true;
    case ERROR_CLOSED:
        forward_client_gone(forward, false);
        return false;
    default: /* that it fits to the head was judged before */
        fail(forward, END_NO_MEMORY, "no memory for a piece of a file");
        return false;
    }
}

static void on_read(struct mail *mail, struct loop *loop)
{
    struct forward_file *file = LIST_CONTAINER(mail, struct forward_file, job.mail);
    REQUIRE_OBJECT(file, FORWARD_FILE_MAGIC);
    file->reading = false;
    if (file->forward == NULL) {
        bury(file);
    } else if (file->job.result <= 0) {
        fail_read(file, file->job.result, file->job.error);
    } else if (take_piece(file, (size_t)file->job.result)) {
        loop_mark_dirty(loop, &file->dirty);
    }
}

/* The loop or the pool ends. */
static void discard_read(struct mail *mail)
{
    struct forward_file *file = LIST_CONTAINER(mail, struct forward_file, job.mail);
    if (file->forward != NULL) {
        file->forward->file = NULL;
    }
    close(file->fd);
    free_file(file);
}

static bool read_in_thread(struct forward_file *file)
{
    file->job = (struct file_job){
        .mail = {.deliver = on_read, .discard = discard_read},
        .loop = file->loop,
        .fd = file->fd,
        .offset = file->offset,
        .buffer = file->chunk->data,
        .length = file->left < PIECE ? (size_t)file->left : PIECE,
    };
    file->reading = true;
    if (file_pool_read(pool_of(file), &file->job) == ERROR_NONE) {
        return true;
    }
    file->reading = false;
    fail(file->forward, END_NO_MEMORY, "no thread to read a file");
    return false;
}

/* Reads a piece now if it is in memory, else a thread does. False: the file is gone or nothing more can be read now. */
static bool read_piece(struct forward_file *file)
{
    size_t length = file->left < PIECE ? (size_t)file->left : PIECE;
    file->chunk = chunk_new(length);
    if (file->chunk == NULL) {
        fail(file->forward, END_NO_MEMORY, "no memory for a piece of a file");
        return false;
    }
    struct iovec vector = {.iov_base = file->chunk->data, .iov_len = length};
    ssize_t got = preadv2(file->fd, &vector, 1, (off_t)file->offset, RWF_NOWAIT);
    if (got > 0) {
        file->local = true;
        return take_piece(file, (size_t)got);
    }
    /* Not in memory, not possible here, or at its end: a thread may wait for the truth. */
    return read_in_thread(file) && false;
}

/* --- the flush ------------------------------------------------------------------------------------------------------------ */

/* Every byte has left. */
static void finish_file(struct forward_file *file)
{
    struct forward *forward = file->forward;
    bool end = file->end;
    METRIC_INCREMENT(files_sent);
    forward_file_drop(forward);
    if (forward->stream != NULL) {
        channel_stream_file_done(forward->stream);
    }
    if (end) {
        forward_finish(forward);
    }
}

/* Among the links, so that what is read leaves in the same round. */
static enum loop_flush flush(struct loop_dirty *dirty)
{
    struct forward_file *file = LIST_CONTAINER(dirty, struct forward_file, dirty);
    REQUIRE_OBJECT(file, FORWARD_FILE_MAGIC);
    if (file->unsent == 0) {
        finish_file(file);
        return LOOP_FLUSH_CLEAN;
    }
    while (file->left > 0 && !file->reading &&
           file->forward->exchange->response_body.size < PIECE && read_piece(file)) {
    }
    return LOOP_FLUSH_CLEAN;
}

/* --- the worker's and the client's news ----------------------------------------------------------------------------------- */

bool forward_file_is_rest(const struct forward *forward)
{
    return forward->file != NULL && forward->file->end;
}

bool forward_file_is_sent(const struct forward *forward)
{
    return forward->file != NULL && forward->file->unsent == 0;
}

void forward_file_released(struct forward *forward, size_t length)
{
    struct forward_file *file = forward->file;
    REQUIRE_OBJECT(file, FORWARD_FILE_MAGIC);
    size_t data = length < file->before ? length : file->before;
    if (data > 0) {
        file->before -= data;
        if (forward->stream != NULL) {
            channel_stream_release(forward->stream, (uint32_t)data);
        }
    }
    REQUIRE(length - data <= file->unsent);
    file->unsent -= length - data;
    loop_mark_dirty(file->loop, &file->dirty);
}

static struct forward_file *new_file(struct forward *forward, int fd)
{
    struct forward_file *file = mem_calloc(1, sizeof *file);
    if (file == NULL) {
        return NULL;
    }
    file->magic = FORWARD_FILE_MAGIC;
    file->forward = forward;
    file->app = forward->waiter.pool->app;
    file->loop = forward->app_loop->loop;
    file->fd = fd;
    loop_dirty_init(&file->dirty, LOOP_STAGE_LINK, flush);
    METRIC_INCREMENT(files_open);
    return file;
}

/* Takes one of apps.max_open_files. */
static bool take_place(struct app *app)
{
    uint32_t open = atomic_fetch_add_explicit(&app->open_files, 1, memory_order_relaxed);
    if (open < app->settings->max_open_files) {
        return true;
    }
    atomic_fetch_sub_explicit(&app->open_files, 1, memory_order_relaxed);
    log_debug("app", "%.*s: apps.max_open_files: a worker reads a file itself",
              SLICE_PRINT(app->settings->name));
    return false;
}

/* Nothing of it is to be sent: HEAD, 304, or no bytes. */
static void skip_file(struct forward *forward, int fd, bool end)
{
    file_pool_close(forward->app_loop->apps->files, fd);
    channel_stream_file_done(forward->stream);
    if (end) {
        forward_finish(forward);
    }
}

enum error forward_file_on_file(void *user, int fd, uint64_t offset, uint64_t count, bool end)
{
    struct forward *forward = user;
    struct exchange *exchange = forward->exchange;
    struct app *app = forward->waiter.pool->app;
    bool wanted;
    REQUIRE(forward->file == NULL && forward->phase == FORWARD_ANSWERED);
    enum error error = exchange_respond_judge(exchange, count, end, &wanted);
    if (error == ERROR_NONE && wanted && count == 0 && end) {
        error = exchange_respond_end(exchange, NULL, 0);
    }
    if (error != ERROR_NONE) {
        error = forward_refuse_response(forward, error,
                                        "the file's length does not match its content-length");
        if (error == ERROR_NONE) { /* the client is gone, and so is the forward */
            file_pool_close(app->apps->files, fd);
        }
        return error;
    }
    forward->last_data_at = loop_now(forward->app_loop->loop);
    if (!wanted || count == 0) {
        skip_file(forward, fd, end);
        return ERROR_NONE;
    }
    if (!take_place(app)) {
        return ERROR_LIMIT;
    }
    struct forward_file *file = new_file(forward, fd);
    if (file == NULL) {
        atomic_fetch_sub_explicit(&app->open_files, 1, memory_order_relaxed);
        return forward_refuse_response(forward, ERROR_NO_MEMORY, "");
    }
    file->offset = offset;
    file->left = file->unsent = count;
    file->end = end;
    file->before = exchange->response_body.size;
    forward->file = file;
    loop_mark_dirty(file->loop, &file->dirty);
    return ERROR_NONE;
}
