/* SPDX-License-Identifier: MIT */
/* h3_driver.h: the loop, and what the handler's paths do. */
#include "unit/h3/h3_driver.h"

#include "base/mem.h"
#include "http/head.h"

static const char pattern[4096] = "0123456789";

static const struct http_settings http_settings = {
    .target_max = 8192,
    .header_block_max = 32768,
    .header_fields_max = 100,
    .cookie_crumbs_max = 100,
    .trailer_block_max = 8192,
    .trailer_fields_max = 32,
    .header_timeout = 600 * CLOCK_NS_PER_S,
    .body_size_max = 1 << 30,
    .body_idle = 600 * CLOCK_NS_PER_S,
    .keep_alive = 600 * CLOCK_NS_PER_S,
    .write_stall = 600 * CLOCK_NS_PER_S,
    .window = 65536,
    .server_header = true,
    .server_name = {"test", 4},
};

static const struct h3_settings h3_settings = {
    .max_concurrent_streams = 16,
    .stream_window = 65536,
    .connection_window = 1 << 20,
    .response_unacked = 262144,
    .qpack_table = 4096,
    .qpack_blocked = 16,
    .reset_burst = 20,
    .reset_rate = 1,
    .glitch_burst = 50,
    .glitch_rate = 1,
};

/* --- the handler --------------------------------------------------------------------------------- */

static void driven_done(struct driven *driven)
{
    driven_list_remove(&driven->driver->attached, driven);
    mem_free(driven);
}

/* A head with at most one field; false when the exchange has failed and is gone. */
static bool driven_head(struct driven *driven, unsigned status, const char *name, const char *value)
{
    struct exchange *exchange = driven->exchange;
    struct field *fields = arena_alloc(&exchange->arena, 2 * sizeof *fields);
    struct response_head head = {.status = status, .fields = fields, .content_length = -1};
    const char *why = NULL;
    enum error error = fields != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    if (error == ERROR_NONE && name != NULL) {
        fields[head.field_count++] = (struct field){slice_from(name), slice_from(value)};
        error = response_head_check(&exchange->arena, &head, &why);
    }
    if (error == ERROR_NONE) {
        error = status < 200 ? exchange_respond_info(exchange, &head)
                             : exchange_respond_head(exchange, &head, false);
    }
    if (error != ERROR_NONE) {
        driven_done(driven);
        exchange_fail(exchange, END_NO_MEMORY, (struct slice){NULL, 0});
    }
    return error == ERROR_NONE;
}

/* The end of the response, with the whole body before it. */
static void driven_finish(struct driven *driven, const char *body, size_t length,
                          struct field *trailers, size_t count)
{
    struct exchange *exchange = driven->exchange;
    enum error error = exchange_respond_body(exchange, body, length);
    if (error == ERROR_NONE) {
        error = exchange_respond_end(exchange, trailers, count);
    }
    driven_done(driven);
    if (error == ERROR_NONE) {
        exchange_worker_detach(exchange);
    } else {
        exchange_fail(exchange, END_NO_MEMORY, (struct slice){NULL, 0});
    }
}

/* /big: gives what the credit allows. */
static void driven_give(struct driven *driven)
{
    while (driven->credit > 0 && driven->left > 0) {
        size_t part = sizeof pattern;
        part = part < driven->credit ? part : driven->credit;
        part = part < driven->left ? part : driven->left;
        driven->credit -= part;
        driven->left -= part;
        if (driven->left == 0) {
            driven_finish(driven, pattern, part, NULL, 0);
            return;
        }
        if (exchange_respond_body(driven->exchange, pattern, part) != ERROR_NONE) {
            struct exchange *exchange = driven->exchange;
            driven_done(driven);
            exchange_fail(exchange, END_NO_MEMORY, (struct slice){NULL, 0});
            return;
        }
    }
}

/* Takes the request body; /stream gives it back. Returns false when the exchange is gone. */
static bool driven_take(struct driven *driven, bool echo)
{
    struct exchange *exchange = driven->exchange;
    while (exchange->request_body.unsent > 0) {
        char piece[4096];
        size_t length = byteq_copy_out(&exchange->request_body, piece, sizeof piece);
        exchange_request_taken(exchange, length);
        exchange_request_forget(exchange);
        if (echo && exchange_respond_body(exchange, piece, length) != ERROR_NONE) {
            driven_done(driven);
            exchange_fail(exchange, END_NO_MEMORY, (struct slice){NULL, 0});
            return false;
        }
    }
    return true;
}

static bool path_is(const struct exchange *exchange, const char *path)
{
    return slice_equal(exchange->request.raw_path, slice_from(path));
}

static void driven_on_body(struct exchange *exchange)
{
    struct driven *driven = exchange->worker_half;
    bool stream = path_is(exchange, "/stream");
    if (!stream && !path_is(exchange, "/echo")) {
        return;
    }
    if (driven_take(driven, stream) && exchange->request_end &&
        (stream || driven_head(driven, 200, NULL, NULL))) {
        driven_finish(driven, "end", 3, NULL, 0);
    }
}

