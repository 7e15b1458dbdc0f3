/* SPDX-License-Identifier: MIT */
/* h3_fake.h: the calls of h3/quic.h as a test's double. */
#include "unit/h3/h3_fake.h"

#include <string.h>

#include "base/check.h"
#include "net/transport.h"

static enum loop_flush flush(struct loop_dirty *dirty);

void fake_quic_init(struct quic_conn *quic, struct loop *loop)
{
    *quic = (struct quic_conn){.loop = loop,
                               .next_uni = 3,
                               .cwnd = 14720,
                               .now = 1,
                               .packet = SIZE_MAX,
                               .window = SIZE_MAX / 2};
    loop_dirty_init(&quic->dirty, LOOP_STAGE_CONN, flush);
    for (size_t i = 0; i < FAKE_STREAMS; i++) {
        quic->streams[i].id = -1;
        strbuf_init(&quic->streams[i].out);
    }
}

static void end(struct quic_conn *quic, bool by_peer, uint64_t code)
{
    if (!quic->closed) {
        quic->closed = true;
        loop_unmark_dirty(quic->loop, &quic->dirty);
        quic->ops->on_closed(quic->user, by_peer, true, code);
    }
}

void fake_quic_done(struct quic_conn *quic)
{
    end(quic, false, quic->close_code);
    for (size_t i = 0; i < FAKE_STREAMS; i++) {
        strbuf_done(&quic->streams[i].out);
    }
}

struct fake_stream *fake_quic_stream(struct quic_conn *quic, int64_t id)
{
    struct fake_stream *unused = NULL;
    for (size_t i = 0; i < FAKE_STREAMS; i++) {
        if (quic->streams[i].id == id) {
            return &quic->streams[i];
        }
        if (unused == NULL && quic->streams[i].id < 0) {
            unused = &quic->streams[i];
        }
    }
    REQUIRE(unused != NULL);
    unused->id = id;
    unused->window = quic->window;
    return unused;
}

/* --- to the codec -------------------------------------------------------------------------------- */

static void close_when_over(struct quic_conn *quic, struct fake_stream *stream)
{
    bool in_over = stream->in_end || stream->in_reset || stream->stopped;
    bool out_over = stream->reset || (stream->out_end && stream->acked == stream->out.length);
    if ((stream->id & 3) == 0 && in_over && out_over && !stream->closed && !quic->closing) {
        stream->closed = true;
        quic->ops->on_stream_closed(quic->user, stream->id, 0x100);
    }
}

void fake_quic_receive(struct quic_conn *quic, int64_t id, const void *data, size_t length,
                       bool is_end)
{
    struct fake_stream *stream = fake_quic_stream(quic, id);
    if (quic->closed || quic->closing || stream->in_end || stream->in_reset || stream->stopped) {
        return;
    }
    stream->received += length;
    quic->received += length;
    stream->in_end = is_end;
    REQUIRE(quic->ops->on_stream_data(quic->user, id, (struct slice){data, length}, is_end) ==
            ERROR_NONE);
    close_when_over(quic, stream);
}

void fake_quic_reset(struct quic_conn *quic, int64_t id, uint64_t code)
{
    struct fake_stream *stream = fake_quic_stream(quic, id);
    if (!quic->closed && !quic->closing && !stream->in_end && !stream->in_reset) {
        stream->in_reset = true;
        quic->ops->on_stream_reset(quic->user, id, code);
        close_when_over(quic, stream);
    }
}

void fake_quic_stop(struct quic_conn *quic, int64_t id, uint64_t code)
{
    struct fake_stream *stream = fake_quic_stream(quic, id);
    if (!quic->closed && !quic->closing && !stream->closed) {
        stream->reset = true;
        stream->reset_code = code;
        quic->ops->on_stop_sending(quic->user, id, code);
        close_when_over(quic, stream);
    }
}

void fake_quic_end(struct quic_conn *quic, uint64_t code)
{
    end(quic, true, code);
}

/* What was pulled is where it was, as it was. */
static void check_pieces(struct fake_stream *stream)
{
    for (size_t i = 0; i < stream->piece_count && !stream->reset && !stream->out.failed; i++) {
        const struct fake_piece *piece = &stream->pieces[i];
        REQUIRE(memcmp(piece->data, stream->out.data + piece->at, piece->length) == 0);
    }
    stream->piece_count = 0;
}

void fake_quic_acknowledge(struct quic_conn *quic)
{
    for (size_t i = 0; i < FAKE_STREAMS && !quic->closed && !quic->closing; i++) {
        struct fake_stream *stream = &quic->streams[i];
        size_t more = stream->out.length - stream->acked;
        if (stream->id < 0 || stream->closed) {
            continue;
        }
        check_pieces(stream);
        if (more > 0) {
            stream->acked = stream->out.length;
            quic->ops->on_acked(quic->user, stream->id, more);
        }
        close_when_over(quic, stream);
    }
}

void fake_quic_open_window(struct quic_conn *quic, int64_t id, size_t bytes)
{
    struct fake_stream *stream = fake_quic_stream(quic, id);
    stream->window += bytes;
    stream->blocked = false;
    quic->ops->on_stream_window(quic->user, id);
}

