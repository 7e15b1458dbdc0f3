/* SPDX-License-Identifier: MIT */
/*
 * Tries a new worker: one GET, its status, its body to the end. What the worker answers is not looked at any closer: it is the
 * worker's start that is tested here. The slot is taken without asking whether the worker may have requests: it may not yet.
 */
#include "app/warmup.h"

#include <stdio.h>

#include "app/head_wire.h"
#include "base/mem.h"
#include "ipc/frame.h"
#include "loop/file_pool.h"

#define WARMUP_MAGIC UINT32_C(0x5741524d)

struct warmup {
    uint32_t magic;
    struct pool_link *link;
    struct channel_stream *stream; /* NULL: over */
    unsigned status;
    struct loop_timer timer;
    void (*on_end)(struct pool_link *link, const char *failure);
    struct loop_grave grave;
};

static void free_warmup(struct loop_grave *grave)
{
    struct warmup *warmup = LIST_CONTAINER(grave, struct warmup, grave);
    REQUIRE_OBJECT(warmup, WARMUP_MAGIC);
    warmup->magic = MAGIC_FREED;
    mem_free(warmup);
}

/* The stream is detached or gone. */
static void bury(struct warmup *warmup)
{
    loop_timer_clear(&warmup->timer);
    loop_bury(warmup->link->pool->loop, &warmup->grave, free_warmup);
}

static void end(struct warmup *warmup, const char *failure)
{
    struct pool_link *link = warmup->link;
    void (*on_end)(struct pool_link *, const char *) = warmup->on_end;
    if (warmup->stream != NULL) {
        channel_stream_detach(warmup->stream);
        warmup->stream = NULL;
    }
    bury(warmup);
    on_end(link, failure);
}

static void judge(struct warmup *warmup)
{
    char text[64];
    snprintf(text, sizeof text, "it was answered with status %u", warmup->status);
    end(warmup, warmup->status < 500 ? NULL : text);
}

/* --- what the worker says --------------------------------------------------------------------------------------------------- */

static enum error on_head(void *user, unsigned status, struct slice head, bool is_end)
{
    struct warmup *warmup = user;
    (void)head;
    if (status >= 200) {
        warmup->status = status;
    }
    if (is_end) {
        judge(warmup);
    }
    return ERROR_NONE;
}

static enum error on_data(void *user, struct slice data, bool is_end)
{
    struct warmup *warmup = user;
    channel_stream_release(warmup->stream, (uint32_t)data.length);
    if (is_end) {
        judge(warmup);
    }
    return ERROR_NONE;
}

static enum error on_trailers(void *user, struct slice trailers)
{
    (void)trailers;
    judge(user);
    return ERROR_NONE;
}

/* That it came is enough: no byte of it is wanted. */
static enum error on_file(void *user, int fd, uint64_t offset, uint64_t count, bool is_end)
{
    struct warmup *warmup = user;
    (void)offset;
    (void)count;
    file_pool_close(warmup->link->pool->app->apps->files, fd);
    channel_stream_file_done(warmup->stream);
    if (is_end) {
        judge(warmup);
    }
    return ERROR_NONE;
}

/* It is no WebSocket: the channel lets none of these through. */
static enum error on_accept(void *user, struct slice accept)
{
    (void)user;
    (void)accept;
    return ERROR_INVALID;
}

static enum error on_message(void *user, struct slice data, bool text, bool more)
{
    (void)user;
    (void)data;
    (void)text;
    (void)more;
    return ERROR_INVALID;
}

static enum error on_close(void *user, unsigned code, struct slice reason)
{
    (void)user;
    (void)code;
    (void)reason;
    return ERROR_INVALID;
}

static void on_sendable(void *user, uint32_t room)
{
    (void)user;
    (void)room;
}

static void on_credit(void *user)
{
    (void)user;
}

