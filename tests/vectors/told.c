/* SPDX-License-Identifier: MIT */
/*
 * See told.h. What goes wrong here is a bug of the test, so it aborts.
 */
#include "vectors/told.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/check.h"
#include "ipc/pack.h"

struct told told;

void told_event(const char *format, ...)
{
    char *text;
    va_list arguments;

    va_start(arguments, format);
    REQUIRE(vasprintf(&text, format, arguments) > 0);
    va_end(arguments);
    REQUIRE(told.event_count < TOLD_EVENTS);
    told.events[told.event_count++] = text;
}

static const char *yes(bool value)
{
    return value ? "yes" : "no";
}

/* What every user of a channel does: a head that is no array of one bin is refused. */
static enum error user_on_head(void *user, unsigned status, struct slice head, bool end)
{
    struct arena arena;
    struct pack_value value;

    arena_init(&arena, 1024);
    enum error error = pack_decode(&arena, head, &value);
    if (error == ERROR_NONE &&
        (value.type != PACK_ARRAY || value.count != 1 || value.items[0].type != PACK_BIN)) {
        error = ERROR_PROTOCOL;
    }
    arena_done(&arena);
    if (error == ERROR_NONE) {
        told_event("head stream=%u status=%u end=%s", ((struct gateway_user *)user)->id, status,
                   yes(end));
    } else {
        ((struct gateway_user *)user)->stream = NULL;
    }
    return error;
}

static enum error user_on_data(void *user, struct slice data, bool end)
{
    char *bytes = note_show((const uint8_t *)data.data, data.length);

    told_event("data stream=%u bytes=%s end=%s", ((struct gateway_user *)user)->id, bytes,
               yes(end));
    free(bytes);
    return ERROR_NONE;
}

static enum error user_on_trailers(void *user, struct slice trailers)
{
    REQUIRE(trailers.length > 0);
    told_event("trailers stream=%u", ((struct gateway_user *)user)->id);
    return ERROR_NONE;
}

static enum error user_on_accept(void *user, struct slice accept)
{
    REQUIRE(accept.length > 0);
    told_event("accept stream=%u", ((struct gateway_user *)user)->id);
    return ERROR_NONE;
}

static enum error user_on_message(void *context, struct slice data, bool text, bool more)
{
    struct gateway_user *user = context;
    char *bytes = note_show((const uint8_t *)data.data, data.length);

    told_event("message stream=%u bytes=%s flags=%s", user->id, bytes,
               text && more ? "TEXT|MORE"
               : text       ? "TEXT"
               : more       ? "MORE"
                            : "-");
    free(bytes);
    channel_stream_release(user->stream, (uint32_t)data.length + FRAME_DATA_OVERHEAD);
    return ERROR_NONE;
}

static enum error user_on_close(void *context, unsigned code, struct slice reason)
{
    struct gateway_user *user = context;

    (void)reason;
    told_event("close stream=%u code=%u", user->id, code);
    return ERROR_NONE;
}

static enum error user_on_file(void *context, int fd, uint64_t offset, uint64_t count, bool end)
{
    struct gateway_user *user = context;

    if (user->full) {
        return ERROR_LIMIT;
    }
    told_event("file stream=%u offset=%llu count=%llu end=%s", user->id, (unsigned long long)offset,
               (unsigned long long)count, yes(end));
    close(fd);
    return ERROR_NONE;
}

static void send_message(struct gateway_user *user, uint32_t room)
{
    size_t left = user->body.length - user->sent;
    size_t length = left < room ? left : room;
    struct slice data = {length == 0 ? NULL : (const char *)user->body.data + user->sent, length};

    if (length > 0 || left == 0) {
        user->sent += length;
        REQUIRE(channel_stream_send_message(user->stream, data, user->text, length < left) ==
                ERROR_NONE);
    }
}

