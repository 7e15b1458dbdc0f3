/* SPDX-License-Identifier: MIT */
/*
 * HTTP/3 connections: arbitrary bytes on the streams of a client, and arbitrary ends of them, into the real codec over a QUIC connection
 * without packets, with a handler that does what the paths of requests say (unit/h3/h3_driver.h). Whatever comes, heads that reach the
 * handler are clean, what is written is well-formed frames that stay where they are until they are acknowledged, no more is consumed
 * than came, and nothing is left when the connection has gone.
 *
 * The first byte chooses: 1 a control stream with empty SETTINGS is sent for the client, 2 tiny limits, 4 bytes are taken one by one, 8
 * streams with small windows, 16 acknowledgements only when told, 32 early data, 64 the client ends in the middle.
 * Then orders, one byte each: the low three bits say what, the others on which stream.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
/* They are parts of the tests' helpers, which only unit programs link. */
#include "unit/h3/h3_driver.c"
#include "unit/h3/h3_fake.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    ORDER_DATA,
    ORDER_END,
    ORDER_RESET,
    ORDER_STOP,
    ORDER_WINDOW,
    ORDER_TURN,
    ORDER_DRAIN,
    ORDER_EARLY
};

/* --- what reaches the handler -------------------------------------------------------------------- */

static void check_head(const struct request_head *head)
{
    REQUIRE(head->version == HTTP_3 && head->raw_path.length > 0 && head->method.length > 0);
    REQUIRE(head->field_count > 0 && slice_equal(head->fields[0].name, SLICE("host")));
    REQUIRE(authority_valid(head->fields[0].value));
    for (size_t i = 0; i < head->field_count; i++) {
        struct slice name = head->fields[i].name;
        REQUIRE(field_name_valid(name) && field_value_valid(head->fields[i].value));
        REQUIRE(!field_is_connection_specific(name));
        REQUIRE(i == 0 || !slice_equal(name, SLICE("host")));
        for (size_t j = 0; j < name.length; j++) {
            REQUIRE(name.data[j] < 'A' || name.data[j] > 'Z');
        }
    }
}

static void on_head(struct exchange *exchange)
{
    check_head(&exchange->request);
    h3_driver_handler.on_head(exchange);
}

/* --- what is written ----------------------------------------------------------------------------- */

/* A QUIC variable-length integer; false: it is cut off. */
static bool take_integer(struct slice *bytes, uint64_t *ret_value)
{
    size_t length = bytes->length > 0 ? (size_t)1 << ((uint8_t)bytes->data[0] >> 6) : 1;
    if (bytes->length < length) {
        return false;
    }
    uint64_t value = (uint8_t)bytes->data[0] & 0x3f;
    for (size_t i = 1; i < length; i++) {
        value = value << 8 | (uint8_t)bytes->data[i];
    }
    *bytes = (struct slice){bytes->data + length, bytes->length - length};
    *ret_value = value;
    return true;
}

/* HEADERS (informational ones first), DATA, HEADERS: whole when the stream has ended. */
static void check_response(const struct fake_stream *stream)
{
    struct slice rest = {stream->out.data, stream->out.length};
    bool headers = false, whole = stream->out_end;
    while (rest.length > 0) {
        uint64_t type, length;
        if (!take_integer(&rest, &type) || !take_integer(&rest, &length)) {
            REQUIRE(!whole);
            return;
        }
        REQUIRE(type == 0 || type == 1);
        headers |= type == 1;
        REQUIRE(headers);
        if (length > rest.length) {
            REQUIRE(!whole);
            return;
        }
        rest = (struct slice){rest.data + length, rest.length - (size_t)length};
    }
    REQUIRE(!whole || headers);
}

static void check_output(const struct quic_conn *quic)
{
    for (size_t i = 0; i < FAKE_STREAMS; i++) {
        const struct fake_stream *stream = &quic->streams[i];
        if (stream->id >= 0 && (stream->id & 3) == 0) {
            check_response(stream);
        }
        REQUIRE(stream->consumed <= stream->received);
    }
}

/* --- orders -------------------------------------------------------------------------------------- */

struct orders {
    const uint8_t *data;
    size_t size;
    uint8_t choice;
};

static int64_t stream_of(uint8_t order)
{
    int64_t index = order >> 3;
    return index < 24 ? 4 * index : 2 + 4 * (index - 24);
}

