/* SPDX-License-Identifier: MIT */
/*
 * One loop's side of the UDP ports: reads datagrams, finds whose they are by their connection id, and passes on what is another loop's or process's. It
 * owns sockets, connections and what is left of closed ones.
 */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/strbuf.h"
#include "h3/quic_state.h"
#include "net/listener.h"
#include "net/tls_context.h"
#include "net/tls_quic.h"

/* Datagrams of one wake-up; empty ones count. */
#define DATAGRAMS_MAX 64

/* What recvmsg fills; used up before it returns to the loop. */
static _Thread_local uint8_t received[UDP_BUFFER_SIZE];

/* --- what loops share ---------------------------------------------------------------------------- */

enum error quic_server_new(const struct quic_server_settings *settings,
                           struct quic_server **ret_server, char *text, size_t text_size)
{
    REQUIRE(settings->loops > 0 && tls_quic_ready(settings->tls));
    struct quic_server *server = mem_calloc(1, sizeof(*server));

    (void)text, (void)text_size;
    if (server == NULL) {
        return ERROR_NO_MEMORY;
    }
    server->magic = QUIC_SERVER_MAGIC;
    server->given = *settings;
    tls_context_ref(settings->tls);
    REQUIRE(pthread_mutex_init(&server->tls_lock, NULL) == 0);
    server->endpoints = mem_calloc(settings->loops, sizeof(*server->endpoints));
    server->inboxes = mem_calloc(settings->loops, sizeof(*server->inboxes));
    if (server->endpoints == NULL || server->inboxes == NULL || quic_tls_prepare() != ERROR_NONE) {
        quic_server_free(server);
        return ERROR_NO_MEMORY;
    }
    *ret_server = server;
    return ERROR_NONE;
}

void quic_server_free(struct quic_server *server)
{
    if (server == NULL) {
        return;
    }
    REQUIRE_OBJECT(server, QUIC_SERVER_MAGIC);
    REQUIRE(atomic_load(&server->half_open) == 0);
    tls_context_unref(server->given.tls);
    pthread_mutex_destroy(&server->tls_lock);
    mem_free(server->endpoints);
    mem_free(server->inboxes);
    explicit_bzero(server->given.secret, sizeof(server->given.secret));
    server->magic = MAGIC_FREED;
    mem_free(server);
}

void quic_server_set_tls(struct quic_server *server, struct tls_context *tls)
{
    if (!tls_quic_ready(tls)) {
        return; /* no listener has "h3" any more: what is bound goes on as before */
    }
    tls_context_ref(tls);
    pthread_mutex_lock(&server->tls_lock);
    struct tls_context *old = server->given.tls;
    server->given.tls = tls;
    pthread_mutex_unlock(&server->tls_lock);
    tls_context_unref(old);
}

void quic_server_set_handover(struct quic_server *server, const struct quic_handover *handover)
{
    server->handover = handover != NULL ? *handover : (struct quic_handover){0};
}

/* --- packets to their owners --------------------------------------------------------------------- */

/* Ports of services that answer more than they are asked: who seems to send from there, did not. */
static bool is_reflector(const struct addr *peer)
{
    static const uint16_t ports[] = {0,   7,   17,  19,  53,  69,   111,  123,  137,  138,
                                     161, 389, 427, 520, 751, 1900, 3702, 5353, 11211};
    unsigned port = addr_port(peer);

    for (size_t i = 0; i < sizeof(ports) / sizeof(*ports); i++) {
        if (ports[i] == port) {
            return true;
        }
    }
    return false;
}

static void give(struct quic_endpoint *endpoint, struct quic_owner *owner,
                 const struct quic_datagram *datagram)
{
    if (owner->kind == QUIC_OWNER_CONN) {
        quic_conn_read(LIST_CONTAINER(owner, struct quic_conn, owner), datagram);
    } else {
        quic_close_wait_packet(endpoint, owner, datagram);
    }
}

static bool is_long(const struct quic_datagram *datagram)
{
    return (datagram->data[0] & 0x80) != 0;
}

/* An id of ours with no connection here: another loop's, another process's, or a lost one's. True: dealt with. */
static bool route(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                  const ngtcp2_version_cid *ids)
{
    struct quic_server *server = endpoint->server;
    struct quic_cid_place place;

    if (!quic_cid_read(&endpoint->keys, ids->dcid, ids->dcidlen, &place)) {
        return false;
    }
    if (place.generation == server->given.generation) {
        if (place.loop != endpoint->index && place.loop < server->given.loops &&
            !datagram->forwarded) {
            quic_forward(endpoint, place.loop, datagram);
            return true;
        }
    } else if (quic_accept_is_retried(endpoint, datagram)) {
        return false; /* asked by the process before to prove its address, which holds for each of us */
    } else if (server->handover.on_older != NULL &&
               server->handover.on_older(
                   server->handover.context, place.generation, &datagram->peer, &datagram->local,
                   datagram->ecn, (struct slice){(const char *)datagram->data, datagram->length})) {
        return true;
    } else if (endpoint->yielded || loop_now(endpoint->loop) < server->given.others_until) {
        /* Who has it reads the same sockets: a reset from here would end a connection that lives. */
        METRIC_INCREMENT(quic_drops_unknown);
        return true;
    }
    if (is_long(datagram)) {
        return false; /* a Retry's id comes back with a first packet */
    }
    quic_reply_reset(endpoint, datagram, ids->dcid);
    return true;
}

