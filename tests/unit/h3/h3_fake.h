/* SPDX-License-Identifier: MIT */
/*
 * A QUIC connection without packets: what the codec pulls is kept per stream for the test to read, what the test sends is given to the codec
 * in order. Windows, acknowledgements and ends are chosen by the test. Used by the unit tests and the fuzz target.
 */
#ifndef TESTS_UNIT_H3_H3_FAKE_H
#define TESTS_UNIT_H3_H3_FAKE_H

#include "base/strbuf.h"
#include "h3/quic.h"
#include "loop/loop.h"

#define FAKE_STREAMS 64
#define FAKE_PIECES 512

/* Where the codec has bytes that it promised to leave alone until they are acknowledged. */
struct fake_piece {
    const void *data;
    size_t at, length; /* in `out` */
};

struct fake_stream {
    int64_t id;                            /* -1: free */
    struct strbuf out;                     /* of the codec, as pulled */
    size_t acked;                          /* of them */
    struct fake_piece pieces[FAKE_PIECES]; /* those that are not; the first ones only */
    size_t piece_count;
    size_t window; /* that may still be sent */
    bool out_end, in_end;
    bool reset, stopped; /* by the codec: */
    uint64_t reset_code, stop_code;
    bool in_reset; /* by the client */
    bool blocked, closed;
    uint64_t received, consumed; /* of the client's bytes */
};

struct quic_conn {
    struct loop *loop;
    const struct quic_user_ops *ops;
    void *user;
    struct loop_dirty dirty;
    struct fake_stream streams[FAKE_STREAMS];
    int64_t next_uni;
    uint64_t granted, cwnd, now;
    uint64_t received, consumed; /* all streams */
    size_t packet;               /* bytes taken of a pull at most */
    size_t window;               /* of a new stream */
    bool no_uni, early, early_stream, hold_acks;
    bool closing, closed;
    uint64_t close_code;
};

void fake_quic_init(struct quic_conn *quic, struct loop *loop);
/* Frees what it holds; on_closed was called or is called now. */
void fake_quic_done(struct quic_conn *quic);
/* The stream of an id, made when it is new. */
struct fake_stream *fake_quic_stream(struct quic_conn *quic, int64_t id);
/* Bytes of the client, within its windows (the test REQUIREs that in bodies it sends). */
void fake_quic_receive(struct quic_conn *quic, int64_t id, const void *data, size_t length,
                       bool end);
/* RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE of the client. */
void fake_quic_reset(struct quic_conn *quic, int64_t id, uint64_t code);
void fake_quic_stop(struct quic_conn *quic, int64_t id, uint64_t code);
void fake_quic_end(struct quic_conn *quic, uint64_t code);
/* Acknowledges all that was pulled, and closes what is over. */
void fake_quic_acknowledge(struct quic_conn *quic);
/* More window for a stream. */
void fake_quic_open_window(struct quic_conn *quic, int64_t id, size_t bytes);

#endif
