/* SPDX-License-Identifier: MIT */
/*
 * What a connection sends, in the loop's flush only: one burst per turn, as large as the pacer lets go, cut by the kernel (GSO). Streams are pulled
 * packet by packet, so that what was decided late still counts.
 */
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "h3/quic_state.h"

#define VECTORS 16
/* Pulls for one packet: streams that are blocked or gone take one each and give no byte. */
#define PULLS_MAX 256
/* ngtcp2's probes end there. */
#define PACKET_MAX 1452u
/* After the kernel's own limits (64 KiB, 64 segments); also what one connection may send before the others get their turn. */
#define BURST_MAX 65000u
#define BURST_PACKETS UDP_SEGMENTS_MAX

/* What is written here is sent, or copied, before the next connection writes. */
static _Thread_local uint8_t burst[UDP_BUFFER_SIZE];

/* --- the socket ---------------------------------------------------------------------------------- */

struct quic_socket *quic_conn_socket(struct quic_conn *conn, const struct addr *local)
{
    struct quic_endpoint *endpoint = conn->endpoint;

    if (conn->socket->udp.addr.sa.sa_family == local->sa.sa_family &&
        addr_port(&conn->socket->udp.addr) == addr_port(local)) {
        return conn->socket;
    }
    for (size_t i = 0; i < endpoint->socket_count; i++) {
        struct quic_socket *socket = endpoint->sockets[i];
        if (socket->udp.addr.sa.sa_family == local->sa.sa_family &&
            addr_port(&socket->udp.addr) == addr_port(local)) {
            return socket;
        }
    }
    return conn->socket;
}

void quic_remainder_drop(struct quic_conn *conn)
{
    struct quic_remainder *remainder = &conn->remainder;

    if (quic_blocked_list_linked(conn)) {
        quic_blocked_list_remove(&remainder->socket->blocked, conn);
    }
    mem_free(remainder->packets.data);
    remainder->packets.data = NULL;
}

/* The socket is full: waits for it. What is left of `packets` is kept, or lost when memory is out, as packets may be. */
static void wait_for_socket(struct quic_conn *conn, struct quic_socket *socket,
                            const struct udp_packets *packets, size_t sent)
{
    struct quic_remainder *remainder = &conn->remainder;

    remainder->socket = socket;
    if (packets != NULL && sent < packets->length) {
        uint8_t *data = mem_alloc(packets->length - sent);
        if (data != NULL) {
            memcpy(data, packets->data + sent, packets->length - sent);
            remainder->packets = *packets;
            remainder->packets.data = data;
            remainder->packets.length -= sent;
        }
    }
    quic_blocked_list_append(&socket->blocked, conn);
    if (!socket->full) {
        METRIC_INCREMENT(quic_send_blocked);
        unsigned reading = socket->endpoint->deaf ? 0 : LOOP_READ;
        socket->full = loop_io_set(&socket->io, reading | LOOP_WRITE) == ERROR_NONE;
    }
}

static void send_packets(struct quic_conn *conn, const struct udp_packets *packets)
{
    struct quic_socket *socket = quic_conn_socket(conn, &packets->local);
    size_t sent = 0;

    metric_add(METRIC_quic_packets_out,
               (int64_t)((packets->length + packets->segment - 1) / packets->segment));
    metric_add(METRIC_quic_bytes_out, (int64_t)packets->length);
    if (udp_send(&socket->udp, packets, &sent) == ERROR_AGAIN) {
        wait_for_socket(conn, socket, packets, sent);
    }
}

/* True: nothing waits (any more). */
static bool send_remainder(struct quic_conn *conn)
{
    struct quic_remainder *remainder = &conn->remainder;

    if (quic_blocked_list_linked(conn)) {
        return false; /* the socket has not said yet that it takes more */
    }
    if (remainder->packets.data == NULL) {
        return true;
    }
    struct udp_packets packets = remainder->packets;
    size_t sent = 0;
    remainder->packets.data = NULL;
    if (udp_send(&remainder->socket->udp, &packets, &sent) == ERROR_AGAIN) {
        wait_for_socket(conn, remainder->socket, &packets, sent);
    }
    mem_free(packets.data);
    return !quic_blocked_list_linked(conn);
}

/* --- packets ------------------------------------------------------------------------------------- */

/* What the library is to put into a packet next. */
struct pulled {
    int64_t stream; /* -1: nothing of the user's */
    bool end;
    size_t count;
    struct iovec vectors[VECTORS];
};

static enum error pull(struct quic_conn *conn, struct pulled *pulled)
{
    pulled->stream = -1;
    pulled->end = false;
    pulled->count = 0;
    /* Without credit of the connection even a FIN waits: there would be no end to asking. */
    if (conn->ops == NULL || !conn->opened || ngtcp2_conn_get_max_data_left(conn->library) == 0) {
        return ERROR_NONE;
    }
    return conn->ops->pull(conn->user, &pulled->stream, &pulled->end, pulled->vectors, VECTORS,
                           &pulled->count);
}

/* Deals with what the library said about the pulled stream. True: pull another one for the same packet. */
static bool judge(struct quic_conn *conn, const struct pulled *pulled, ngtcp2_ssize result,
                  ngtcp2_ssize taken)
{
    if (result == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
        conn->ops->on_blocked(conn->user, pulled->stream);
        return true;
    }
    if (result == NGTCP2_ERR_STREAM_SHUT_WR || result == NGTCP2_ERR_STREAM_NOT_FOUND) {
        conn->ops->on_shut(conn->user, pulled->stream);
        return true;
    }
    if (taken >= 0 && pulled->stream >= 0) {
        conn->ops->on_taken(conn->user, pulled->stream, (size_t)taken);
    }
    return result == NGTCP2_ERR_WRITE_MORE;
}