void quic_endpoint_take(struct quic_endpoint *endpoint, struct quic_datagram *datagram)
{
    ngtcp2_version_cid ids;
    int result =
        ngtcp2_pkt_decode_version_cid(&ids, datagram->data, datagram->length, QUIC_CID_LENGTH);

    if (result == NGTCP2_ERR_VERSION_NEGOTIATION) {
        quic_reply_version(endpoint, datagram, &ids);
        return;
    }
    if (result != 0) {
        METRIC_INCREMENT(quic_drops_malformed);
        return;
    }
    struct quic_owner *owner = quic_table_find(&endpoint->table, ids.dcid, ids.dcidlen);
    if (owner == NULL && is_long(datagram)) {
        uint64_t client = quic_client_cid(datagram, ids.dcid, ids.dcidlen);
        owner = quic_table_find(&endpoint->table, &client, sizeof(client));
    }
    if (owner != NULL) {
        give(endpoint, owner, datagram);
    } else if (route(endpoint, datagram, &ids)) {
        return;
    } else if (is_long(datagram)) {
        quic_accept(endpoint, datagram);
    } else {
        METRIC_INCREMENT(quic_drops_unknown);
    }
}

/* What recvmsg gave: one datagram after the other. Returns how many. */
static unsigned take_packets(struct quic_socket *socket, const struct udp_packets *packets)
{
    struct quic_datagram datagram = {
        .socket = socket, .peer = packets->peer, .local = packets->local, .ecn = packets->ecn};
    unsigned count = 0;
    size_t at = 0;

    do {
        size_t left = packets->length - at;
        datagram.data = packets->data + at;
        datagram.length = left < packets->segment ? left : packets->segment;
        at += datagram.length;
        count++;
        METRIC_INCREMENT(quic_packets_in);
        if (datagram.length < QUIC_DATAGRAM_MIN) {
            METRIC_INCREMENT(quic_drops_empty);
        } else if (is_reflector(&packets->peer)) {
            METRIC_INCREMENT(quic_drops_port);
        } else {
            quic_endpoint_take(socket->endpoint, &datagram);
        }
    } while (at < packets->length);
    metric_add(METRIC_quic_bytes_in, (int64_t)packets->length);
    return count;
}

static void on_writable(struct quic_socket *socket)
{
    struct quic_conn *conn;

    socket->full = false;
    while ((conn = quic_blocked_list_pop(&socket->blocked)) != NULL) {
        loop_mark_dirty(socket->endpoint->loop, &conn->dirty);
    }
    if (loop_io_set(&socket->io, socket->endpoint->deaf ? 0 : LOOP_READ) != ERROR_NONE) {
        log_warning("quic", "out of memory: a UDP socket may be woken in vain");
    }
}

static void on_socket(struct loop_io *io, unsigned events)
{
    struct quic_socket *socket = LIST_CONTAINER(io, struct quic_socket, io);
    struct udp_packets packets;
    unsigned count = 0;

    if (events & LOOP_WRITE) {
        on_writable(socket);
    }
    while ((events & LOOP_READ) && count < DATAGRAMS_MAX) {
        enum error error = udp_receive(&socket->udp, received, &packets);
        if (error == ERROR_AGAIN) {
            break;
        }
        /* An ICMP error of an earlier datagram is told once, and says nothing that can be trusted. */
        count += error == ERROR_NONE ? take_packets(socket, &packets) : 1;
    }
}

/* As the kernel chooses: the address itself before all addresses. NULL: none is bound there. */
static struct quic_socket *socket_of(const struct quic_endpoint *endpoint, const struct addr *local)
{
    struct quic_socket *wide = NULL;

    for (size_t i = 0; i < endpoint->socket_count; i++) {
        struct quic_socket *socket = endpoint->sockets[i];
        if (addr_equal(&socket->udp.addr, local)) {
            return socket;
        }
        if (addr_is_any(&socket->udp.addr) && addr_port(&socket->udp.addr) == addr_port(local) &&
            socket->udp.addr.sa.sa_family == local->sa.sa_family) {
            wide = socket;
        }
    }
    return wide;
}

bool quic_endpoint_inject(struct quic_endpoint *endpoint, const struct udp_packets *packets)
{
    struct quic_socket *socket = socket_of(endpoint, &packets->local);

    if (socket != NULL) {
        (void)take_packets(socket, packets);
    }
    return socket != NULL;
}

