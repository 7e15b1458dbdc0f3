/* SPDX-License-Identifier: MIT */
/*
 * From accept to user: the bound per address, the PROXY protocol header, the TLS handshake, one deadline for both, then the
 * user's on_accept. Works in the loop that serves the client; knows no codec.
 */
#include "net/listener_seat.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "net/listener_limits.h"
#include "net/transport_tls.h"

#define LOG_GATE_INTERVAL (10 * CLOCK_NS_PER_S)
#define PROXY_PEEK 256
#define LINGER_TIME CLOCK_NS_PER_S
#define LINGER_READS 8

void listener_log_limited(struct listener_log_gate *gate, uint64_t now, const struct addr *addr,
                          const char *format, ...)
{
    if (now < gate->next_at) {
        gate->held++;
        return;
    }
    char text[ADDR_TEXT_SIZE], line[256], held[64] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    addr_format(addr, text);
    if (gate->held > 0) {
        snprintf(held, sizeof(held), " (and %u more such lines not written)", gate->held);
    }
    log_warning("net", "%s: %s%s", text, line, held);
    gate->held = 0;
    gate->next_at = now + LOG_GATE_INTERVAL;
}

void listener_client_drop(struct listener *listener, struct listener_client *client)
{
    close(client->fd);
    tls_context_unref(client->tls);
    METRIC_DECREMENT(conns);
    listener_limits_leave(listener->limits);
}

static void drop_counted(struct listener_seat *seat, struct listener_client *client)
{
    close(client->fd);
    tls_context_unref(client->tls);
    listener_connection_closed(seat->listener->limits, &client->peer);
}

static void log_refused(struct listener_seat *seat, const struct addr *peer, const char *why)
{
    listener_log_limited(&seat->refused_gate, loop_now(seat->loop), peer, "connection closed: %s",
                         why);
}

/* Counts the client for its address; false when it must be closed. */
static bool count_peer(struct listener_seat *seat, const struct addr *peer)
{
    enum error error = listener_limits_enter_peer(seat->listener->limits, peer);
    if (error == ERROR_LIMIT) {
        METRIC_INCREMENT(conns_refused_per_ip);
        log_refused(seat, peer, "max_connections_per_ip is reached for this address");
    }
    return error == ERROR_NONE;
}

static void hand_over(struct listener_seat *seat, struct transport *transport,
                      const struct listener_settings *settings)
{
    struct listener *listener = seat->listener;
    bool buffered = transport_buffered(transport);
    listener->on_accept(seat->context, transport, settings);
    /* The first request often comes in one flight with the client's Finished and then lies inside OpenSSL already: no event
     * would tell. The memory of a transport that was destroyed meanwhile lives until the end of the turn. */
    if (buffered && transport->magic != MAGIC_FREED && !transport->watching &&
        transport->on_ready != NULL && transport_buffered(transport)) {
        transport->on_ready(transport->user, LOOP_READ);
    }
}

/* --- clients in their handshake ------------------------------------------------------------------------------------- */

static void pending_free(struct loop_grave *grave)
{
    mem_free(LIST_CONTAINER(grave, struct listener_pending, grave));
}

/* Takes it out of everything; what it still holds (client or transport) is the caller's. */
static void pending_end(struct listener_pending *pending)
{
    struct listener_seat *seat = pending->seat;
    listener_pending_list_remove(&seat->pending, pending);
    loop_timer_clear(&pending->deadline);
    loop_io_done(&pending->io);
    listener_limits_leave_handshake(seat->listener->limits);
    atomic_fetch_sub(&seat->listener->handshakes, 1);
    loop_bury(seat->loop, &pending->grave, pending_free);
}

static void pending_close(struct listener_pending *pending)
{
    struct listener_seat *seat = pending->seat;
    pending_end(pending);
    if (pending->transport != NULL) {
        struct addr peer = pending->transport->peer;
        transport_destroy(pending->transport, false);
        listener_connection_closed(seat->listener->limits, &peer);
    } else if (pending->counted_peer) {
        drop_counted(seat, &pending->client);
    } else {
        listener_client_drop(seat->listener, &pending->client);
    }
}

static void pending_log(struct listener_pending *pending, const char *what, const char *why)
{
    if (log_get_level() > LOG_DEBUG) {
        return;
    }
    char text[ADDR_TEXT_SIZE];
    addr_format(&pending->client.peer, text);
    log_debug("net", "%s: %s: %s", text, what, why);
}

