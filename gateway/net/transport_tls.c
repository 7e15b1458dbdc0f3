/* SPDX-License-Identifier: MIT */
/*
 * The TLS transport: OpenSSL over the socket itself. Owns the descriptor and the SSL object; knows nothing of what the bytes
 * mean. Every call of OpenSSL that may fail starts with an empty error queue, because SSL_get_error looks into it. OpenSSL
 * writes with write(2): the process must ignore SIGPIPE.
 */
#include "net/transport_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "net/tls_context.h"
#include "net/tls_store.h"
#include "net/transport_core.h"

/* A first answer comes in small records, which a client can open as each packet arrives; a long one in full records, whose
 * cost per byte is a third. After a pause the congestion window, and so the reason, is small again. */
#define RECORD_SMALL 4096u
#define RECORD_FULL 16384u
#define RECORD_SMALL_BYTES 65536u
#define RECORD_IDLE CLOCK_NS_PER_S

struct transport_tls {
    struct transport base;
    SSL *ssl;
    struct tls_peer peer;
    struct tls_info info;
    const char *failure;
    uint32_t
        promised; /* length of the record that is sealed but not yet sent: the next write starts with it */
    uint32_t burst; /* bytes since the last pause, as far as RECORD_SMALL_BYTES */
    uint64_t written_at;
    bool close_notify_sent;
};

/* Small writes are put together here to make one record; one buffer serves all connections of a loop. */
static _Thread_local uint8_t record_buffer[RECORD_FULL];

static struct transport_tls *tls_of(struct transport *transport)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    return LIST_CONTAINER(transport, struct transport_tls, base);
}

const char *transport_tls_failure(struct transport *transport)
{
    return tls_of(transport)->failure;
}

/* Notes why OpenSSL gave up; after it the SSL object must not be used any more. */
static enum error tls_failed(struct transport_tls *tls, int ssl_error)
{
    int error = errno;
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (tls->peer.flooded) {
        tls->failure = "too many KeyUpdate messages";
    } else if (ssl_error == SSL_ERROR_SSL && reason != NULL) {
        tls->failure = reason;
    } else {
        tls->failure = "connection lost";
    }
    ERR_clear_error();
    (void)transport_fail(&tls->base);
    errno = error;
    return ERROR_IO;
}

/* Notes what the protocol needs beside the user's wishes, and AGAIN. */
static enum error tls_needs(struct transport_tls *tls, bool read_needs_write, bool write_needs_read)
{
    struct transport *base = &tls->base;
    if (base->read_needs_write == read_needs_write && base->write_needs_read == write_needs_read) {
        return ERROR_AGAIN;
    }
    base->read_needs_write = read_needs_write;
    base->write_needs_read = write_needs_read;
    if (base->io.watched == 0) {
        return ERROR_AGAIN; /* transport_want will take it in */
    }
    return transport_update(base) == ERROR_NONE ? ERROR_AGAIN : ERROR_IO;
}

static enum error tls_read(struct transport *transport, void *out, size_t size, size_t *ret_length)
{
    struct transport_tls *tls = tls_of(transport);
    REQUIRE(size > 0);
    if (transport->dead) {
        return ERROR_IO;
    }
    size_t length = 0;
    ERR_clear_error();
    int done = SSL_read_ex(tls->ssl, out, size, &length);
    int ssl_error = done == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, done);
    if (tls->peer.flooded) {
        return tls_failed(tls, SSL_ERROR_SSL);
    }
    switch (ssl_error) {
    case SSL_ERROR_NONE:
        transport_count_in(transport, length);
        transport->buffered = true;
        *ret_length = length;
        return ERROR_NONE;
    case SSL_ERROR_ZERO_RETURN:
        return transport_end(transport, tls->peer.close_notify);
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: /* an answer to a KeyUpdate does not fit into the socket */
        transport->buffered = false;
        return tls_needs(tls, ssl_error == SSL_ERROR_WANT_WRITE, transport->write_needs_read);
    default:
        return tls_failed(tls, ssl_error);
    }
}

/* Where a write stands in the caller's vectors. */
struct gather {
    const struct iovec *vectors;
    size_t count, offset; /* `offset` into the first */
};

