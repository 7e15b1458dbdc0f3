/* SPDX-License-Identifier: MIT */
/* The scripted side of the connection tests: paths choose what the handler does. */
#include "h1_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "http/respond.h"
#include "net/transport.h"

static struct fixture *here; /* the handler's functions get no context of ours */

static struct field *parse_fields(struct arena *arena, const char *text, size_t *ret_count)
{
    struct field *fields = arena_calloc(arena, 16, sizeof *fields);
    size_t count = 0;
    struct slice rest = arena_copy(arena, slice_from(text));
    while (fields != NULL && rest.length > 0 && count < 16) {
        struct slice value;
        struct slice line = slice_cut(rest, '\n', &rest);
        fields[count].name = slice_cut(line, ':', &value);
        fields[count].value = slice_trim(value);
        count++;
    }
    *ret_count = fields != NULL ? count : 0;
    return fields;
}

static enum error answer(struct exchange *exchange, unsigned status, const char *text,
                         const char *body)
{
    struct response_head head = {.status = status, .content_length = -1};
    const char *why = NULL;
    head.fields = parse_fields(&exchange->arena, text, &head.field_count);
    if (head.fields == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error error = response_head_check(&exchange->arena, &head, &why);
    if (error == ERROR_NONE && status < 200) {
        return exchange_respond_info(exchange, &head);
    }
    if (error == ERROR_NONE) {
        error = exchange_respond_head(exchange, &head, false);
    }
    if (error == ERROR_NONE && body != NULL) {
        error = exchange_respond_body(exchange, body, strlen(body));
        if (error == ERROR_NONE) {
            error = exchange_respond_end(exchange, NULL, 0);
        }
    }
    return error;
}

/* Answers and lets go; what cannot be answered fails. */
static void answer_and_detach(struct exchange *exchange, unsigned status, const char *fields,
                              const char *body)
{
    here->attached = NULL;
    if (answer(exchange, status, fields, body) == ERROR_NONE) {
        exchange_worker_detach(exchange);
    } else {
        exchange_fail(exchange, END_NO_MEMORY, (struct slice){NULL, 0});
    }
}

static void take_body(struct exchange *exchange)
{
    while (exchange->request_body.unsent > 0) {
        char piece[4096];
        size_t length = byteq_copy_out(&exchange->request_body, piece, sizeof piece);
        strbuf_append(&here->body, piece, length);
        exchange_request_taken(exchange, length);
        exchange_request_forget(exchange);
    }
}

static bool path_is(const struct exchange *exchange, const char *path)
{
    return slice_equal(exchange->request.raw_path, slice_from(path));
}

/* Gives back what came, as it comes. */
static void stream_body(struct exchange *exchange)
{
    size_t before = here->body.length;
    if (exchange->response_state == RESPONSE_NONE) {
        REQUIRE(answer(exchange, 200, "", NULL) == ERROR_NONE);
    }
    take_body(exchange);
    if (here->body.length > before) {
        REQUIRE(exchange_respond_body(exchange, here->body.data + before,
                                      here->body.length - before) == ERROR_NONE);
    }
    if (exchange->request_end) {
        here->attached = NULL;
        REQUIRE(exchange_respond_end(exchange, NULL, 0) == ERROR_NONE);
        exchange_worker_detach(exchange);
    }
}

static void on_body(struct exchange *exchange)
{
    REQUIRE(exchange == here->attached);
    here->body_ended |= exchange->request_end;
    if (path_is(exchange, "/stream")) {
        stream_body(exchange);
        return;
    }
    if (!here->hold) {
        take_body(exchange);
    }
    if (path_is(exchange, "/echo") && exchange->request_end) {
        char length[64];
        snprintf(length, sizeof length, "content-length: %zu", here->body.length);
        answer_and_detach(exchange, 200, length, strbuf_text(&here->body));
    }
}

static void on_head(struct exchange *exchange)
{
    here->heads++;
    strbuf_printf(&here->seen, "%.*s %.*s;", SLICE_PRINT(exchange->request.method),
                  SLICE_PRINT(exchange->request.raw_path));
    exchange_worker_attach(exchange, here);
    if (path_is(exchange, "/hello")) {
        answer_and_detach(exchange, 200, "content-length: 5\ncontent-type: text/plain", "hello");
        return;
    }
    REQUIRE(here->attached == NULL);
    strbuf_clear(&here->body);
    here->body_ended = exchange->request_end;
    here->attached = exchange;
    if (path_is(exchange, "/echo") || path_is(exchange, "/stream")) {
        on_body(exchange);
    }
}

static void on_released(struct exchange *exchange, size_t length)
{
    (void)exchange;
    here->released += length;
}

static void on_client_gone(struct exchange *exchange, bool half_closed)
{
    if (half_closed) {
        here->half_closed++;
        return;
    }
    here->gone++;
    here->attached = NULL;
    exchange_worker_detach(exchange);
}

static const struct exchange_handler handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_released = on_released,
    .on_client_gone = on_client_gone,
};

