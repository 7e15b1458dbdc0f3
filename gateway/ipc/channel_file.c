/* SPDX-License-Identifier: MIT */
/*
 * FILE and FILE_DONE: the descriptor of a frame is judged here and given to the stream's user, who reads it (SPEC section 13). What
 * is asked of it must not block: a worker may have got its file from a file system that it serves itself.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "ipc/channel.h"
#include "ipc/channel_state.h"
#include "ipc/descriptors.h"

#define TO_THE_END UINT64_MAX

static const struct slice no_bytes = {NULL, 0};

static uint64_t get_u64(const char *in)
{
    uint64_t value = 0;

    for (unsigned i = 8; i > 0; i--) {
        value = value << 8 | (uint8_t)in[i - 1];
    }
    return value;
}

static void answer(struct channel_stream *stream, enum frame_error code)
{
    REQUIRE(stream->file_pending);
    stream->file_pending = false;
    if (!stream->gateway_ended) { /* R60 */
        channel_queue(
            stream->channel,
            &(struct frame){.type = FRAME_FILE_DONE, .code = (uint16_t)code, .stream = stream->id},
            no_bytes);
    }
}

void channel_stream_file_done(struct channel_stream *stream)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    answer(stream, FRAME_ERROR_NO_ERROR);
}

/* R110: the worker sends the bytes itself. */
static void refuse(struct channel_stream *stream)
{
    METRIC_INCREMENT(files_refused);
    stream->remote_ended = false;
    answer(stream, FRAME_ERROR_OVERLOADED);
}

/* R98, R100: what is there of a regular file. NULL, or what is wrong. AT_STATX_DONT_SYNC: what the kernel knows is enough, and
 * nobody is asked who may never answer. */
static const char *judge(int fd, uint64_t offset, uint64_t *count)
{
    struct statx file;

    if (offset > INT64_MAX || (*count != TO_THE_END && *count > INT64_MAX - offset)) {
        return "FILE with an offset or count above 2^63-1";
    }
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_SIZE, &file) != 0 ||
        (file.stx_mask & STATX_TYPE) == 0 || !S_ISREG(file.stx_mode)) {
        return "FILE with a descriptor of something that is no regular file";
    }
    if (offset > file.stx_size ||
        (*count != TO_THE_END && *count > (uint64_t)file.stx_size - offset)) {
        return "FILE of a file that is shorter than promised";
    }
    if (*count == TO_THE_END) {
        *count = (uint64_t)file.stx_size - offset;
    }
    return NULL;
}

static void bad_file(struct channel_stream *stream, const char *text)
{
    struct channel_gone gone = {
        .end = CHANNEL_END_RESET, .code = FRAME_ERROR_PROTOCOL, .fate = CHANNEL_FATE_STARTED};

    log_warning("ipc", "worker %d: stream %u: %s", (int)stream->channel->pid, stream->id, text);
    channel_stream_tell(stream, &gone);
    channel_stream_fail(stream, FRAME_ERROR_PROTOCOL);
}

/* Whether the user has taken the descriptor. */
static bool deliver(struct channel_stream *stream, const struct frame *frame, int fd)
{
    uint64_t offset = get_u64(frame->payload.data);
    uint64_t count = get_u64(frame->payload.data + 8);
    const char *wrong = judge(fd, offset, &count);

    if (wrong != NULL) {
        bad_file(stream, wrong);
        return false;
    }
    enum error error = stream->ops->on_file(stream->user, fd, offset, count, stream->remote_ended);
    if (error == ERROR_LIMIT) {
        refuse(stream);
    } else if (error != ERROR_NONE) {
        channel_stream_fail(stream, channel_refusal(error, FRAME_ERROR_PROTOCOL));
    }
    return error == ERROR_NONE;
}

void channel_on_file(struct channel_stream *stream, const struct frame *frame)
{
    int fd = link_take_file(&stream->channel->link);
    bool taken = false;

    if (fd == IPC_DESCRIPTOR_NONE) { /* R5 */
        channel_violation(stream->channel, FRAME_ERROR_PROTOCOL, "FILE without its descriptor",
                          frame);
        return;
    }
    if (channel_body_in_order(stream, frame)) {
        stream->file_pending = true;
        stream->remote_ended = (frame->flags & FRAME_FLAG_END_STREAM) != 0;
        if (!channel_stream_wanted(stream)) {
            answer(stream, FRAME_ERROR_NO_ERROR); /* who waits for it must not hang */
        } else if (fd == IPC_DESCRIPTOR_LOST) {
            refuse(stream);
        } else {
            taken = deliver(stream, frame, fd);
        }
    }
    if (fd >= 0 && !taken) {
        close(fd);
    }
}

void channel_drop_file(struct channel *channel)
{
    int fd = link_take_file(&channel->link);

    if (fd >= 0) {
        close(fd);
    }
}
