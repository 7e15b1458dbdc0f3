/* SPDX-License-Identifier: MIT */
/*
 * The state of one HTTP/2 connection, shared by the files of h2/ that make it up: h2_conn.c (life, codec_ops), h2_session.c (the
 * library's session), h2_read.c (bytes from the client), h2_callbacks.c (what the library says), h2_stream.c and h2_respond.c (streams),
 * h2_flush.c (bytes to the client), h2_guard.c (floods), h2_timers.c (deadlines). Nobody else includes it.
 */
#ifndef GATEWAY_H2_H2_STATE_H
#define GATEWAY_H2_H2_STATE_H

#include <nghttp2/nghttp2.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "h2/h2_conn.h"
#include "h2/h2_guard.h"
#include "h2/h2_phase.h"
#include "h2/h2_scan.h"
#include "h2/h2_stream.h"
#include "http/head_block.h"
#include "net/transport.h"

#define H2_CONN_MAGIC UINT32_C(0x48324330)

/* How many bytes of frames wait for the socket at most (and one frame more): what priorities no longer reach. */
#define H2_OUT_HIGH 65536

/* A frame of a stream in the output: what happens once the socket has taken the bytes up to `at`. */
struct h2_mark {
    uint64_t at; /* on the scale of out_queued */
    struct h2_stream *stream;
    uint32_t body; /* bytes of response_body */
    bool end;
};

struct h2_conn {
    uint32_t magic;
    enum h2_phase phase;
    struct conn conn;
    struct transport *transport;
    const struct h2_settings *settings;
    nghttp2_session *session;
    struct h2_scan scan;
    struct h2_guard guard;
    struct head_block block; /* the header block being read: RFC 9113 4.3 allows one at a time */
    struct h2_stream_list streams;
    struct h2_work_list work; /* streams to be looked at once the library has returned */
    size_t open;              /* streams with an exchange */
    struct byteq out;         /* frames on their way to the socket */
    uint64_t out_queued, out_written;
    struct h2_mark *marks; /* a ring, oldest at mark_first */
    size_t mark_first, mark_count, mark_capacity;
    uint64_t unconsumed; /* request bytes received that nobody has taken yet, all streams */
    uint64_t owed;       /* request bytes whose connection credit was not given back yet */
    struct pace write_pace;
    uint64_t write_seen; /* bytes that had reached the client's system at the last look */
    struct loop_dirty dirty;
    struct loop_resume resume;
    struct loop_timer timer;
    uint64_t settings_sent_at; /* 0: acknowledged */
    uint64_t block_since;      /* the open header block's first byte; 0: none */
    uint64_t block_bytes;      /* that it has been decoded to, whoever wants it */
    uint64_t block_fields;
    uint64_t idle_since; /* no stream is open; 0: one is */
    uint64_t linger_since, notice_at;
    enum h2_drain drain;
    enum end_reason close_reason; /* CLOSING; or of what ends with the session */
    bool in_library;              /* inside nghttp2: nothing is freed, read or sent */
    bool client_shut;             /* FIN was read */
    bool want_write;
    bool wanted, wanted_write; /* transport_want was called, with: */
    enum transport_reading wanted_reading;
};

/* --- h2_conn.c --- */

/* The only writer of `phase`. */
void h2_set_phase(struct h2_conn *h2, enum h2_phase phase);
/* Tells the transport what is wanted now; destroys the connection when that fails. */
void h2_update_wishes(struct h2_conn *h2);
/* Destroys in this turn's flush; exchanges under way end for `reason`. */
void h2_close_later(struct h2_conn *h2, enum end_reason reason);
/* Destroys now; h2 stays readable until the turn's end. Not inside the library. */
void h2_destroy(struct h2_conn *h2, enum end_reason reason, bool reset);
/* Ends the session with a GOAWAY of this code (RFC 9113 5.4.1): nothing more is read, what is under way ends for `reason`. */
void h2_terminate(struct h2_conn *h2, uint32_t code, enum end_reason reason, const char *what);
/* Says that the end is near, or (`final`) which streams were the last; RFC 9113 6.8. */
void h2_begin_drain(struct h2_conn *h2, bool final);
/* Shuts our side once everything is written; lingers while the client may still be sending. */
void h2_shut(struct h2_conn *h2);
/* Marks for the flush. */
void h2_mark_dirty(struct h2_conn *h2);
/* One rate-limited line about this client at level info. */
void h2_log(const struct h2_conn *h2, const char *what);

/* --- h2_session.c --- */

/* Makes the session and queues our SETTINGS. */
enum error h2_session_new(struct h2_conn *h2) MUST_CHECK;

/* --- h2_callbacks.c --- */

void h2_callbacks_set(nghttp2_session_callbacks *callbacks);

/* --- h2_read.c --- */

/* Reads what there is, within a budget, and hands it to the session. */
void h2_read(struct h2_conn *h2);
/* Hands bytes to the session; false when the connection is over. */
bool h2_feed(struct h2_conn *h2, const uint8_t *data, size_t length) MUST_CHECK;
/* Whether bytes are taken from the socket now. */
bool h2_wants_bytes(const struct h2_conn *h2);

/* --- h2_flush.c --- */

/* Writes what can be written; the loop's flush. */
enum loop_flush h2_flush(struct loop_dirty *dirty);
/* Remembers what to do when the socket has taken the output up to here. */
enum error h2_push_mark(struct h2_stream *stream, size_t body, bool end) MUST_CHECK;
/* Forgets all marks. */
void h2_drop_marks(struct h2_conn *h2);

/* --- h2_timers.c --- */

void h2_timers_init(struct h2_conn *h2);
void h2_timers_done(struct h2_conn *h2);
/* Sets the timer when something has to be watched and it is not set. */
void h2_timers_arm(struct h2_conn *h2);
/* The socket is full (`blocked`), or took what there was. */
void h2_timers_write(struct h2_conn *h2, bool blocked);

static inline struct h2_conn *h2_of_conn(struct conn *conn)
{
    struct h2_conn *h2 = LIST_CONTAINER(conn, struct h2_conn, conn);
    REQUIRE_OBJECT(h2, H2_CONN_MAGIC);
    return h2;
}

/* Whether the connection is on its way out and nothing may be started on it. */
static inline bool h2_is_over(const struct h2_conn *h2)
{
    return h2->phase != H2_PHASE_OPEN;
}

static inline const struct http_settings *h2_http_settings(const struct h2_conn *h2)
{
    return h2->conn.group->settings;
}

#endif