/* --- running ----------------------------------------------------------------------------------- */

static void client_read(struct client *client)
{
    char piece[65536];
    while (client->fd >= 0 && !client->paused && !client->eof && !client->reset) {
        ssize_t length = recv(client->fd, piece, sizeof piece, MSG_DONTWAIT);
        if (length > 0) {
            strbuf_append(&client->got, piece, (size_t)length);
        } else if (length == 0) {
            client->eof = true;
        } else if (errno == EAGAIN) {
            break;
        } else {
            client->reset = true;
        }
    }
}

static void on_tick(struct loop_timer *timer)
{
    struct fixture *fixture = LIST_CONTAINER(timer, struct fixture, tick);
    client_read(&fixture->client);
    if (fixture->each_tick != NULL) {
        fixture->each_tick(fixture);
    }
    fixture->ticks++;
    fixture->reached = fixture->until != NULL && fixture->until(fixture);
    if (fixture->reached || fixture->ticks >= fixture->ticks_max) {
        loop_stop(fixture->loop);
    } else {
        REQUIRE(loop_timer_set(timer, CLOCK_NS_PER_MS / 2) == ERROR_NONE);
    }
}

static bool run(struct fixture *fixture, bool (*until)(struct fixture *fixture), unsigned ticks)
{
    here = fixture;
    fixture->until = until;
    fixture->ticks = 0;
    fixture->ticks_max = ticks;
    fixture->reached = false;
    REQUIRE(loop_timer_set(&fixture->tick, 1) == ERROR_NONE);
    REQUIRE(loop_run(fixture->loop) == ERROR_NONE);
    loop_timer_clear(&fixture->tick);
    return fixture->reached;
}

bool fixture_run_until(struct fixture *fixture, bool (*until)(struct fixture *fixture))
{
    return run(fixture, until, 20000);
}

void fixture_run_some(struct fixture *fixture)
{
    (void)run(fixture, NULL, 10);
}

static const char *expected;

static bool received(struct fixture *fixture)
{
    return fixture->client.got.length >= strlen(expected) || fixture->client.eof ||
           fixture->client.reset;
}

bool fixture_receives(struct fixture *fixture, const char *text)
{
    expected = text;
    (void)fixture_run_until(fixture, received);
    if (strcmp(strbuf_text(&fixture->client.got), text) == 0) {
        fixture_forget(fixture);
        return true;
    }
    printf("# got:\n# %s\n# expected:\n# %s\n", strbuf_text(&fixture->client.got), text);
    return false;
}

bool fixture_until_over(struct fixture *fixture)
{
    return fixture->client.eof || fixture->client.reset;
}

bool fixture_until_no_conn(struct fixture *fixture)
{
    return conn_list_empty(&fixture->group.conns);
}

bool fixture_until_attached(struct fixture *fixture)
{
    return fixture->attached != NULL;
}

bool fixture_until_gone(struct fixture *fixture)
{
    return fixture->gone > 0;
}

bool fixture_until_half_closed(struct fixture *fixture)
{
    return fixture->half_closed > 0;
}

bool fixture_has_prefix(const struct fixture *fixture, const char *text)
{
    return strncmp(strbuf_text(&fixture->client.got), text, strlen(text)) == 0;
}

bool fixture_has_text(const struct fixture *fixture, const char *text)
{
    return strstr(strbuf_text(&fixture->client.got), text) != NULL;
}

bool fixture_until_body_full(struct fixture *fixture)
{
    return fixture->attached != NULL && exchange_request_room(fixture->attached) == 0;
}

bool fixture_until_body_ended(struct fixture *fixture)
{
    return fixture->body_ended;
}

void fixture_forget(struct fixture *fixture)
{
    strbuf_clear(&fixture->client.got);
}

/* --- life -------------------------------------------------------------------------------------- */