static void gather_skip(struct gather *gather, size_t length)
{
    while (gather->count > 0 && length >= gather->vectors->iov_len - gather->offset) {
        length -= gather->vectors->iov_len - gather->offset;
        gather->vectors++;
        gather->count--;
        gather->offset = 0;
    }
    gather->offset += length;
}

/* `length` bytes in one piece: the caller's own memory when they lie together there, else a copy. */
static const void *gather_bytes(struct gather gather, size_t length)
{
    gather_skip(&gather, 0); /* over empty vectors */
    const uint8_t *first = gather.vectors->iov_base;
    if (gather.vectors->iov_len - gather.offset >= length) {
        return first + gather.offset;
    }
    size_t filled = 0;
    while (filled < length) {
        size_t part = gather.vectors->iov_len - gather.offset;
        part = part < length - filled ? part : length - filled;
        memcpy(record_buffer + filled, (const uint8_t *)gather.vectors->iov_base + gather.offset,
               part);
        filled += part;
        gather_skip(&gather, part);
    }
    return record_buffer;
}

static size_t record_length(struct transport_tls *tls, size_t offered)
{
    if (tls->promised > 0) {
        REQUIRE(offered >= tls->promised); /* transport.h: what was offered is offered again */
        return tls->promised;
    }
    size_t limit = tls->burst < RECORD_SMALL_BYTES ? RECORD_SMALL : RECORD_FULL;
    return offered < limit ? offered : limit;
}

/* One record. NONE: it went out. AGAIN: the socket is full; the record is promised. */
static enum error write_record(struct transport_tls *tls, struct gather gather, size_t length)
{
    size_t written = 0;
    ERR_clear_error();
    int done = SSL_write_ex(tls->ssl, gather_bytes(gather, length), length, &written);
    if (done == 1) {
        REQUIRE(written == length);
        tls->promised = 0;
        tls->burst += tls->burst < RECORD_SMALL_BYTES ? (uint32_t)length : 0;
        return ERROR_NONE;
    }
    int ssl_error = SSL_get_error(tls->ssl, done);
    if (ssl_error == SSL_ERROR_WANT_WRITE || ssl_error == SSL_ERROR_WANT_READ) {
        tls->promised = (uint32_t)length;
        return tls_needs(tls, tls->base.read_needs_write, ssl_error == SSL_ERROR_WANT_READ);
    }
    return tls_failed(tls, ssl_error);
}

static enum error tls_writev(struct transport *transport, const struct iovec *vectors, size_t count,
                             size_t *ret_length)
{
    struct transport_tls *tls = tls_of(transport);
    if (transport->dead) {
        return ERROR_IO;
    }
    size_t total = 0, taken = 0;
    for (size_t i = 0; i < count; i++) {
        total += vectors[i].iov_len;
    }
    REQUIRE(total > 0);
    uint64_t now = loop_now(transport->loop);
    if (now - tls->written_at >= RECORD_IDLE) {
        tls->burst = 0;
    }
    tls->written_at = now;
    struct gather gather = {vectors, count, 0};
    while (taken < total) {
        size_t length = record_length(tls, total - taken);
        enum error error = write_record(tls, gather, length);
        if (error == ERROR_AGAIN && taken > 0) {
            break;
        }
        if (error != ERROR_NONE) {
            return error;
        }
        gather_skip(&gather, length);
        taken += length;
    }
    transport_count_out(transport, taken);
    *ret_length = taken;
    return ERROR_NONE;
}

static enum error tls_shutdown(struct transport *transport)
{
    struct transport_tls *tls = tls_of(transport);
    if (transport->dead) {
        return ERROR_IO;
    }
    /* A record that is half sent can have no close_notify behind it: the client then sees, rightly, a cut stream. */
    if (!tls->close_notify_sent && tls->promised == 0 && tls->peer.established) {
        ERR_clear_error();
        int done = SSL_shutdown(tls->ssl);
        int ssl_error = done < 0 ? SSL_get_error(tls->ssl, done) : SSL_ERROR_NONE;
        if (ssl_error == SSL_ERROR_WANT_WRITE || ssl_error == SSL_ERROR_WANT_READ) {
            return ERROR_AGAIN;
        }
        if (ssl_error != SSL_ERROR_NONE) {
            return tls_failed(tls, ssl_error);
        }
        tls->close_notify_sent = true;
    }
    return transport_shut_socket(transport);
}

