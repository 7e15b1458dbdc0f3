/* SPDX-License-Identifier: MIT */
/* The scripted codec and handler. It owns the loop, the group and the only connection. */
#include "http_fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"

static struct http_fixture *here;

/* --- the codec ------------------------------------------------------------------------------------------------------- */

static enum error send_head(struct exchange *exchange, const struct response_head *head, bool end)
{
    REQUIRE(exchange == here->exchange);
    if (head->status < 200) {
        here->infos++;
        here->info_status = head->status;
        return here->head_answer;
    }
    REQUIRE(here->heads == 0);
    here->heads++;
    here->status = head->status;
    here->head_end = end;
    return here->head_answer;
}

static void resume_body(struct exchange *exchange)
{
    REQUIRE(exchange == here->exchange);
    here->resumes++;
}

static void consumed(struct exchange *exchange, size_t length)
{
    REQUIRE(exchange == here->exchange);
    here->consumes++;
    here->consumed += length;
}

static bool on_take_back(struct exchange *exchange)
{
    REQUIRE(exchange == here->exchange);
    here->heads -= here->take_back;
    return here->take_back;
}

static void on_abort(struct exchange *exchange, enum end_reason reason)
{
    REQUIRE(exchange == here->exchange);
    here->aborts++;
    here->abort_reason = reason;
    if (here->detach_in_abort) {
        exchange_client_detach(exchange, reason);
        here->exchange = NULL;
    }
}

static void drain(struct conn *conn, bool close_idle)
{
    here->drains++;
    here->idle_drains += close_idle;
    if (close_idle && here->exchange == NULL) {
        conn_done(conn);
    }
}

static void destroy(struct conn *conn)
{
    here->destroys++;
    conn_done(conn);
}

static void confirmed(struct conn *conn)
{
    (void)conn;
}

static const struct codec_ops codec = {
    .send_head = send_head,
    .resume_body = resume_body,
    .consumed = consumed,
    .take_back = on_take_back,
    .abort = on_abort,
    .confirmed = confirmed,
    .drain = drain,
    .destroy = destroy,
};

static void on_closed(struct conn_group *group, struct conn *conn, void *context)
{
    REQUIRE(group == &here->group && conn == &here->conn && context == here);
    here->closes++;
}

/* --- the handler ----------------------------------------------------------------------------------------------------- */

static void on_head(struct exchange *exchange)
{
    here->on_heads++;
    if (here->attach) {
        exchange_worker_attach(exchange, here);
    }
}

static void on_body(struct exchange *exchange)
{
    REQUIRE(exchange->worker_half == here);
    here->bodies++;
}

static void on_released(struct exchange *exchange, size_t length)
{
    REQUIRE(exchange->worker_half == here);
    here->released += length;
}

static void on_client_gone(struct exchange *exchange, bool half_closed)
{
    REQUIRE(exchange->worker_half == here);
    if (half_closed) {
        here->half_closes++;
        return;
    }
    here->gones++;
    exchange_worker_detach(exchange);
}

static const struct exchange_handler handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_released = on_released,
    .on_client_gone = on_client_gone,
};

/* --- life ------------------------------------------------------------------------------------------------------------ */

struct stopper {
    struct loop_resume resume;
    struct loop *loop;
};

static void stop_loop(struct loop_resume *resume)
{
    loop_stop(LIST_CONTAINER(resume, struct stopper, resume)->loop);
}

void http_fixture_turn(struct http_fixture *fixture)
{
    struct stopper stopper = {.loop = fixture->loop};
    loop_resume_init(&stopper.resume, stop_loop);
    loop_resume_later(fixture->loop, &stopper.resume);
    REQUIRE(loop_run(fixture->loop) == ERROR_NONE);
}