void fixture_init(struct fixture *fixture)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 500};
    REQUIRE(metrics_register_thread() == ERROR_NONE); /* its memory stays */
    uint64_t live = mem_live();
    *fixture = (struct fixture){.client.fd = -1, .live = live};
    fixture->settings = (struct http_settings){
        .target_max = 8192,
        .header_block_max = 32768,
        .header_fields_max = 100,
        .cookie_crumbs_max = 100,
        .trailer_block_max = 8192,
        .trailer_fields_max = 32,
        .header_timeout = 60 * CLOCK_NS_PER_S,
        .body_size_max = 1 << 30,
        .body_idle = 60 * CLOCK_NS_PER_S,
        .keep_alive = 60 * CLOCK_NS_PER_S,
        .write_stall = 60 * CLOCK_NS_PER_S,
        .early_response_drain = 65536,
        .early_response_drain_time = 60 * CLOCK_NS_PER_S,
        .lingering_close = 60 * CLOCK_NS_PER_S,
        .window = 65536,
        .early_hints_h1 = true,
    };
    fixture->h1_settings = (struct h1_settings){
        .leading_crlf_max = 2,
        .chunk_line_max = 4096,
        .chunk_overhead_max = 100 * 1024,
        .read_buffer = 16384,
    };
    fixture->loop = loop_new(0, &loop_settings);
    REQUIRE(fixture->loop != NULL);
    conn_group_init(&fixture->group, fixture->loop, &fixture->settings, &handler, fixture);
    loop_timer_init(&fixture->tick, fixture->loop, on_tick);
    here = fixture;
    fixture_run_some(
        fixture); /* the loop has its own memory from now on: failures hit the connection */
}

void fixture_connect(struct fixture *fixture)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *sa = (struct sockaddr *)&address;
    socklen_t length = sizeof address;
    struct addr none = {.length = 0};
    struct conn_identity identity = {.client_host = SLICE("127.0.0.1"), .client_port = 1};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(listener >= 0 && bind(listener, sa, length) == 0 && listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, sa, &length) == 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(client >= 0 && connect(client, sa, length) == 0);
    int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    REQUIRE(server >= 0);
    close(listener);
    strbuf_clear(&fixture->client.got);
    fixture->client.fd = client;
    fixture->client.eof = fixture->client.reset = fixture->client.paused = false;
    struct transport *transport = transport_plain_new(fixture->loop, server, &none, &none);
    if (transport != NULL) { /* memory may be out: then the client sees an end */
        enum error error =
            h1_conn_new(&fixture->group, transport, &identity, &fixture->h1_settings);
        REQUIRE(error == ERROR_NONE || error == ERROR_NO_MEMORY || error == ERROR_IO);
    }
}

void fixture_disconnect(struct fixture *fixture, bool reset)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (fixture->client.fd < 0) {
        return;
    }
    if (reset) {
        REQUIRE(setsockopt(fixture->client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
    }
    close(fixture->client.fd);
    fixture->client.fd = -1;
}

void fixture_done(struct fixture *fixture)
{
    mem_fail_nth(0, 0);
    here = fixture;
    conn_group_destroy_all(&fixture->group);
    fixture_disconnect(fixture, false);
    fixture_run_some(fixture);
    strbuf_done(&fixture->client.got);
    strbuf_done(&fixture->body);
    strbuf_done(&fixture->seen);
    REQUIRE(fixture->attached == NULL);
    loop_free(fixture->loop);
    REQUIRE(metrics_sum(METRIC_conns) == 0);
    REQUIRE(metrics_sum(METRIC_exchanges) == 0);
    REQUIRE(mem_live() == fixture->live);
}

/* A client that writes more than fits lets the loop run meanwhile. */
void fixture_send(struct fixture *fixture, const char *bytes, size_t length)
{
    size_t sent = 0;
    while (sent < length) {
        ssize_t n =
            send(fixture->client.fd, bytes + sent, length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
        } else if (errno == EAGAIN) {
            fixture_run_some(fixture);
        } else {
            return; /* the gateway has closed: the test sees it by itself */
        }
    }
}

void fixture_send_text(struct fixture *fixture, const char *text)
{
    fixture_send(fixture, text, strlen(text));
}

void fixture_respond(struct fixture *fixture, unsigned status, const char *fields, const char *body)
{
    here = fixture;
    REQUIRE(fixture->attached != NULL);
    if (body == NULL) {
        REQUIRE(answer(fixture->attached, status, fields, NULL) == ERROR_NONE);
    } else {
        answer_and_detach(fixture->attached, status, fields, body);
    }
}

void fixture_respond_more(struct fixture *fixture, const char *bytes)
{
    REQUIRE(exchange_respond_body(fixture->attached, bytes, strlen(bytes)) == ERROR_NONE);
}

void fixture_respond_end(struct fixture *fixture)
{
    struct exchange *exchange = fixture->attached;
    fixture->attached = NULL;
    REQUIRE(exchange_respond_end(exchange, NULL, 0) == ERROR_NONE);
    exchange_worker_detach(exchange);
}
