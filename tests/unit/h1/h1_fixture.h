/* SPDX-License-Identifier: MIT */
/*
 * One loop, one connection group with a scripted handler, and clients on real TCP sockets of the loopback. A test writes as a
 * client, then runs the loop until what it waits for is true; no test depends on how long that takes.
 */
#ifndef TESTS_UNIT_H1_H1_FIXTURE_H
#define TESTS_UNIT_H1_H1_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/strbuf.h"
#include "h1/h1_conn.h"
#include "http/conn.h"
#include "http/exchange.h"
#include "http/fields.h"
#include "http/settings.h"
#include "loop/loop.h"

#define HELLO "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"
#define HELLO_OK "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\r\nhello"
#define HELLO_CLOSE                                                                                \
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nconnection: "             \
    "close\r\n\r\nhello"
#define WAIT "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"

/* A client's end. */
struct client {
    int fd;
    struct strbuf got;
    bool eof, reset;
    bool paused; /* does not read */
};

struct fixture {
    struct loop *loop;
    struct http_settings settings;
    struct h1_settings h1_settings;
    struct conn_group group;
    struct client client;
    struct exchange
        *attached; /* of the request under way on /wait, /echo, /stream; NULL when it let go */
    unsigned heads, gone, half_closed;
    size_t released;
    bool body_ended;
    struct strbuf body; /* what /echo and /wait have taken */
    bool hold;          /* /wait takes no body */
    struct strbuf seen; /* "METHOD /path;" per head */
    uint64_t live;      /* allocations before */
    struct loop_timer tick;
    bool (*until)(struct fixture *fixture);
    void (*each_tick)(struct fixture *fixture);
    unsigned ticks, ticks_max;
    bool reached;
};

/* Everything with usual limits and no Date and Server fields. */
void fixture_init(struct fixture *fixture);
/* Destroys what is left and checks that no live object and no allocation remains. */
void fixture_done(struct fixture *fixture);
/* Connects a client; its connection is in the group. */
void fixture_connect(struct fixture *fixture);
/* Closes the client's end, with a reset if told. */
void fixture_disconnect(struct fixture *fixture, bool reset);
void fixture_send(struct fixture *fixture, const char *bytes, size_t length);
void fixture_send_text(struct fixture *fixture, const char *text);
/* Runs the loop until the condition holds; false: it did not within a long while. */
bool fixture_run_until(struct fixture *fixture, bool (*until)(struct fixture *fixture));
/* Runs some turns, for "nothing happens" checks. */
void fixture_run_some(struct fixture *fixture);
/* Until the client has received exactly `text` (or more), or it is over. */
bool fixture_receives(struct fixture *fixture, const char *text);
bool fixture_until_over(struct fixture *fixture);     /* EOF or reset at the client */
bool fixture_until_no_conn(struct fixture *fixture);  /* the connection is gone */
bool fixture_until_attached(struct fixture *fixture); /* a handler has attached */
bool fixture_until_gone(struct fixture *fixture); /* a handler was told that the client is gone */
bool fixture_until_half_closed(struct fixture *fixture);
/* Forgets what the client received. */
void fixture_forget(struct fixture *fixture);
/* Answers the attached exchange with status, fields as text "a: b\n...", body; body NULL: head only and no end. */
void fixture_respond(struct fixture *fixture, unsigned status, const char *fields,
                     const char *body);
void fixture_respond_more(struct fixture *fixture, const char *bytes);
void fixture_respond_end(struct fixture *fixture);

/* Whether what the client received begins with, or contains, the text. */
bool fixture_has_prefix(const struct fixture *fixture, const char *text);
bool fixture_has_text(const struct fixture *fixture, const char *text);
/* The exchange on /wait can take no more of the body; the body has come to its end. */
bool fixture_until_body_full(struct fixture *fixture);
bool fixture_until_body_ended(struct fixture *fixture);

#endif