static void pending_on_deadline(struct loop_timer *timer)
{
    struct listener_pending *pending = LIST_CONTAINER(timer, struct listener_pending, deadline);
    if (!pending->lingering) {
        METRIC_INCREMENT(tls_handshake_timeouts);
        pending_log(pending, "handshake", "not done within handshake_timeout");
    }
    pending_close(pending);
}

/* Throws away what the client still sends. */
static void pending_on_linger(void *user, unsigned events)
{
    (void)events;
    struct listener_pending *pending = user;
    char bytes[4096];
    ssize_t length = 0;
    for (unsigned i = 0; i < LINGER_READS; i++) {
        length = recv(pending->transport->io.fd, bytes, sizeof(bytes), 0);
        if (length <= 0) {
            break;
        }
    }
    if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) {
        pending_close(pending);
    }
}

/* After a failed handshake: a close over bytes that were not read is a reset, and a reset can destroy the alert that says
 * why (a TLS 1.3 client sends its request before it learns that its certificate was refused). The place in max_handshakes stays
 * taken, so that this costs no more than a handshake does. */
static void pending_linger(struct listener_pending *pending)
{
    struct transport *transport = pending->transport;
    pending->lingering = true;
    transport->on_ready = pending_on_linger;
    transport->read_needs_write = transport->write_needs_read = false;
    (void)shutdown(transport->io.fd, SHUT_WR);
    if (loop_timer_set(&pending->deadline, LINGER_TIME) != ERROR_NONE ||
        transport_want(transport, TRANSPORT_READ_ON, false) != ERROR_NONE) {
        pending_close(pending);
        return;
    }
    pending_on_linger(pending, 0);
}

static void pending_on_handshake(void *user, unsigned events)
{
    (void)events;
    struct listener_pending *pending = user;
    struct listener_seat *seat = pending->seat;
    enum error error = transport_tls_handshake(pending->transport);
    if (error == ERROR_AGAIN) {
        return;
    }
    if (error != ERROR_NONE) {
        METRIC_INCREMENT(tls_handshake_failures);
        pending_log(pending, "TLS handshake", transport_tls_failure(pending->transport));
        error == ERROR_PROTOCOL ? pending_linger(pending) : pending_close(pending);
        return;
    }
    METRIC_INCREMENT(tls_handshakes);
    if (pending->transport->tls->resumed) {
        METRIC_INCREMENT(tls_resumed);
    }
    pending_end(pending);
    pending->transport->on_ready = NULL;
    hand_over(seat, pending->transport, &pending->client.settings);
}

/* Makes the transport that the listener's settings ask for. Plain ends the pending time at once. */
static void pending_start(struct listener_pending *pending)
{
    struct listener_seat *seat = pending->seat;
    struct listener_client *client = &pending->client;
    const struct listener_settings *settings = &client->settings;
    loop_io_done(&pending->io);
    int fd = client->fd;
    client->fd = -1;
    if (client->tls == NULL) {
        struct transport *transport =
            transport_plain_new(seat->loop, fd, &client->peer, &client->local);
        pending_end(pending);
        if (transport == NULL) {
            listener_connection_closed(seat->listener->limits, &client->peer);
            return;
        }
        hand_over(seat, transport, settings);
        return;
    }
    struct tls_context *tls = client->tls;
    client->tls = NULL;
    pending->transport = transport_tls_new(seat->loop, fd, &client->peer, &client->local, tls,
                                           settings->h1, settings->h2);
    tls_context_unref(tls);
    if (pending->transport == NULL) {
        pending_end(pending);
        listener_connection_closed(seat->listener->limits, &client->peer);
        return;
    }
    pending->transport->on_ready = pending_on_handshake;
    pending->transport->user = pending;
    /* SSL_do_handshake comes with the first bytes: a client that only connects costs no handshake buffers. */
    if (transport_want(pending->transport, TRANSPORT_READ_ON, false) != ERROR_NONE) {
        pending_close(pending);
    }
}

/* --- the PROXY header ----------------------------------------------------------------------------------------------- */

static void proxy_refuse(struct listener_pending *pending, const char *why)
{
    METRIC_INCREMENT(proxy_protocol_errors);
    log_refused(pending->seat, &pending->client.peer, why);
    pending_close(pending);
}