static void on_gone(void *user, const struct channel_gone *gone)
{
    struct warmup *warmup = user;
    char text[96];
    warmup->stream = NULL;
    snprintf(text, sizeof text, "it ended with %s", frame_error_name(gone->code));
    end(warmup, gone->end == CHANNEL_END_RESET && gone->code == FRAME_ERROR_APP_EXCEPTION
                    ? "the app raised an exception (its traceback is in the worker's log)"
                    : text);
}

static const struct channel_user_ops stream_ops = {
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_file = on_file,
    .on_accept = on_accept,
    .on_message = on_message,
    .on_close = on_close,
    .on_sendable = on_sendable,
    .on_credit = on_credit,
    .on_gone = on_gone,
};

static void on_timer(struct loop_timer *timer)
{
    struct warmup *warmup = LIST_CONTAINER(timer, struct warmup, timer);
    channel_stream_reset(warmup->stream, FRAME_ERROR_DEADLINE);
    warmup->stream = NULL;
    end(warmup, "it was not answered within ipc.start_timeout");
}

/* --- the request ------------------------------------------------------------------------------------------------------------- */

/* The REQUEST head: from nobody, to the app's own name, so that it can be told from a client's. */
static enum error write_head(const struct app_loop *app_loop, struct slice target,
                             struct slice name, struct strbuf *out)
{
    struct field fields[] = {{SLICE("host"), name},
                             {SLICE("user-agent"), SLICE("gatewayd-warmup")}};
    struct conn_identity identity = {.server_host = SLICE("127.0.0.1")};
    struct head_wire_context context = {.identity = &identity, .scheme = SLICE("http")};
    struct request_head head = {.kind = REQUEST_HTTP,
                                .version = HTTP_1_1,
                                .method = SLICE("GET"),
                                .scheme = SLICE("http"),
                                .authority = name,
                                .target = target,
                                .fields = fields,
                                .field_count = 2,
                                .content_length = -1};
    struct arena arena;
    (void)app_loop;
    arena_init(&arena, 1024);
    enum error error = head_parse_target(&arena, target, &head);
    if (error == ERROR_NONE) {
        head_wire_request(out, &head, &context);
        error = out->failed ? ERROR_NO_MEMORY : ERROR_NONE;
    }
    arena_done(&arena);
    return error;
}

static enum error send_request(struct warmup *warmup)
{
    struct pool_link *link = warmup->link;
    const struct app *app = link->pool->app;
    struct strbuf head;
    if (!channel_can_open(link->channel)) {
        return ERROR_LIMIT;
    }
    strbuf_init(&head);
    enum error error =
        write_head(link->pool->app_loop, app->settings->warmup, slice_from(app->name), &head);
    if (error == ERROR_NONE) {
        struct channel_request request = {.head = {head.data, head.length}, .end = true};
        worker_take_slot(link->worker);
        warmup->stream = channel_open(link->channel, &request, &stream_ops, warmup);
        if (warmup->stream == NULL) {
            worker_release(link->worker);
            error = ERROR_NO_MEMORY;
        }
    }
    strbuf_done(&head);
    return error;
}

struct warmup *warmup_start(struct pool_link *link,
                            void (*on_end)(struct pool_link *link, const char *failure))
{
    struct warmup *warmup = mem_calloc(1, sizeof *warmup);
    if (warmup == NULL) {
        return NULL;
    }
    warmup->magic = WARMUP_MAGIC;
    warmup->link = link;
    warmup->on_end = on_end;
    loop_timer_init(&warmup->timer, link->pool->loop, on_timer);
    if (loop_timer_set(&warmup->timer, link->settings->ipc->start_timeout) != ERROR_NONE ||
        send_request(warmup) != ERROR_NONE) {
        loop_timer_clear(&warmup->timer);
        mem_free(warmup);
        return NULL;
    }
    return warmup;
}

void warmup_cancel(struct warmup *warmup)
{
    if (warmup != NULL) {
        REQUIRE_OBJECT(warmup, WARMUP_MAGIC);
        REQUIRE(warmup->stream == NULL);
        bury(warmup);
    }
}