void quic_endpoint_retire(struct quic_endpoint *endpoint)
{
    endpoint->deaf = true;
    for (size_t i = 0; i < endpoint->socket_count; i++) {
        struct quic_socket *socket = endpoint->sockets[i];
        (void)!loop_io_set(&socket->io, socket->full ? LOOP_WRITE : 0); /* takes no memory */
    }
}

/* --- life ---------------------------------------------------------------------------------------- */

struct quic_endpoint *quic_endpoint_new(struct quic_server *server, struct loop *loop,
                                        const struct quic_acceptor *acceptor)
{
    REQUIRE_OBJECT(server, QUIC_SERVER_MAGIC);
    REQUIRE(loop_index(loop) < server->given.loops);
    struct quic_endpoint *endpoint = mem_calloc(1, sizeof(*endpoint));

    if (endpoint == NULL) {
        return NULL;
    }
    endpoint->magic = QUIC_ENDPOINT_MAGIC;
    endpoint->server = server;
    endpoint->loop = loop;
    endpoint->index = loop_index(loop);
    endpoint->acceptor = *acceptor;
    endpoint->reset_tokens = server->given.settings.reset_burst;
    endpoint->reset_filled_at = clock_now();
    quic_conn_list_init(&endpoint->conns);
    quic_close_wait_list_init(&endpoint->close_waits);
    quic_reply_list_init(&endpoint->replies);
    loop_dirty_init(&endpoint->dirty, LOOP_STAGE_CONN, quic_reply_flush);
    if (quic_table_init(&endpoint->table) != ERROR_NONE) {
        mem_free(endpoint);
        return NULL;
    }
    if (quic_keys_init(&endpoint->keys, server->given.secret) != ERROR_NONE) {
        quic_endpoint_free(endpoint);
        return NULL;
    }
    server->endpoints[endpoint->index] = endpoint;
    return endpoint;
}

enum error quic_endpoint_add(struct quic_endpoint *endpoint, int fd, const struct addr *addr)
{
    struct quic_socket *socket = mem_calloc(1, sizeof(*socket));
    struct quic_socket **sockets =
        mem_realloc(endpoint->sockets, (endpoint->socket_count + 1) * sizeof(struct quic_socket *));

    if (sockets != NULL) {
        endpoint->sockets = sockets;
    }
    if (socket == NULL || sockets == NULL) {
        mem_free(socket);
        return ERROR_NO_MEMORY;
    }
    socket->endpoint = endpoint;
    socket->index = (unsigned)endpoint->socket_count;
    quic_blocked_list_init(&socket->blocked);
    udp_socket_init(&socket->udp, fd, addr);
    loop_io_init(&socket->io, endpoint->loop, fd, on_socket);
    if (loop_io_set(&socket->io, LOOP_READ) != ERROR_NONE) {
        mem_free(socket);
        return ERROR_NO_MEMORY;
    }
    endpoint->sockets[endpoint->socket_count++] = socket;
    return ERROR_NONE;
}

void quic_endpoint_drain(struct quic_endpoint *endpoint)
{
    endpoint->draining = true;
}

void quic_endpoint_yield(struct quic_endpoint *endpoint)
{
    endpoint->yielded = true;
}

void quic_endpoint_hold(struct quic_endpoint *endpoint, bool hold)
{
    endpoint->held = hold;
}

void quic_endpoint_close(struct quic_endpoint *endpoint)
{
    endpoint->closing = true;
    LIST_EACH(quic_conn_list, &endpoint->conns, struct quic_conn, conn)
    {
        /* RFC 9114 8.1, H3_NO_ERROR: whoever was in time has said why. */
        quic_conn_close(conn, 0x100, "");
    }
}

void quic_endpoint_free(struct quic_endpoint *endpoint)
{
    struct quic_conn *conn;

    if (endpoint == NULL) {
        return;
    }
    REQUIRE_OBJECT(endpoint, QUIC_ENDPOINT_MAGIC);
    while ((conn = quic_conn_list_first(&endpoint->conns)) != NULL) {
        quic_conn_end(conn, false, false, 0);
    }
    quic_close_waits_drop(endpoint);
    quic_replies_drop(endpoint);
    for (size_t i = 0; i < endpoint->socket_count; i++) {
        loop_io_done(&endpoint->sockets[i]->io);
        close(endpoint->sockets[i]->udp.fd);
        mem_free(endpoint->sockets[i]);
    }
    mem_free(endpoint->sockets);
    quic_table_done(&endpoint->table);
    quic_keys_done(&endpoint->keys);
    endpoint->magic = MAGIC_FREED;
    mem_free(endpoint);
}

void quic_endpoint_dump(const struct quic_endpoint *endpoint, struct strbuf *out)
{
    strbuf_printf(out, "quic loop %u: %zu connections, %zu closed ones, %zu ids\n", endpoint->index,
                  endpoint->conns.length, endpoint->close_waits.length, endpoint->table.length);
    LIST_EACH(quic_conn_list, (struct quic_conn_list *)(uintptr_t)&endpoint->conns,
              struct quic_conn, conn)
    {
        quic_conn_dump(conn, out);
        strbuf_append_char(out, '\n');
    }
}