static void tls_free(struct loop_grave *grave)
{
    struct transport *base = LIST_CONTAINER(grave, struct transport, grave);
    struct transport_tls *tls = LIST_CONTAINER(base, struct transport_tls, base);
    /* Else SSL_free asks the session cache, which is off, to forget the session, under a lock that all loops share. */
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    tls_info_done(&tls->info);
    mem_free(tls->peer.server_name);
    tls_context_unref(tls->peer.context);
    mem_free(tls);
}

static void tls_destroy(struct transport *transport, bool reset)
{
    transport_close(transport, reset, tls_free);
}

static const struct transport_ops tls_ops = {
    .read = tls_read,
    .writev = tls_writev,
    .shutdown = tls_shutdown,
    .destroy = tls_destroy,
};

struct transport *transport_tls_new(struct loop *loop, int fd, const struct addr *peer,
                                    const struct addr *local, struct tls_context *context, bool h1,
                                    bool h2)
{
    struct transport_tls *tls = mem_calloc(1, sizeof(*tls));
    SSL *ssl = tls != NULL ? tls_context_ssl_new(context, &tls->peer, fd) : NULL;
    if (ssl == NULL) {
        mem_free(tls);
        close(fd);
        return NULL;
    }
    tls_context_ref(context);
    tls->ssl = ssl;
    tls->failure = "";
    tls->peer.loop = loop;
    tls->peer.h1 = h1;
    tls->peer.h2 = h2;
    transport_init(&tls->base, &tls_ops, loop, fd, peer, local);
    return &tls->base;
}

/* --- the handshake -------------------------------------------------------------------------------------------------- */

static enum error handshake_done(struct transport_tls *tls)
{
    enum error error = tls_info_fill(&tls->info, tls->ssl, &tls->peer);
    if (error != ERROR_NONE) {
        tls->failure = error == ERROR_PROTOCOL ? "client certificate of the session has expired"
                                               : "out of memory";
        (void)transport_fail(&tls->base);
        return error;
    }
    tls->peer.established = true;
    tls->peer.messages_since = loop_now(tls->base.loop);
    tls->base.tls = &tls->info;
    tls->base.read_needs_write = false;
    tls->base.buffered = SSL_has_pending(tls->ssl) == 1;
    return ERROR_NONE;
}

/* nginx's kindness: a browser that was sent to http://host:443 shows a sentence instead of an error. */
static void answer_plain_http(struct transport_tls *tls)
{
    static const char answer[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: 77\r\nConnection: close\r\n\r\n"
        "This port speaks HTTPS, and the request was plain HTTP. Use https:// instead.";
    METRIC_INCREMENT(tls_plain_http);
    (void)!send(tls->base.io.fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
    (void)shutdown(tls->base.io.fd, SHUT_WR);
}

static enum error handshake_failed(struct transport_tls *tls, int ssl_error)
{
    unsigned long last = ERR_peek_last_error();
    bool plain_http =
        ERR_GET_LIB(last) == ERR_LIB_SSL && (ERR_GET_REASON(last) == SSL_R_HTTP_REQUEST ||
                                             ERR_GET_REASON(last) == SSL_R_HTTPS_PROXY_REQUEST);
    (void)tls_failed(tls, ssl_error);
    if (plain_http) {
        tls->failure = "plain HTTP sent to a TLS port";
        answer_plain_http(tls);
    } else if (tls->peer.unknown_name) {
        tls->failure = "no certificate for the server name";
    }
    return ssl_error == SSL_ERROR_SSL ? ERROR_PROTOCOL : ERROR_IO;
}

enum error transport_tls_handshake(struct transport *transport)
{
    struct transport_tls *tls = tls_of(transport);
    if (transport->dead) {
        return ERROR_IO;
    }
    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    if (done == 1) {
        return handshake_done(tls);
    }
    int ssl_error = SSL_get_error(tls->ssl, done);
    if (ssl_error != SSL_ERROR_WANT_READ && ssl_error != SSL_ERROR_WANT_WRITE) {
        return handshake_failed(tls, ssl_error);
    }
    enum error error = tls_needs(tls, ssl_error == SSL_ERROR_WANT_WRITE, false);
    if (error == ERROR_AGAIN && transport->io.watched == 0 &&
        transport_update(transport) != ERROR_NONE) {
        return ERROR_IO;
    }
    return error;
}