static void user_on_sendable(void *context, uint32_t room)
{
    struct gateway_user *user = context;
    if (user->message) {
        send_message(user, room);
        return;
    }
    size_t left = user->body.length - user->sent;
    size_t length = left < room ? left : room;
    bool end = user->end && length == left;

    if (length == 0 && !end) {
        return;
    }
    struct slice data = {length == 0 ? NULL : (const char *)user->body.data + user->sent, length};
    user->sent += length;
    REQUIRE(channel_stream_send(user->stream, data, end) == ERROR_NONE);
}

static void user_on_credit(void *user)
{
    told_event("credit stream=%u", ((struct gateway_user *)user)->id);
}

static void user_on_gone(void *user, const struct channel_gone *gone)
{
    static const char *const ends[] = {[CHANNEL_END_DONE] = "DONE",
                                       [CHANNEL_END_RESET] = "RESET",
                                       [CHANNEL_END_REFUSED] = "REFUSED",
                                       [CHANNEL_END_LOST] = "LOST"};
    static const char *const fates[] = {[CHANNEL_FATE_UNWRITTEN] = "UNWRITTEN",
                                        [CHANNEL_FATE_NOT_STARTED] = "NOT_STARTED",
                                        [CHANNEL_FATE_STARTED] = "STARTED"};

    told_event("gone stream=%u end=%s code=%s fate=%s", ((struct gateway_user *)user)->id,
               ends[gone->end], note_error_name(gone->code), fates[gone->fate]);
    ((struct gateway_user *)user)->stream = NULL;
}

const struct channel_user_ops gateway_user_ops = {.on_head = user_on_head,
                                                  .on_data = user_on_data,
                                                  .on_trailers = user_on_trailers,
                                                  .on_accept = user_on_accept,
                                                  .on_message = user_on_message,
                                                  .on_close = user_on_close,
                                                  .on_file = user_on_file,
                                                  .on_sendable = user_on_sendable,
                                                  .on_credit = user_on_credit,
                                                  .on_gone = user_on_gone};

static void owner_on_ready(struct channel *channel, void *owner)
{
    (void)owner;
    REQUIRE(channel == told.channel);
    told_event("ready");
}

static void owner_on_goaway(struct channel *channel, void *owner, enum frame_error code)
{
    (void)channel, (void)owner;
    told_event("goaway code=%s", note_error_name(code));
}

static void owner_on_slot_free(struct channel *channel, void *owner)
{
    (void)channel, (void)owner;
    told_event("slot-free");
}

static void owner_on_lag(struct channel *channel, void *owner, uint64_t lag)
{
    (void)channel, (void)owner, (void)lag;
    REQUIRE(!"no PING is sent in a transcript");
}

static void owner_on_stats(struct channel *channel, void *owner, const struct worker_stats *stats)
{
    (void)channel, (void)owner;
    REQUIRE(stats->tasks == 5);
    told_event("stats");
}

static void owner_on_error_text(struct channel *channel, void *owner, enum frame_error code,
                                struct slice text)
{
    (void)channel, (void)owner;
    REQUIRE(text.length > 0);
    told_event("error code=%s", note_error_name(code));
}

static void owner_on_closed(struct channel *channel, void *owner, bool orderly, const char *text)
{
    (void)owner;
    REQUIRE(channel == told.channel && text != NULL && text[0] != 0);
    told.closed = true;
    told.orderly = orderly;
    told.channel = NULL;
}

const struct channel_owner_ops gateway_owner_ops = {.on_ready = owner_on_ready,
                                                    .on_goaway = owner_on_goaway,
                                                    .on_slot_free = owner_on_slot_free,
                                                    .on_lag = owner_on_lag,
                                                    .on_stats = owner_on_stats,
                                                    .on_error_text = owner_on_error_text,
                                                    .on_closed = owner_on_closed};

void told_reset(void)
{
    for (size_t i = 0; i < told.event_count; i++) {
        free(told.events[i]);
    }
    for (size_t i = 0; i < TOLD_STREAMS; i++) {
        note_done(&told.users[i].body);
    }
    told = (struct told){.channel = NULL};
}