static void driven_begin(struct driven *driven)
{
    static struct field trailer = {{"x-sum", 5}, {"42", 2}};
    struct exchange *exchange = driven->exchange;
    if (path_is(exchange, "/fail")) {
        driven_done(driven);
        exchange_fail(exchange, END_WORKER_LOST, SLICE("told to"));
    } else if (path_is(exchange, "/now") || path_is(exchange, "/trailers")) {
        if (driven_head(driven, 200, "X-A", "b")) {
            driven_finish(driven, "hello", 5, &trailer, path_is(exchange, "/trailers"));
        }
    } else if (path_is(exchange, "/hint")) {
        if (driven_head(driven, 103, "link", "x") && driven_head(driven, 200, NULL, NULL)) {
            driven_finish(driven, "hello", 5, NULL, 0);
        }
    } else if (path_is(exchange, "/early")) {
        if (driven_head(driven, 403, "content-length", "5")) {
            driven_finish(driven, "early", 5, NULL, 0);
        }
    } else if (path_is(exchange, "/big")) {
        driven->credit = DRIVER_WINDOW;
        driven->left = DRIVER_BIG;
        if (driven_head(driven, 200, NULL, NULL)) {
            driven_give(driven);
        }
    } else if (path_is(exchange, "/cut")) {
        if (driven_head(driven, 200, NULL, NULL)) {
            bool good = exchange_respond_body(exchange, "part", 4) == ERROR_NONE;
            driven_done(driven);
            exchange_fail(exchange, good ? END_APP_EXCEPTION : END_NO_MEMORY, SLICE("told to"));
        }
    } else if (!path_is(exchange, "/stream") || driven_head(driven, 200, NULL, NULL)) {
        driven_on_body(exchange);
    }
}

static void driven_on_head(struct exchange *exchange)
{
    struct h3_driver *driver = exchange->conn->group->handler_context;
    const struct request_head *head = &exchange->request;
    struct driven *driven = mem_calloc(1, sizeof *driven);
    driver->heads++;
    driver->early_data = head_find(head->fields, head->field_count, SLICE("early-data")) != NULL;
    driver->prioritised = head->prioritised;
    driver->urgency = head->urgency;
    strbuf_printf(&driver->seen, "%.*s %.*s;", SLICE_PRINT(head->method),
                  SLICE_PRINT(head->raw_path));
    if (driven == NULL) {
        exchange_client_fail(exchange, END_NO_MEMORY, SLICE("no memory"));
        return;
    }
    driven->exchange = exchange;
    driven->driver = driver;
    driven_list_append(&driver->attached, driven);
    exchange_worker_attach(exchange, driven);
    driven_begin(driven);
}

static void driven_on_released(struct exchange *exchange, size_t length)
{
    struct driven *driven = exchange->worker_half;
    driven->driver->released += length;
    driven->credit += length;
    if (driven->left > 0) {
        driven_give(driven);
    }
}

static void driven_on_client_gone(struct exchange *exchange, bool half_closed)
{
    REQUIRE(!half_closed);
    struct driven *driven = exchange->worker_half;
    struct h3_driver *driver = driven->driver;
    driver->gone++;
    driven_done(driven);
    if (driver->leave_unconfirmed) {
        driver->unconfirmed = exchange;
        exchange_worker_unconfirmed(exchange);
    } else {
        exchange_worker_detach(exchange);
    }
}

const struct exchange_handler h3_driver_handler = {
    .on_head = driven_on_head,
    .on_body = driven_on_body,
    .on_released = driven_on_released,
    .on_client_gone = driven_on_client_gone,
};

/* --- the loop ------------------------------------------------------------------------------------ */

static void on_pump(struct loop_resume *resume)
{
    struct h3_driver *driver = LIST_CONTAINER(resume, struct h3_driver, pump);
    if (driver->each_turn != NULL) {
        driver->each_turn(driver);
    }
    if (--driver->turns_left == 0) {
        loop_stop(driver->loop);
    } else {
        loop_resume_later(driver->loop, resume);
    }
}

void h3_driver_run(struct h3_driver *driver, unsigned turns)
{
    driver->turns_left = turns;
    loop_resume_later(driver->loop, &driver->pump);
    REQUIRE(loop_run(driver->loop) == ERROR_NONE);
}

static void on_closed(struct conn_group *group, struct conn *conn, void *context)
{
    struct h3_driver *driver = context;
    (void)group;
    (void)conn;
    driver->closed++;
}

void h3_driver_init(struct h3_driver *driver)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 500};
    *driver = (struct h3_driver){.http = http_settings, .h3 = h3_settings};
    driver->loop = loop_new(0, &loop_settings);
    REQUIRE(driver->loop != NULL);
    driven_list_init(&driver->attached);
    strbuf_init(&driver->seen);
    loop_resume_init(&driver->pump, on_pump);
    conn_group_init(&driver->group, driver->loop, &driver->http, &h3_driver_handler, driver);
    driver->group.on_closed = on_closed;
    driver->group.on_closed_context = driver;
    fake_quic_init(&driver->quic, driver->loop);
    h3_driver_run(driver, 1); /* the loop has its own memory from now on */
}

static void identify(struct conn *conn, const struct quic_conn *quic)
{
    struct h3_driver *driver = conn->group->handler_context;
    (void)quic;
    driver->identified++;
}

bool h3_driver_connect(struct h3_driver *driver)
{
    struct conn_identity identity = {
        .client_host = SLICE("127.0.0.1"), .client_port = 1, .secure = true};
    if (h3_conn_new(&driver->group, &driver->quic, &identity, &driver->h3, identify,
                    &driver->quic.ops, &driver->quic.user) != ERROR_NONE) {
        return false;
    }
    REQUIRE(driver->quic.ops->on_open(driver->quic.user) == ERROR_NONE);
    driver->quic.ops->on_established(driver->quic.user);
    return true;
}

void h3_driver_done(struct h3_driver *driver)
{
    conn_group_destroy_all(&driver->group);
    h3_driver_run(driver, 2);
    if (driver->quic.ops != NULL) {
        fake_quic_done(&driver->quic);
    }
    h3_driver_run(driver, 1);
    REQUIRE(driven_list_empty(&driver->attached));
    strbuf_done(&driver->seen);
    loop_resume_cancel(driver->loop, &driver->pump);
    loop_free(driver->loop);
}
