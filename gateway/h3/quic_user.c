/* SPDX-License-Identifier: MIT */
/* What the connection's user asks of it (h3/quic.h): streams and their credit. Each call changes what the library has to send and marks; nothing is sent here. */
#include "base/strbuf.h"
#include "h3/quic_state.h"

static void mark(struct quic_conn *conn)
{
    if (conn->phase != QUIC_PHASE_DEAD) {
        loop_mark_dirty(conn->loop, &conn->dirty);
    }
}

enum error quic_conn_open_uni(struct quic_conn *conn, int64_t *ret_stream)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    int result = ngtcp2_conn_open_uni_stream(conn->library, ret_stream, NULL);

    mark(conn);
    return result == 0                              ? ERROR_NONE
           : result == NGTCP2_ERR_STREAM_ID_BLOCKED ? ERROR_LIMIT
                                                    : ERROR_NO_MEMORY;
}

void quic_conn_consumed(struct quic_conn *conn, int64_t stream, size_t bytes)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    if (stream >= 0) {
        /* A stream that is gone needs none. */
        (void)ngtcp2_conn_extend_max_stream_offset(conn->library, stream, bytes);
    }
    ngtcp2_conn_extend_max_offset(conn->library, bytes);
    mark(conn);
}

void quic_conn_grant_stream(struct quic_conn *conn, unsigned count)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    if (conn->phase >= QUIC_PHASE_CLOSING) {
        return;
    }
    ngtcp2_conn_extend_max_streams_bidi(conn->library, count);
    mark(conn);
}

void quic_conn_stop_reading(struct quic_conn *conn, int64_t stream, uint64_t code)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    if (conn->phase < QUIC_PHASE_CLOSING &&
        ngtcp2_conn_shutdown_stream_read(conn->library, 0, stream, code) == NGTCP2_ERR_NOMEM) {
        quic_conn_fail(conn, NGTCP2_ERR_NOMEM);
    }
    mark(conn);
}

void quic_conn_reset_stream(struct quic_conn *conn, int64_t stream, uint64_t code)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    if (conn->phase < QUIC_PHASE_CLOSING &&
        ngtcp2_conn_shutdown_stream_write(conn->library, 0, stream, code) == NGTCP2_ERR_NOMEM) {
        quic_conn_fail(conn, NGTCP2_ERR_NOMEM);
    }
    mark(conn);
}

void quic_conn_mark_dirty(struct quic_conn *conn)
{
    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    mark(conn);
}

struct loop *quic_conn_loop(const struct quic_conn *conn)
{
    return conn->loop;
}

const struct addr *quic_conn_peer(const struct quic_conn *conn)
{
    return &conn->peer;
}

const struct addr *quic_conn_local(const struct quic_conn *conn)
{
    return &conn->local;
}

const struct tls_info *quic_conn_tls(const struct quic_conn *conn)
{
    return conn->tls_info;
}

bool quic_conn_early(const struct quic_conn *conn)
{
    return !ngtcp2_conn_get_handshake_completed(conn->library);
}

bool quic_conn_stream_blocked(const struct quic_conn *conn, int64_t stream)
{
    return ngtcp2_conn_get_max_data_left(conn->library) == 0 ||
           ngtcp2_conn_get_max_stream_data_left(conn->library, stream) == 0;
}

uint64_t quic_conn_cwnd(const struct quic_conn *conn)
{
    ngtcp2_conn_info info;

    ngtcp2_conn_get_conn_info(conn->library, &info);
    return info.cwnd;
}

uint64_t quic_conn_pto(const struct quic_conn *conn)
{
    return ngtcp2_conn_get_pto(conn->library);
}

uint64_t quic_conn_timestamp(const struct quic_conn *conn)
{
    return loop_now(conn->loop);
}

void quic_conn_dump(const struct quic_conn *conn, struct strbuf *out)
{
    static const char *const phases[] = {"handshake", "open", "closing", "dead"};
    ngtcp2_conn_info info;
    char peer[ADDR_TEXT_SIZE];

    ngtcp2_conn_get_conn_info(conn->library, &info);
    addr_format(&conn->peer, peer);
    strbuf_printf(
        out, "quic %s %s version 0x%08x rtt %llu us cwnd %llu in flight %llu credit %llu lost %llu",
        peer, phases[conn->phase], ngtcp2_conn_get_negotiated_version(conn->library),
        (unsigned long long)(info.smoothed_rtt / NGTCP2_MICROSECONDS),
        (unsigned long long)info.cwnd, (unsigned long long)info.bytes_in_flight,
        (unsigned long long)ngtcp2_conn_get_max_data_left(conn->library),
        (unsigned long long)info.pkt_lost);
}
