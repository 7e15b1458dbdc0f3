/* SPDX-License-Identifier: MIT */
/*
 * HTTP/2 connections: arbitrary bytes from a client into the real codec over a transport without a peer, with a handler that does what
 * the paths of requests say (unit/h2/h2_driver.h). Whatever comes, heads that reach the handler are clean, what is written is
 * well-formed frames, no stream says anything behind its end, and nothing is left when the connection has gone.
 *
 * The first byte chooses: 1 preface and SETTINGS are sent for the client, 2 tiny limits, 4 reads byte by byte, 8 a socket that takes little,
 * 16 a socket that is full every other turn, 32 the client ends in the middle, 64 a drain in the middle.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/idmap.h"
#include "base/log.h"
#include "base/metrics.h"
#include "h2/h2_scan.h"
/* The handler is a part of the tests' helpers, which only unit programs link. */
#include "unit/h2/h2_handler.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAME_DATA, FRAME_HEADERS, FRAME_RST_STREAM = 3, FRAME_CONTINUATION = 9 };

static uint8_t choice;

/* --- what reaches the handler -------------------------------------------------------------------- */

static void check_head(const struct request_head *head)
{
    REQUIRE(head->version == HTTP_2 && head->raw_path.length > 0 && head->method.length > 0);
    REQUIRE(head->field_count > 0 && slice_equal(head->fields[0].name, SLICE("host")));
    REQUIRE(authority_valid(head->fields[0].value));
    bool tunnel = head->kind == REQUEST_WEBSOCKET;
    REQUIRE(tunnel == slice_equal(head->scheme, SLICE("ws")));
    REQUIRE(!tunnel || (head->has_body && head->content_length < 0 && !head->expect_continue));
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
    REQUIRE(exchange->conn->unconfirmed.length == 0);
    driver_handler.on_head(exchange);
}

/* --- what is written ----------------------------------------------------------------------------- */

/* Walks the output: whole frames (but for the last when the connection was cut), streams silent behind their end. */
static void check_output(const struct strbuf *out, bool cut)
{
    static int ended; /* its address marks a stream */
    struct idmap over;
    size_t at = 0;
    idmap_init(&over);
    while (out->length - at >= H2_FRAME_HEADER) {
        struct h2_frame_header frame = h2_scan_decode((const uint8_t *)out->data + at);
        if (frame.length > out->length - at - H2_FRAME_HEADER) {
            break;
        }
        REQUIRE(frame.length <= 16384 && frame.type <= 9 && frame.stream_id >= 0);
        REQUIRE((frame.type == FRAME_DATA || frame.type == FRAME_HEADERS) <= (frame.stream_id > 0));
        uint64_t id = (uint64_t)frame.stream_id;
        bool speaks = frame.type == FRAME_DATA || frame.type == FRAME_HEADERS;
        REQUIRE(!speaks || idmap_get(&over, id) == NULL);
        if ((speaks && (frame.flags & 1) != 0) || frame.type == FRAME_RST_STREAM) {
            if (idmap_get(&over, id) == NULL) {
                REQUIRE(idmap_put(&over, id, &ended) == ERROR_NONE);
            }
        }
        at += H2_FRAME_HEADER + frame.length;
    }
    REQUIRE(at == out->length || cut);
    idmap_done(&over);
}

/* --- one connection ------------------------------------------------------------------------------ */

static void each_turn(struct h2_driver *driver)
{
    if (choice & 16) {
        driver->wire.write_most = driver->wire.write_most == 0 ? 100 : 0;
    }
    if (driver->turns_left == 20) {
        if (choice & 64) {
            conn_group_drain(&driver->group, true);
        }
        driver->wire.ended |= (choice & 32) != 0;
    }
}

static void set_up(struct h2_driver *driver, const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (choice & 2) {
        driver->http.target_max = 16;
        driver->http.header_block_max = 200;
        driver->http.header_fields_max = 3;
        driver->http.cookie_crumbs_max = 1;
        driver->http.trailer_block_max = 40;
        driver->http.body_size_max = 100;
        driver->http.window = 1000;
        driver->http.keep_alive_requests = 5;
        driver->h2.max_concurrent_streams = 3;
        driver->h2.connection_window = 4000;
        driver->h2.glitch_burst = driver->h2.reset_burst = 3;
        driver->h2.outbound_queue_max = driver->h2.acks_max = 5;
    }
    driver->wire.read_most = choice & 4 ? 1 : SIZE_MAX;
    driver->wire.write_most = choice & 8 ? 20 : SIZE_MAX;
    if (choice & 1) {
        strbuf_append(&driver->wire.in, preface, sizeof preface - 1);
    }
    strbuf_append(&driver->wire.in, data, size);
    driver->each_turn = each_turn;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool registered;
    struct h2_driver driver;
    struct exchange_handler handler = driver_handler;
    if (!registered) {
        registered = true;
        log_set_level(LOG_ERROR);
        REQUIRE(metrics_register_thread() == ERROR_NONE);
    }
    if (size == 0 || size > 4096) {
        return 0;
    }
    choice = data[0];
    uint64_t live = mem_live();
    driver_init(&driver);
    handler.on_head = on_head;
    driver.group.handler = &handler;
    set_up(&driver, data + 1, size - 1);
    REQUIRE(driver_connect(&driver));
    driver_run(&driver, choice & 4 ? (unsigned)size + 64 : 40);
    bool cut = driver.wire.closed || (choice & (8 | 16)) != 0;
    check_output(&driver.wire.out, cut);
    driver_done(&driver);
    REQUIRE(metrics_sum(METRIC_exchanges) == 0 && metrics_sum(METRIC_buffered_bytes) == 0);
    REQUIRE(driver.closed == 1 && mem_live() == live);
    return 0;
}