void http_fixture_init(struct http_fixture *fixture)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 500};
    REQUIRE(metrics_register_thread() == ERROR_NONE); /* its memory stays */
    uint64_t live = mem_live();
    *fixture = (struct http_fixture){.live = live, .attach = true};
    fixture->settings = (struct http_settings){
        .body_size_max = 1 << 20, .window = 65536, .retry_after = 7, .early_hints_h1 = true};
    fixture->loop = loop_new(0, &loop_settings);
    REQUIRE(fixture->loop != NULL);
    here = fixture;
    conn_group_init(&fixture->group, fixture->loop, &fixture->settings, &handler, fixture);
    fixture->group.on_closed = on_closed;
    fixture->group.on_closed_context = fixture;
    struct conn_identity identity = {.client_host = SLICE("127.0.0.1"), .client_port = 1};
    conn_init(&fixture->conn, &fixture->group, &codec, "http/1.1", &identity);
    http_fixture_turn(fixture); /* the loop has its own memory from now on */
}

void http_fixture_done(struct http_fixture *fixture)
{
    mem_fail_nth(0, 0);
    here = fixture;
    struct exchange *exchange = fixture->exchange;
    http_fixture_detach(fixture, END_CLIENT_GONE);
    if (exchange != NULL && exchange->worker_half != NULL) { /* its response was complete */
        exchange_worker_detach(exchange);
    }
    conn_group_destroy_all(&fixture->group);
    REQUIRE(conn_list_empty(&fixture->group.conns));
    strbuf_done(&fixture->body);
    http_fixture_turn(fixture);
    loop_free(fixture->loop);
    REQUIRE(metrics_sum(METRIC_exchanges) == 0);
    REQUIRE(metrics_sum(METRIC_buffered_bytes) == 0);
    REQUIRE(mem_live() == fixture->live);
}

/* --- steps ----------------------------------------------------------------------------------------------------------- */

struct exchange *http_fixture_request(struct http_fixture *fixture, const char *method,
                                      const char *authority, int64_t length, bool has_body)
{
    here = fixture;
    struct exchange *exchange = exchange_new(&fixture->conn);
    if (exchange == NULL) {
        return NULL;
    }
    REQUIRE(fixture->exchange == NULL);
    fixture->exchange = exchange;
    fixture->heads = 0;
    fixture->finished = false;
    exchange->request.version = HTTP_1_1;
    exchange->request.method = slice_from(method);
    exchange->request.scheme = SLICE("http");
    exchange->request.authority = slice_from(authority);
    exchange->request.target = exchange->request.raw_path = exchange->request.path = SLICE("/a");
    exchange->request.content_length = length;
    exchange->request.has_body = has_body;
    return exchange;
}

bool http_fixture_begin(struct http_fixture *fixture, const char *method, int64_t length,
                        bool has_body)
{
    struct exchange *exchange =
        http_fixture_request(fixture, method, "example.com", length, has_body);
    if (exchange == NULL) {
        return false;
    }
    exchange_request_head(exchange);
    return true;
}

enum error http_fixture_head(struct http_fixture *fixture, unsigned status, int64_t length,
                             bool end)
{
    struct response_head head = {.status = status, .content_length = length};
    return status < 200 ? exchange_respond_info(fixture->exchange, &head)
                        : exchange_respond_head(fixture->exchange, &head, end);
}

void http_fixture_take(struct http_fixture *fixture, size_t most)
{
    char piece[65536];
    struct exchange *exchange = fixture->exchange;
    size_t length = byteq_copy_out(&exchange->response_body, piece, most);
    strbuf_append(&fixture->body, piece, length);
    exchange_response_sent(exchange, length);
    if (exchange->response_end && exchange->response_body.size == 0 &&
        exchange->response_state == RESPONSE_ENDED) {
        exchange_response_finished(exchange);
        fixture->finished = true;
    }
}

void http_fixture_detach(struct http_fixture *fixture, enum end_reason reason)
{
    if (fixture->exchange != NULL) {
        exchange_client_detach(fixture->exchange, reason);
        fixture->exchange = NULL;
    }
}

void http_fixture_let_go(struct http_fixture *fixture)
{
    exchange_worker_detach(fixture->exchange);
}

const char *http_fixture_field(const struct http_fixture *fixture, const char *name)
{
    const struct response_head *head = &fixture->exchange->response;
    const struct field *field = head_find(head->fields, head->field_count, slice_from(name));
    return field != NULL ? field->value.data : "";
}