/* --- from the codec ------------------------------------------------------------------------------ */

/* Takes one pull into the streams. False: there is nothing more. */
static bool take_one(struct quic_conn *quic)
{
    struct iovec vectors[16];
    int64_t id = -1;
    bool is_end = false;
    size_t count = 0, taken = 0, most;
    if (quic->ops->pull(quic->user, &id, &is_end, vectors, 16, &count) != ERROR_NONE || id < 0 ||
        quic->closing) {
        return false;
    }
    struct fake_stream *stream = fake_quic_stream(quic, id);
    if (stream->reset) {
        quic->ops->on_shut(quic->user, id);
        return true;
    }
    REQUIRE(!stream->blocked && !stream->out_end);
    most = stream->window < quic->packet ? stream->window : quic->packet;
    for (size_t i = 0; i < count && taken < most; i++) {
        size_t part = vectors[i].iov_len;
        part = part < most - taken ? part : most - taken;
        if (part > 0 && stream->piece_count < FAKE_PIECES) {
            stream->pieces[stream->piece_count++] =
                (struct fake_piece){vectors[i].iov_base, stream->out.length, part};
        }
        strbuf_append(&stream->out, vectors[i].iov_base, part);
        taken += part;
        is_end = is_end && part == vectors[i].iov_len && (taken < most || i + 1 == count);
    }
    if (count > 0 && taken == 0) {
        stream->blocked = true;
        quic->ops->on_blocked(quic->user, id);
        return true;
    }
    stream->window -= taken;
    stream->out_end = is_end;
    quic->ops->on_taken(quic->user, id, taken);
    return true;
}

static enum loop_flush flush(struct loop_dirty *dirty)
{
    struct quic_conn *quic = LIST_CONTAINER(dirty, struct quic_conn, dirty);
    for (int i = 0; i < 1000 && !quic->closing && take_one(quic); i++) {
    }
    if (quic->closing) {
        end(quic, false, quic->close_code);
    } else if (!quic->hold_acks) {
        fake_quic_acknowledge(quic);
    }
    return LOOP_FLUSH_CLEAN;
}

enum error quic_conn_open_uni(struct quic_conn *quic, int64_t *ret_stream)
{
    if (quic->no_uni) {
        return ERROR_LIMIT;
    }
    *ret_stream = quic->next_uni;
    quic->next_uni += 4;
    return ERROR_NONE;
}

void quic_conn_consumed(struct quic_conn *quic, int64_t id, size_t bytes)
{
    quic->consumed += bytes;
    REQUIRE(quic->consumed <= quic->received);
    if (id >= 0) {
        struct fake_stream *stream = fake_quic_stream(quic, id);
        stream->consumed += bytes;
        REQUIRE(stream->consumed <= stream->received);
    }
}

void quic_conn_grant_stream(struct quic_conn *quic, unsigned count)
{
    quic->granted += count;
}

void quic_conn_stop_reading(struct quic_conn *quic, int64_t id, uint64_t code)
{
    struct fake_stream *stream = fake_quic_stream(quic, id);
    if (!stream->stopped) {
        stream->stopped = true;
        stream->stop_code = code;
    }
    quic_conn_mark_dirty(quic);
}

void quic_conn_reset_stream(struct quic_conn *quic, int64_t id, uint64_t code)
{
    struct fake_stream *stream = fake_quic_stream(quic, id);
    if (!stream->reset && !stream->closed) {
        stream->reset = true;
        stream->reset_code = code;
    }
    quic_conn_mark_dirty(quic);
}

void quic_conn_close(struct quic_conn *quic, uint64_t code, const char *reason)
{
    (void)reason;
    if (!quic->closing && !quic->closed) {
        quic->closing = true;
        quic->close_code = code;
        loop_mark_dirty(quic->loop, &quic->dirty);
    }
}

void quic_conn_mark_dirty(struct quic_conn *quic)
{
    if (!quic->closed) {
        loop_mark_dirty(quic->loop, &quic->dirty);
    }
}

const struct tls_info *quic_conn_tls(const struct quic_conn *quic)
{
    (void)quic;
    return NULL;
}

bool quic_conn_early(const struct quic_conn *quic)
{
    return quic->early;
}

bool quic_conn_stream_early(const struct quic_conn *quic, int64_t id)
{
    (void)id;
    return quic->early_stream;
}

uint64_t quic_conn_cwnd(const struct quic_conn *quic)
{
    return quic->cwnd;
}

uint64_t quic_conn_pto(const struct quic_conn *quic)
{
    (void)quic;
    return UINT64_C(1000000);
}

uint64_t quic_conn_timestamp(const struct quic_conn *quic)
{
    return quic->now;
}

void quic_conn_dump(const struct quic_conn *quic, struct strbuf *out)
{
    (void)quic;
    strbuf_append_text(out, "fake\n");
}

bool quic_conn_stream_blocked(const struct quic_conn *quic, int64_t id)
{
    for (size_t i = 0; i < FAKE_STREAMS; i++) {
        if (quic->streams[i].id == id) {
            return quic->streams[i].window == 0;
        }
    }
    return false;
}