static void give(struct h3_driver *driver, struct orders *orders, int64_t id, bool is_end)
{
    size_t length = orders->size > 0 ? orders->data[0] : 0;
    orders->data += orders->size > 0;
    orders->size -= orders->size > 0;
    length = length < orders->size ? length : orders->size;
    for (size_t i = 0; i < length && (orders->choice & 4); i++) {
        fake_quic_receive(&driver->quic, id, orders->data + i, 1, is_end && i + 1 == length);
    }
    if (!(orders->choice & 4) || length == 0) {
        fake_quic_receive(&driver->quic, id, orders->data, length, is_end);
    }
    orders->data += length;
    orders->size -= length;
}

static void obey(struct h3_driver *driver, struct orders *orders, uint8_t order)
{
    struct quic_conn *quic = &driver->quic;
    int64_t id = stream_of(order);
    switch (order & 7) {
    case ORDER_DATA:
        give(driver, orders, id, false);
        break;
    case ORDER_END:
        give(driver, orders, id, true);
        break;
    case ORDER_RESET:
        fake_quic_reset(quic, id, 0x10c);
        break;
    case ORDER_STOP:
        fake_quic_stop(quic, (order >> 3) == 31 ? 3 : id, 0x10c);
        break;
    case ORDER_WINDOW:
        fake_quic_open_window(quic, id, 1000);
        fake_quic_acknowledge(quic);
        quic_conn_mark_dirty(quic);
        break;
    case ORDER_DRAIN:
        conn_group_drain(&driver->group, (order >> 3) & 1);
        break;
    case ORDER_EARLY:
        quic->early = quic->early && (order >> 3) != 0;
        conn_group_set_pressure(&driver->group, order >> 3 == 5 ? PRESSURE_REFUSE : PRESSURE_NONE);
        break;
    default:
        break;
    }
}

/* Orders until one that is the turn's end. */
static void each_turn(struct h3_driver *driver)
{
    struct orders *orders = driver->context;
    while (orders->size > 0 && !driver->quic.closed) {
        uint8_t order = orders->data[0];
        orders->data++;
        orders->size--;
        obey(driver, orders, order);
        if ((order & 7) == ORDER_TURN) {
            break;
        }
    }
    if (orders->size > 0 && !driver->quic.closed) {
        driver->turns_left++;
    } else if ((orders->choice & 64) && driver->turns_left == 2) {
        fake_quic_end(&driver->quic, 0x100);
    }
}

static void set_up(struct h3_driver *driver, uint8_t choice)
{
    if (choice & 2) {
        driver->http.target_max = 16;
        driver->http.header_block_max = 300;
        driver->http.header_fields_max = 3;
        driver->http.cookie_crumbs_max = 1;
        driver->http.trailer_block_max = 40;
        driver->http.body_size_max = 100;
        driver->http.window = 200;
        driver->http.keep_alive_requests = 5;
        driver->h3.max_concurrent_streams = 3;
        driver->h3.glitch_burst = driver->h3.reset_burst = 3;
        driver->h3.response_unacked = 1000;
        driver->h3.qpack_blocked = 2;
    }
    driver->quic.packet = choice & 4 ? 7 : SIZE_MAX;
    driver->quic.window = choice & 8 ? 20 : SIZE_MAX / 2;
    driver->quic.hold_acks = (choice & 16) != 0;
    driver->quic.early = driver->quic.early_stream = (choice & 32) != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t control[] = {0x00, 0x04, 0x00};
    static bool registered;
    static struct h3_driver driver;
    struct exchange_handler handler = h3_driver_handler;
    if (!registered) {
        registered = true;
        log_set_level(LOG_ERROR);
        REQUIRE(metrics_register_thread() == ERROR_NONE);
    }
    if (size == 0 || size > 4096) {
        return 0;
    }
    struct orders orders = {data + 1, size - 1, data[0]};
    uint64_t live = mem_live();
    h3_driver_init(&driver);
    handler.on_head = on_head;
    driver.group.handler = &handler;
    set_up(&driver, orders.choice);
    REQUIRE(h3_driver_connect(&driver));
    if (orders.choice & 1) {
        fake_quic_receive(&driver.quic, 2, control, sizeof control, false);
    }
    driver.each_turn = each_turn;
    driver.context = &orders;
    h3_driver_run(&driver, 8);
    driver.each_turn = NULL;
    check_output(&driver.quic);
    h3_driver_done(&driver);
    REQUIRE(metrics_sum(METRIC_exchanges) == 0 && metrics_sum(METRIC_buffered_bytes) == 0);
    REQUIRE(driver.closed == 1 && mem_live() == live);
    return 0;
}
