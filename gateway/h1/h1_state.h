/* SPDX-License-Identifier: MIT */
/*
 * The state of one HTTP/1.1 connection, shared by the files of h1/ that make it up: h1_conn.c (life, codec_ops), h1_read.c (bytes
 * from the client), h1_flush.c (bytes to it), h1_timers.c (deadlines). Nobody else includes it.
 */
#ifndef GATEWAY_H1_H1_STATE_H
#define GATEWAY_H1_H1_STATE_H

#include "h1/h1_conn.h"
#include "h1/h1_parse.h"
#include "h1/h1_write.h"
#include "http/exchange.h"
#include "net/transport.h"

#define H1_CONN_MAGIC UINT32_C(0x48314330)

/* Where a connection is, by what is read from it. H1_PHASES(PHASE): name, what it means. */
#define H1_PHASES(PHASE)                                                                           \
    PHASE(IDLE, "no request: waiting for one to begin")                                            \
    PHASE(HEAD, "a request has begun, its head is not complete")                                   \
    PHASE(BODY, "the head was handed over, the body is being read")                                \
    PHASE(TUNNEL, "a WebSocket: what is read are its bytes, before the app has accepted too")      \
    PHASE(WAIT, "nothing more of the request is read; the response is awaited or written")         \
    PHASE(DRAIN, "the response was sent before the body came: the rest is read and dropped")       \
    PHASE(LINGER, "our side is shut: reading until the client shuts his, so that no reset meets "  \
                  "the response")                                                                  \
    PHASE(CLOSING, "to be destroyed in the flush")                                                 \
    PHASE(DEAD, "destroyed, memory goes at the end of the turn")

enum h1_phase {
#define PHASE(name, meaning) H1_PHASE_##name,
    H1_PHASES(PHASE)
#undef PHASE
        H1_PHASE_COUNT
};

/* Time spent waiting for the client, and what came of it: the clock stands while we are the ones who keep it waiting. */
struct h1_pace {
    uint64_t since; /* loop_now when the present wait began or last got something; 0: not waiting */
    uint64_t waited; /* ns, all waits before `since` */
    uint64_t bytes;
};

struct h1_conn {
    uint32_t magic;
    enum h1_phase phase;
    struct conn conn;
    struct transport *transport;
    const struct h1_settings *settings;
    struct exchange *exchange; /* NULL in IDLE, LINGER and DEAD */
    struct h1_parser parser;
    struct h1_writer writer;
    char *buffer; /* bytes that were read but cannot be parsed yet; NULL: none */
    size_t buffer_length;
    uint64_t drained; /* bytes of the body dropped in DRAIN */
    struct h1_pace body_pace, write_pace;
    uint64_t write_seen; /* bytes that had reached the client's system at the last look */
    struct loop_dirty dirty;
    struct loop_resume resume;
    struct loop_timer read_timer, write_timer;
    enum end_reason close_reason; /* CLOSING */
    bool
        head_pending; /* the final head is rendered in the flush: what happens to the request until then decides whether the
                          connection goes on, and the head must say so */
    bool head_ends;   /* nothing follows that head */
    bool close_after; /* the connection ends with the response under way */
    bool deaf;        /* nothing more of the client's bytes is taken */
    bool client_shut; /* FIN was read */
    bool lingers;     /* LINGER goes on until the client shuts its side */
    bool blocked_on_room; /* body bytes wait for room in the exchange */
    bool want_write;
    bool wanted; /* transport_want was called at least once, with: */
    bool wanted_write;
    enum transport_reading wanted_reading;
};

/* --- h1_conn.c --- */

/* The only writer of `phase`; sets the deadline of the new one. */
void h1_set_phase(struct h1_conn *h1, enum h1_phase phase);
/* Tells the transport what is wanted now; destroys the connection when that fails. */
void h1_update_wishes(struct h1_conn *h1);
/* Destroys in this turn's flush; the exchange, if any, ends for `reason`. */
void h1_close_later(struct h1_conn *h1, enum end_reason reason);
/* Destroys now: detaches the exchange for `reason`, closes (with a reset if told). h1 stays readable until the turn's end. */
void h1_destroy(struct h1_conn *h1, enum end_reason reason, bool reset);
/* The client speaks HTTP/2: the transport goes to group->on_preface, with the preface's first line and the `rest` of what was read. */
void h1_hand_over(struct h1_conn *h1, const char *rest, size_t length);
/* Ends the exchange, whose response is finished, and goes on to the next request or to the connection's end. */
void h1_end_exchange(struct h1_conn *h1);
/* Shuts our side; lingers when the client may still be sending. */
void h1_shut(struct h1_conn *h1);
/* Refuses what the client sent: answers if that is still possible, and ends the connection after it. */
void h1_refuse(struct h1_conn *h1, enum h1_error error);
/* Whether no new request will be taken. */
bool h1_is_draining(const struct h1_conn *h1);
/* Renders the final head when one is waiting. */
enum error h1_render_head(struct h1_conn *h1) MUST_CHECK;
/* Frees the read-ahead. */
void h1_drop_buffer(struct h1_conn *h1);
/* Marks for the flush. */
void h1_mark(struct h1_conn *h1);
/* One rate-limited line about this client at level info. */
void h1_log(const struct h1_conn *h1, const char *what);

/* --- h1_read.c --- */

/* Reads what there is, within a budget, and parses it. */
void h1_read(struct h1_conn *h1);
/* Goes on with bytes that were read before, then reads. */
void h1_continue(struct h1_conn *h1);
/* Whether more bytes may be taken from the socket now. */
bool h1_wants_bytes(const struct h1_conn *h1);

/* --- h1_flush.c --- */

/* Writes what can be written; the loop's flush. */
enum loop_flush h1_flush(struct loop_dirty *dirty);

/* --- h1_timers.c --- */

void h1_timers_init(struct h1_conn *h1);
void h1_timers_done(struct h1_conn *h1);
/* Sets the deadline that belongs to the phase just entered. */
void h1_timers_phase(struct h1_conn *h1);
/* The body clock: `waiting` says whether we now wait for body bytes; `bytes` have just come. */
void h1_timers_body(struct h1_conn *h1, bool waiting, size_t bytes);
/* The write clock: `blocked` says whether bytes wait for the socket. */
void h1_timers_write(struct h1_conn *h1, bool blocked);

static inline struct h1_conn *h1_of_conn(struct conn *conn)
{
    struct h1_conn *h1 = LIST_CONTAINER(conn, struct h1_conn, conn);
    REQUIRE_OBJECT(h1, H1_CONN_MAGIC);
    return h1;
}

/* Whether the connection is on its way out and nothing may be started on it. */
static inline bool h1_is_over(const struct h1_conn *h1)
{
    return h1->phase == H1_PHASE_CLOSING || h1->phase == H1_PHASE_DEAD;
}

static inline const struct http_settings *h1_http_settings(const struct h1_conn *h1)
{
    return h1->conn.group->settings;
}

#endif