/* The library's write_pkt: one packet. */
static ngtcp2_ssize write_packet(ngtcp2_conn *library, ngtcp2_path *path, ngtcp2_pkt_info *info,
                                 uint8_t *out, size_t size, ngtcp2_tstamp now, void *user)
{
    struct quic_conn *conn = user;
    struct pulled pulled;
    ngtcp2_ssize result;

    for (int i = 0;; i++) {
        ngtcp2_ssize taken = -1;
        pulled = (struct pulled){.stream = -1};
        if (i < PULLS_MAX && pull(conn, &pulled) != ERROR_NONE) {
            return NGTCP2_ERR_CALLBACK_FAILURE;
        }
        uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_PADDING;
        flags |= pulled.stream >= 0 ? NGTCP2_WRITE_STREAM_FLAG_MORE : 0;
        flags |= pulled.end ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0;
        result = ngtcp2_conn_writev_stream(
            library, path, info, out, size, &taken, flags, pulled.stream,
            (const ngtcp2_vec *)(const void *)pulled.vectors, pulled.count, now);
        if (!judge(conn, &pulled, result, taken)) {
            return result;
        }
        if (conn->phase >= QUIC_PHASE_CLOSING) {
            return NGTCP2_ERR_CALLBACK_FAILURE;
        }
    }
}

static bool fill_packets(struct udp_packets *packets, const ngtcp2_path *path,
                         const ngtcp2_pkt_info *info)
{
    if (path->local.addrlen == 0 || path->remote.addrlen == 0) {
        return false;
    }
    packets->local.length = path->local.addrlen;
    memcpy(&packets->local.storage, path->local.addr, path->local.addrlen);
    packets->peer.length = path->remote.addrlen;
    memcpy(&packets->peer.storage, path->remote.addr, path->remote.addrlen);
    packets->ecn = info->ecn;
    return true;
}

static size_t burst_size(ngtcp2_conn *library)
{
    size_t quantum = ngtcp2_conn_get_send_quantum(library);
    size_t least = ngtcp2_conn_get_max_tx_udp_payload_size(library);

    least = least > PACKET_MAX ? least : PACKET_MAX;
    quantum = quantum < BURST_MAX ? quantum : BURST_MAX;
    return quantum > least ? quantum : least;
}

static void write_burst(struct quic_conn *conn)
{
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info = {0};
    size_t segment = 0;
    uint64_t now = loop_now(conn->loop);

    ngtcp2_path_storage_zero(&path);
    conn->in_library = true;
    ngtcp2_ssize length = ngtcp2_conn_write_aggregate_pkt2(conn->library, &path.path, &info, burst,
                                                           burst_size(conn->library), &segment,
                                                           write_packet, BURST_PACKETS, now);
    ngtcp2_conn_update_pkt_tx_time(conn->library, now);
    conn->in_library = false;
    if (length < 0) {
        /* An error of the user has closed the connection already. */
        quic_conn_fail(conn, (int)length);
        return;
    }
    struct udp_packets packets = {.data = burst, .length = (size_t)length, .segment = segment};
    if (length > 0 && fill_packets(&packets, &path.path, &info)) {
        send_packets(conn, &packets);
    }
}

/* --- the end ------------------------------------------------------------------------------------- */

/* CONNECTION_CLOSE, after which a small record answers late packets in the connection's place. */
static void write_close(struct quic_conn *conn)
{
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info = {0};
    bool application = conn->error.type == NGTCP2_CCERR_TYPE_APPLICATION;
    uint64_t code = conn->error.error_code;

    ngtcp2_path_storage_zero(&path);
    ngtcp2_ssize length =
        ngtcp2_conn_write_connection_close(conn->library, &path.path, &info, burst,
                                           QUIC_INITIAL_MIN, &conn->error, loop_now(conn->loop));
    struct udp_packets packets = {
        .data = burst, .length = length > 0 ? (size_t)length : 0, .segment = (size_t)length};
    if (length > 0 && fill_packets(&packets, &path.path, &info)) {
        struct quic_socket *socket = quic_conn_socket(conn, &packets.local);
        size_t sent = 0;
        METRIC_INCREMENT(quic_packets_out);
        metric_add(METRIC_quic_bytes_out, (int64_t)packets.length);
        /* A full socket loses it: the record sends it again when the peer goes on. */
        (void)!udp_send(&socket->udp, &packets, &sent);
        quic_close_wait_begin(conn->endpoint, &conn->owner, burst, (size_t)length,
                              3 * ngtcp2_conn_get_pto(conn->library));
    }
    quic_conn_end(conn, false, application, code);
}

enum loop_flush quic_conn_flush(struct loop_dirty *dirty)
{
    struct quic_conn *conn = LIST_CONTAINER(dirty, struct quic_conn, dirty);

    REQUIRE_OBJECT(conn, QUIC_CONN_MAGIC);
    if (conn->phase < QUIC_PHASE_CLOSING && send_remainder(conn)) {
        write_burst(conn);
    }
    if (conn->phase == QUIC_PHASE_CLOSING) {
        write_close(conn);
    }
    if (conn->phase < QUIC_PHASE_CLOSING) {
        quic_conn_arm(conn);
    }
    return LOOP_FLUSH_CLEAN;
}
