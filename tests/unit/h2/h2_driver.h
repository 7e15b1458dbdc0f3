/* SPDX-License-Identifier: MIT */
/*
 * One HTTP/2 connection over a fake transport, in a loop of its own, with a handler whose requests are told by their paths what to do:
 *
 *   /now      answered at once: 5 bytes         /echo     answered with the body when that is complete
 *   /never    never                             /stream   the body is given back as it comes
 *   /big      200,000 bytes as credit allows    /hint     103, then as /now
 *   /fail     502 at once                       /cut      a head and a part of the body, then cut
 *   /early    403 without reading the body      /trailers as /now, with a trailer
 *
 * An extended CONNECT is accepted where the path gives 200, and its tunnel is the body.
 *
 * Everything happens in turns of the loop; nothing depends on time.
 */
#ifndef TESTS_UNIT_H2_H2_DRIVER_H
#define TESTS_UNIT_H2_H2_DRIVER_H

#include "base/clock.h"
#include "h2/h2_conn.h"
#include "http/conn.h"
#include "http/exchange.h"
#include "http/fields.h"
#include "unit/h2/h2_fake.h"
#include "unit/h2/h2_settings_told.h"

#define DRIVER_WINDOW 65536
#define DRIVER_BIG 200000

/* The handler's half of an exchange. */
struct driven {
    struct exchange *exchange;
    struct h2_driver *driver;
    size_t credit, left; /* /big: what may be given now, and what is owed */
    struct list_node in_driver;
};

LIST_DEFINE(driven_list, struct driven, in_driver);

struct h2_driver {
    struct loop *loop;
    struct conn_group group;
    struct http_settings http;
    struct h2_settings h2;
    struct fake_wire wire;
    struct transport *transport;
    struct driven_list attached;
    struct loop_resume pump;
    void (*each_turn)(struct h2_driver *driver);
    void *context;
    unsigned turns_left;
    unsigned heads, gone, closed;
    bool leave_unconfirmed; /* the worker of a client that is gone is not done yet: */
    struct exchange *unconfirmed;
    size_t released;
    struct strbuf seen; /* "GET /now;" for each request */
};

static inline bool driven_path_is(const struct exchange *exchange, const char *path)
{
    return slice_equal(exchange->request.raw_path, slice_from(path));
}

static inline void driven_done(struct driven *driven)
{
    driven_list_remove(&driven->driver->attached, driven);
    mem_free(driven);
}

static inline void driver_pump(struct loop_resume *resume)
{
    struct h2_driver *driver = LIST_CONTAINER(resume, struct h2_driver, pump);
    if (driver->each_turn != NULL) {
        driver->each_turn(driver);
    }
    if (!driver->wire.closed && (driver->wire.in_taken < driver->wire.in.length ||
                                 driver->wire.ended || driver->wire.reset)) {
        driver->transport->on_ready(driver->transport->user,
                                    driver->wire.reset || driver->wire.ended ? LOOP_CLOSED
                                                                             : LOOP_READ);
    }
    if (--driver->turns_left == 0) {
        loop_stop(driver->loop);
    } else {
        loop_resume_later(driver->loop, resume);
    }
}

/* Runs so many turns. */
static inline void driver_run(struct h2_driver *driver, unsigned turns)
{
    driver->turns_left = turns;
    loop_resume_later(driver->loop, &driver->pump);
    REQUIRE(loop_run(driver->loop) == ERROR_NONE);
}

static inline void driver_on_closed(struct conn_group *group, struct conn *conn, void *context)
{
    struct h2_driver *driver = context;
    (void)group;
    (void)conn;
    driver->closed++;
}

extern const struct exchange_handler driver_handler;

static inline void driver_init(struct h2_driver *driver)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 500};
    *driver = (struct h2_driver){.http = driver_http_settings, .h2 = driver_h2_settings};
    driver->loop = loop_new(0, &loop_settings);
    REQUIRE(driver->loop != NULL);
    driven_list_init(&driver->attached);
    fake_wire_init(&driver->wire);
    strbuf_init(&driver->seen);
    loop_resume_init(&driver->pump, driver_pump);
    conn_group_init(&driver->group, driver->loop, &driver->http, &driver_handler, driver);
    driver->group.on_closed = driver_on_closed;
    driver->group.on_closed_context = driver;
    driver_run(driver, 1); /* the loop has its own memory from now on */
}

/* False when memory is out. */
static inline bool driver_connect(struct h2_driver *driver)
{
    struct conn_identity identity = {.client_host = SLICE("127.0.0.1"), .client_port = 1};
    driver->transport = fake_transport_new(driver->loop, &driver->wire);
    return driver->transport != NULL && h2_conn_new(&driver->group, driver->transport, &identity,
                                                    &driver->h2, SLICE("")) == ERROR_NONE;
}

static inline void driver_done(struct h2_driver *driver)
{
    conn_group_destroy_all(&driver->group);
    driver_run(driver, 2);
    REQUIRE(driven_list_empty(&driver->attached));
    strbuf_done(&driver->seen);
    fake_wire_done(&driver->wire);
    loop_resume_cancel(driver->loop, &driver->pump);
    loop_free(driver->loop);
}

#endif