static void proxy_finish(struct listener_pending *pending)
{
    struct listener_client *client = &pending->client;
    if (pending->proxy.known) {
        client->peer = pending->proxy.source;
        client->local = pending->proxy.destination;
    }
    if (!count_peer(pending->seat, &client->peer)) {
        pending_close(pending);
        return;
    }
    pending->counted_peer = true;
    pending_start(pending);
}

/* Looks first and then takes only the header's bytes: what follows is for TLS or the codec, which read the socket
 * themselves. All that was looked at is taken while the header goes on, so a level-triggered watch cannot spin. */
static void proxy_on_ready(struct loop_io *io, unsigned events)
{
    (void)events;
    struct listener_pending *pending = LIST_CONTAINER(io, struct listener_pending, io);
    uint8_t bytes[PROXY_PEEK];
    ssize_t length = recv(io->fd, bytes, sizeof(bytes), MSG_PEEK);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (length <= 0) {
        pending_log(pending, "PROXY protocol", "the peer closed before its header was whole");
        pending_close(pending);
        return;
    }
    size_t used = 0;
    enum error error = proxy_reader_feed(&pending->proxy, bytes, (size_t)length, &used);
    if (used > 0 && recv(io->fd, bytes, used, 0) != (ssize_t)used) {
        error = ERROR_PROTOCOL; /* cannot be: the bytes were there */
    }
    if (error == ERROR_PROTOCOL) {
        proxy_refuse(pending, "no valid PROXY protocol header came first (is the proxy set up to "
                              "send one?)");
    } else if (error == ERROR_NONE) {
        proxy_finish(pending);
    }
}

/* --- entry ---------------------------------------------------------------------------------------------------------- */

static void pending_new(struct listener_seat *seat, struct listener_client *client, bool counted)
{
    enum listener_proxy_protocol proxy = client->settings.proxy_protocol;
    struct listener_pending *pending = mem_calloc(1, sizeof(*pending));
    if (pending == NULL) {
        listener_limits_leave_handshake(seat->listener->limits);
        counted ? drop_counted(seat, client) : listener_client_drop(seat->listener, client);
        return;
    }
    pending->seat = seat;
    pending->client = *client;
    pending->counted_peer = counted;
    listener_pending_list_append(&seat->pending, pending);
    atomic_fetch_add(&seat->listener->handshakes, 1);
    loop_io_init(&pending->io, seat->loop, client->fd, proxy_on_ready);
    loop_timer_init(&pending->deadline, seat->loop, pending_on_deadline);
    if (loop_timer_set(&pending->deadline, seat->listener->limits->handshake_timeout_ns) !=
        ERROR_NONE) {
        pending_close(pending);
        return;
    }
    if (proxy == PROXY_PROTOCOL_OFF) {
        pending_start(pending);
        return;
    }
    proxy_reader_init(&pending->proxy, proxy != PROXY_PROTOCOL_V2, proxy != PROXY_PROTOCOL_V1);
    if (loop_io_set(&pending->io, LOOP_READ) != ERROR_NONE) {
        pending_close(pending);
    }
}

void listener_seat_admit(struct listener_seat *seat, struct listener_client *client)
{
    struct listener *listener = seat->listener;
    /* Behind a proxy the client's address is known only after the header. */
    bool proxied = client->settings.proxy_protocol != PROXY_PROTOCOL_OFF;
    if (seat->closed || (!proxied && !count_peer(seat, &client->peer))) {
        listener_client_drop(listener, client);
        return;
    }
    if (!proxied && client->tls == NULL) {
        struct transport *transport =
            transport_plain_new(seat->loop, client->fd, &client->peer, &client->local);
        if (transport == NULL) {
            listener_connection_closed(listener->limits, &client->peer);
            return;
        }
        hand_over(seat, transport, &client->settings);
        return;
    }
    if (!listener_limits_enter_handshake(listener->limits)) {
        METRIC_INCREMENT(tls_handshakes_refused);
        log_refused(seat, &client->peer, "max_handshakes connections are in their handshake");
        proxied ? listener_client_drop(listener, client) : drop_counted(seat, client);
        return;
    }
    pending_new(seat, client, !proxied);
}

void listener_seat_close(struct listener_seat *seat)
{
    seat->closed = true;
    struct listener_pending *pending;
    while ((pending = listener_pending_list_first(&seat->pending)) != NULL) {
        pending_close(pending);
    }
}
