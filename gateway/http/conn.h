/* SPDX-License-Identifier: MIT */
/*
 * A client connection as the version-neutral part sees it: who the peer is, which codec speaks, what was counted. A codec
 * embeds it in its own struct. conn_group is what all connections of one loop share.
 */
#ifndef GATEWAY_HTTP_CONN_H
#define GATEWAY_HTTP_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "http/codec.h"
#include "http/exchange.h"
#include "http/pressure.h"
#include "http/settings.h"
#include "loop/loop.h"

struct access_log;
struct transport; /* of net/, which http/ passes on without a look */

/* The peer's identity as values, so that http/ needs nothing of net/. The slices live as long as the connection. */
struct conn_identity {
    struct slice client_host; /* "127.0.0.1"; empty for a Unix peer */
    unsigned client_port;
    struct slice server_host; /* address or Unix path */
    unsigned server_port;     /* 0: a Unix socket */
    bool unix_peer;
    bool secure;          /* TLS */
    bool prior_knowledge; /* a plain connection on which clients may begin with HTTP/2's preface */
    unsigned redirect_port; /* every request is sent to https on this port; 0: not */
    bool trusted_proxy;     /* its Forwarded / X-Forwarded-* fields are believed */
    uint16_t tls_version, tls_cipher;
    struct slice alt_svc; /* of answers: where HTTP/3 is spoken (RFC 7838); empty: nothing to say */
    struct slice tls_version_name, tls_cipher_name, server_name; /* empty: none */
    struct slice server_cert_pem, client_chain_pem, client_name; /* empty: none */
    void *user; /* of whoever made the connection, for on_closed */
};

struct conn {
    uint32_t magic;
    const struct codec_ops *ops;
    struct conn_group *group;
    struct loop *loop;
    struct conn_identity identity;
    const char *protocol; /* "http/1.1", "h2", "h3" */
    uint64_t id;          /* unique in this process */
    uint32_t wire_id;     /* the handler's name for it towards workers, 0: none yet */
    uint64_t opened_at;   /* loop_now */
    uint64_t requests;    /* begun */
    bool draining;
    struct unconfirmed_list
        unconfirmed; /* its exchanges that are over for the client but not for their worker */
    struct list_node in_group;
    struct loop_grave grave;
};

LIST_DEFINE(conn_list, struct conn, in_group);

/* One per loop; owned by the server, outlives its connections. */
struct conn_group {
    struct loop *loop;
    const struct http_settings *settings;
    const struct exchange_handler *handler;
    void *handler_context;               /* app's per-loop state */
    const struct access_log *access_log; /* NULL: off */
    struct conn_list conns;
    struct exchange_list exchanges; /* of these connections, client half attached */
    struct slice date;              /* the cached Date value and the second it is for */
    char date_text[32];
    int64_t date_second;
    void (*on_closed)(struct conn_group *group, struct conn *conn, void *context); /* may be NULL */
    void *on_closed_context;
    /* A client of a connection with identity.prior_knowledge has begun with the preface of HTTP/2 (RFC 9113 3.3), of which `bytes` were read: what was
     * the codec's is the function's now, and the transport too. NULL: such clients are refused. */
    void (*on_preface)(struct conn_group *group, struct transport *transport,
                       const struct conn_identity *identity, struct slice bytes, void *context);
    bool draining;
    enum pressure pressure;
};

/* Prepares the embedded part and adds it to the group. `identity` is copied. */
void conn_init(struct conn *conn, struct conn_group *group, const struct codec_ops *ops,
               const char *protocol, const struct conn_identity *identity);
/* Takes it out of the group without a word to on_closed: its identity goes on to a connection of another codec. */
void conn_hand_over(struct conn *conn);
/* Takes it out of the group and tells on_closed; the codec then buries its memory by conn->grave. */
void conn_done(struct conn *conn);

void conn_group_init(struct conn_group *group, struct loop *loop,
                     const struct http_settings *settings, const struct exchange_handler *handler,
                     void *handler_context);
/* Drains every connection; `close_idle` also closes those without a request. */
void conn_group_drain(struct conn_group *group, bool close_idle);
/* Takes a new rung of the overload ladder: at PRESSURE_CLOSE_IDLE and above idle connections are closed each time it is called. */
void conn_group_set_pressure(struct conn_group *group, enum pressure level);
/* Destroys every connection. */
void conn_group_destroy_all(struct conn_group *group);
/* The value of a Date field for now (RFC 9110 6.6.1), cached per second. */
struct slice conn_group_date(struct conn_group *group);

#endif
