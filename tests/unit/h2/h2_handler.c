/* SPDX-License-Identifier: MIT */
/* The handler of h2_driver.h: what its paths do. */
#include "unit/h2/h2_driver.h"

static const char driver_pattern[4096] = "0123456789";

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
        bool accept = status == 200 && exchange->request.kind == REQUEST_WEBSOCKET;
        error = status < 200 ? exchange_respond_info(exchange, &head)
                : accept     ? exchange_accept_websocket(exchange, &head)
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
        size_t part = sizeof driver_pattern;
        part = part < driven->credit ? part : driven->credit;
        part = part < driven->left ? part : driven->left;
        driven->credit -= part;
        driven->left -= part;
        if (driven->left == 0) {
            driven_finish(driven, driver_pattern, part, NULL, 0);
            return;
        }
        if (exchange_respond_body(driven->exchange, driver_pattern, part) != ERROR_NONE) {
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

static void driven_on_body(struct exchange *exchange)
{
    struct driven *driven = exchange->worker_half;
    bool stream = driven_path_is(exchange, "/stream");
    if (!stream && !driven_path_is(exchange, "/echo")) {
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
    if (driven_path_is(exchange, "/fail")) {
        driven_done(driven);
        exchange_fail(exchange, END_WORKER_LOST, SLICE("told to"));
    } else if (driven_path_is(exchange, "/now") || driven_path_is(exchange, "/trailers")) {
        if (driven_head(driven, 200, "X-A", "b")) {
            driven_finish(driven, "hello", 5, &trailer, driven_path_is(exchange, "/trailers"));
        }
    } else if (driven_path_is(exchange, "/hint")) {
        if (driven_head(driven, 103, "link", "x") && driven_head(driven, 200, NULL, NULL)) {
            driven_finish(driven, "hello", 5, NULL, 0);
        }
    } else if (driven_path_is(exchange, "/early")) {
        if (driven_head(driven, 403, "content-length", "5")) {
            driven_finish(driven, "early", 5, NULL, 0);
        }
    } else if (driven_path_is(exchange, "/big")) {
        driven->credit = DRIVER_WINDOW;
        driven->left = DRIVER_BIG;
        if (driven_head(driven, 200, NULL, NULL)) {
            driven_give(driven);
        }
    } else if (driven_path_is(exchange, "/cut")) {
        if (driven_head(driven, 200, NULL, NULL)) {
            bool good = exchange_respond_body(exchange, "part", 4) == ERROR_NONE;
            driven_done(driven);
            exchange_fail(exchange, good ? END_APP_EXCEPTION : END_NO_MEMORY, SLICE("told to"));
        }
    } else if (!driven_path_is(exchange, "/stream") || driven_head(driven, 200, NULL, NULL)) {
        driven_on_body(exchange);
    }
}

static void driven_on_head(struct exchange *exchange)
{
    struct h2_driver *driver = exchange->conn->group->handler_context;
    struct driven *driven = mem_calloc(1, sizeof *driven);
    driver->heads++;
    strbuf_printf(&driver->seen, "%.*s %.*s;", SLICE_PRINT(exchange->request.method),
                  SLICE_PRINT(exchange->request.raw_path));
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
    struct h2_driver *driver = driven->driver;
    driver->gone++;
    driven_done(driven);
    if (driver->leave_unconfirmed) {
        driver->unconfirmed = exchange;
        exchange_worker_unconfirmed(exchange);
    } else {
        exchange_worker_detach(exchange);
    }
}

const struct exchange_handler driver_handler = {
    .on_head = driven_on_head,
    .on_body = driven_on_body,
    .on_released = driven_on_released,
    .on_client_gone = driven_on_client_gone,
};
