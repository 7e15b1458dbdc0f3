/* SPDX-License-Identifier: MIT */
/*
 * One HTTP/3 connection over a fake QUIC connection, in a loop of its own, with a handler whose requests are told by their paths what to
 * do:
 *
 *   /now      answered at once: 5 bytes         /echo     answered with the body's length when that is complete
 *   /never    never                             /stream   the body is given back as it comes
 *   /big      DRIVER_BIG bytes as credit allows /hint     103, then as /now
 *   /fail     502 at once                       /cut      a head and a part of the body, then cut
 *   /early    403 without reading the body      /trailers as /now, with a trailer
 *
 * Everything happens in turns of the loop; nothing depends on time.
 */
#ifndef TESTS_UNIT_H3_H3_DRIVER_H
#define TESTS_UNIT_H3_H3_DRIVER_H

#include "base/clock.h"
#include "h3/h3_conn.h"
#include "http/conn.h"
#include "http/exchange.h"
#include "http/fields.h"
#include "unit/h3/h3_fake.h"

#define DRIVER_WINDOW 65536
#define DRIVER_BIG 2000000

/* The handler's half of an exchange. */
struct driven {
    struct exchange *exchange;
    struct h3_driver *driver;
    size_t credit, left; /* /big: what may be given now, and what is owed */
    struct list_node in_driver;
};

LIST_DEFINE(driven_list, struct driven, in_driver);

struct h3_driver {
    struct loop *loop;
    struct conn_group group;
    struct http_settings http;
    struct h3_settings h3;
    struct quic_conn quic;
    struct driven_list attached;
    struct loop_resume pump;
    void (*each_turn)(struct h3_driver *driver);
    void *context;
    unsigned turns_left;
    unsigned heads, gone, closed, identified;
    bool leave_unconfirmed; /* the worker of a client that is gone is not done yet: */
    struct exchange *unconfirmed;
    size_t released;
    bool early_data;  /* the last request said so */
    bool prioritised; /* the last request: */
    unsigned urgency;
    struct strbuf seen; /* "GET /now;" for each request */
};

extern const struct exchange_handler h3_driver_handler;

void h3_driver_init(struct h3_driver *driver);
/* False when memory is out. */
bool h3_driver_connect(struct h3_driver *driver);
/* Runs so many turns. */
void h3_driver_run(struct h3_driver *driver, unsigned turns);
void h3_driver_done(struct h3_driver *driver);

#endif
