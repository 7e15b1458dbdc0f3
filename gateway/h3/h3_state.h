/* SPDX-License-Identifier: MIT */
/*
 * The state of one HTTP/3 connection, shared by the files of h3/ that make it up: h3_conn.c (life, codec_ops), h3_session.c (the
 * library's session and what it says), h3_read.c (bytes from the client), h3_send.c (bytes to the client), h3_stream.c, h3_request.c and
 * h3_respond.c (streams), h3_guard.c (floods), h3_timers.c (deadlines). The transport (quic_*.c) does not include it.
 */
#ifndef GATEWAY_H3_H3_STATE_H
#define GATEWAY_H3_H3_STATE_H

#include <nghttp3/nghttp3.h>

#include "base/clock.h"
#include "base/idmap.h"
#include "base/metrics.h"
#include "h3/h3_conn.h"
#include "h3/h3_guard.h"
#include "h3/h3_phase.h"
#include "h3/h3_stream.h"

#define H3_CONN_MAGIC UINT32_C(0x48334330)

struct h3_conn {
    uint32_t magic;
    enum h3_phase phase;
    struct conn conn;
    struct quic_conn *quic;
    const struct h3_settings *settings;
    h3_identify *identify;
    nghttp3_conn *session; /* NULL before on_open */
    struct h3_guard guard;
    struct h3_stream_list streams;
    struct idmap by_id;
    struct h3_work_list work;  /* streams to be looked at once the library has returned */
    uint64_t created, granted; /* request streams: begun by the client, and that it may begin */
    uint64_t unconsumed;       /* request bytes received that nobody has taken yet, all streams */
    /* What pull gave last. */
    size_t pulled;
    bool pulled_end;
    struct loop_dirty dirty;
    struct loop_timer timer;
    uint64_t idle_since; /* no stream is open; 0: one is */
    uint64_t notice_at, final_at;
    enum h3_drain drain;
    bool close_idle;              /* no waiting for what may be on its way */
    enum end_reason close_reason; /* CLOSING */
};

/* --- h3_conn.c --- */

/* Marks for the flush. */
void h3_mark_dirty(struct h3_conn *h3);
/* One rate-limited line about this client at level info. */
void h3_log(const struct h3_conn *h3, const char *what);
/* Ends the connection with this code (RFC 9114 8.1): what is under way ends for `reason` in the flush. */
void h3_close(struct h3_conn *h3, uint64_t code, enum end_reason reason, const char *what);
/* The same for an error or a flood of the client: counted and logged. */
void h3_fail(struct h3_conn *h3, uint64_t code, const char *what);
/* The same because memory is out. */
void h3_no_memory(struct h3_conn *h3);
/* Says that the end is near, or (`final`) which streams were the last; RFC 9114 5.2. */
void h3_begin_drain(struct h3_conn *h3, bool final);
/* Closes a connection whose graceful end is complete. */
void h3_look_for_end(struct h3_conn *h3);

/* --- h3_session.c --- */

/* Makes the session with its three streams (RFC 9114 6.2). ERROR_LIMIT: the client grants no such streams. */
enum error h3_session_new(struct h3_conn *h3) MUST_CHECK;
/* The library refuses to go on: ends the connection with the code that it means. */
void h3_session_failed(struct h3_conn *h3, nghttp3_ssize error);

/* --- h3_read.c, h3_send.c: of quic_user_ops --- */

enum error h3_on_stream_data(void *user, int64_t id, struct slice bytes, bool end);
void h3_on_stream_reset(void *user, int64_t id, uint64_t code);
void h3_on_stop_sending(void *user, int64_t id, uint64_t code);
void h3_on_stream_closed(void *user, int64_t id, uint64_t code);

enum error h3_pull(void *user, int64_t *ret_stream, bool *ret_end, struct iovec *vectors,
                   size_t max, size_t *ret_count);
void h3_on_taken(void *user, int64_t id, size_t bytes);
void h3_on_acked(void *user, int64_t id, uint64_t bytes);
void h3_on_blocked(void *user, int64_t id);
void h3_on_shut(void *user, int64_t id);
void h3_on_stream_window(void *user, int64_t id);

/* --- h3_timers.c --- */

void h3_timers_init(struct h3_conn *h3);
void h3_timers_done(struct h3_conn *h3);
/* Sets the timer when something has to be watched and it is not set early enough. */
void h3_timers_arm(struct h3_conn *h3);

static inline struct h3_conn *h3_of_conn(struct conn *conn)
{
    struct h3_conn *h3 = LIST_CONTAINER(conn, struct h3_conn, conn);
    REQUIRE_OBJECT(h3, H3_CONN_MAGIC);
    return h3;
}

static inline struct h3_conn *h3_of_user(void *user)
{
    struct h3_conn *h3 = user;
    REQUIRE_OBJECT(h3, H3_CONN_MAGIC);
    return h3;
}

/* Whether streams are still read and written. */
static inline bool h3_is_open(const struct h3_conn *h3)
{
    return h3->phase == H3_PHASE_OPEN && h3->session != NULL;
}

static inline const struct http_settings *h3_http_settings(const struct h3_conn *h3)
{
    return h3->conn.group->settings;
}

/* Whether an id names a request stream (RFC 9114 6.1). */
static inline bool h3_is_request(int64_t id)
{
    return (id & 3) == 0;
}

#endif
