/* SPDX-License-Identifier: MIT */
/* How connections end: by the client, the handler, a refusal, a drain. The end-of-life table of docs/ARCHITECTURE.md, column h1. */
#include "check.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "h1/h1_state.h"
#include "h1_fixture.h"

TEST(a_half_closed_client_gets_its_answer)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    shutdown(f.client.fd, SHUT_WR);
    CHECK(fixture_run_until(&f, fixture_until_half_closed));
    CHECK_EQ_INT(f.gone, 0);
    fixture_run_some(&f);
    fixture_respond(&f, 200, "content-length: 2", "ok");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    CHECK_EQ_STR(strbuf_text(&f.client.got), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    CHECK_EQ_INT(f.half_closed, 1);
    fixture_done(&f);
}

/* After "Connection: close" nothing more is read: the end of the client's side is noticed all the same. */
TEST(a_half_close_or_reset_is_noticed_although_nothing_is_read)
{
    static const char *const requests[] = {
        "GET /wait HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET /wait HTTP/1.0\r\n\r\n",
    };
    for (size_t i = 0; i < 4; i++) {
        struct fixture f;
        fixture_init(&f);
        fixture_connect(&f);
        fixture_send_text(&f, requests[i % 2]);
        if (i < 2) { /* the end comes with the request */
            shutdown(f.client.fd, SHUT_WR);
            CHECK(fixture_run_until(&f, fixture_until_half_closed));
            fixture_respond(&f, 200, "content-length: 2", "ok");
            CHECK(fixture_run_until(&f, fixture_until_over));
            CHECK(f.client.eof && fixture_has_text(&f, "\r\n\r\nok"));
            CHECK(fixture_run_until(&f, fixture_until_no_conn));
        } else {
            CHECK(fixture_run_until(&f, fixture_until_attached));
            fixture_run_some(&f);
            fixture_disconnect(&f, true);
            CHECK(fixture_run_until(&f, fixture_until_gone));
        }
        fixture_done(&f);
    }
}

TEST(pipelined_requests_before_a_half_close_are_answered)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT HELLO HELLO "GET /cut");
    shutdown(f.client.fd, SHUT_WR);
    CHECK(fixture_run_until(&f, fixture_until_half_closed));
    fixture_respond(&f, 200, "content-length: 0", "");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    CHECK_EQ_STR(strbuf_text(&f.client.got),
                 "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" HELLO_OK HELLO_OK);
    fixture_done(&f);
}

TEST(an_end_inside_the_request_is_a_client_that_left)
{
    static const char *const requests[] = {
        "GET /wai",
        "GET /wait HTTP/1.1\r\nHost",
        "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
        "POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n",
    };
    for (size_t i = 0; i < 4; i++) {
        struct fixture f;
        fixture_init(&f);
        fixture_connect(&f);
        fixture_send_text(&f, requests[i]);
        shutdown(f.client.fd, SHUT_WR);
        CHECK(fixture_run_until(&f, fixture_until_no_conn));
        CHECK_EQ_INT(f.gone, i < 2 ? 0 : 1);
        CHECK_EQ_INT(f.half_closed, 0);
        fixture_done(&f);
    }
}

TEST(a_reset_is_noticed_while_the_response_is_awaited)
{
    for (int full = 0; full < 2; full++) {
        struct fixture f;
        fixture_init(&f);
        fixture_connect(&f);
        fixture_send_text(&f, WAIT);
        CHECK(fixture_run_until(&f, fixture_until_attached));
        for (int i = 0; full && i < 2000; i++) { /* the read buffer is full: nothing is read */
            fixture_send_text(&f, HELLO);
        }
        fixture_run_some(&f);
        fixture_disconnect(&f, true);
        CHECK(fixture_run_until(&f, fixture_until_gone));
        CHECK(conn_list_empty(&f.group.conns));
        fixture_done(&f);
    }
}

TEST(a_reset_is_noticed_after_a_half_close)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    shutdown(f.client.fd, SHUT_WR);
    CHECK(fixture_run_until(&f, fixture_until_half_closed));
    fixture_disconnect(&f, true);
    CHECK(fixture_run_until(&f, fixture_until_gone));
    fixture_done(&f);
}

TEST(an_aborted_response_never_looks_complete)
{
    static const struct {
        const char *request, *fields;
        bool reset;
    } rows[] = {
        {"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n", "", false},
        {"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n", "content-length: 9", false},
        {"GET /wait HTTP/1.0\r\n\r\n", "", true}, /* only a reset tells a cut from an end */
    };
    for (size_t i = 0; i < 3; i++) {
        struct fixture f;
        fixture_init(&f);
        fixture_connect(&f);
        fixture_send_text(&f, rows[i].request);
        CHECK(fixture_run_until(&f, fixture_until_attached));
        fixture_respond(&f, 200, rows[i].fields, NULL);
        fixture_respond_more(&f, "abc");
        fixture_run_some(&f);
        CHECK(fixture_has_text(&f, "abc"));
        struct exchange *exchange = f.attached;
        f.attached = NULL;
        exchange_fail(exchange, END_WORKER_LOST, SLICE("gone"));
        CHECK(fixture_run_until(&f, fixture_until_over));
        CHECK_EQ_INT(f.client.reset, rows[i].reset);
        CHECK(!fixture_has_text(&f, "\r\n0\r\n"));
        fixture_done(&f);
    }
}

TEST(a_lost_worker_before_the_head_is_502)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    struct exchange *exchange = f.attached;
    f.attached = NULL;
    exchange_fail(exchange, END_WORKER_LOST, SLICE("gone"));
    fixture_run_some(&f);
    CHECK(fixture_has_prefix(&f, "HTTP/1.1 502 Bad Gateway\r\n") &&
          !fixture_has_text(&f, "connection: close"));
    fixture_forget(&f);
    fixture_send_text(&f, HELLO); /* the request was whole: the connection goes on */
    CHECK(fixture_receives(&f, HELLO_OK));
    fixture_done(&f);
}

TEST(refuses_and_lingers)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    int64_t before = metrics_sum(METRIC_h1_refused_host);
    fixture_send_text(&f, HELLO "GET / HTTP/1.1\r\n\r\n" HELLO HELLO);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    CHECK(fixture_has_prefix(&f, HELLO_OK "HTTP/1.1 400 Bad Request\r\n"));
    CHECK(fixture_has_text(&f, "connection: close\r\n") &&
          fixture_has_text(&f, "must have a Host"));
    CHECK_EQ_INT(metrics_sum(METRIC_h1_refused_host), before + 1);
    CHECK_EQ_INT(f.heads, 1);
    fixture_send_text(&f, HELLO);
    fixture_run_some(&f);
    CHECK_EQ_INT(f.heads, 1);
    fixture_disconnect(&f, false);
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    fixture_done(&f);
}

TEST(refuses_malformed_chunks)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                          "3\r\nabcd\r\n");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_INT(f.gone, 1);
    CHECK(f.client.eof && fixture_has_prefix(&f, "HTTP/1.1 400 ") &&
          fixture_has_text(&f, "connection: close"));
    fixture_done(&f);
}

TEST(trailers_over_their_limit_are_431)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.trailer_fields_max = 1;
    fixture_connect(&f);
    int64_t before = metrics_sum(METRIC_limit_trailers);
    fixture_send_text(&f, "POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                          "0\r\nA: 1\r\nB: 2\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_INT(f.gone, 1);
    CHECK(f.client.eof && fixture_has_prefix(&f, "HTTP/1.1 431 "));
    CHECK_EQ_INT(metrics_sum(METRIC_limit_trailers), before + 1);
    fixture_done(&f);
}

TEST(malformed_chunks_after_the_head_cut_the_response)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "POST /stream HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"));
    fixture_send_text(&f, "x\r\n");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(!fixture_has_text(&f, "0\r\n\r\n"));
    CHECK_EQ_INT(f.gone, 1);
    fixture_done(&f);
}

TEST(http2_with_prior_knowledge_is_refused_for_now)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof && fixture_has_prefix(&f, "HTTP/1.1 505 "));
    fixture_done(&f);
}

TEST(connection_close_is_honoured)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" HELLO);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    CHECK_EQ_STR(strbuf_text(&f.client.got), HELLO_CLOSE);
    CHECK_EQ_INT(f.heads, 1);
    fixture_done(&f);
}

TEST(keep_alive_requests_is_a_limit)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.keep_alive_requests = 2;
    fixture_connect(&f);
    fixture_send_text(&f, HELLO);
    CHECK(fixture_receives(&f, HELLO_OK));
    fixture_send_text(&f, HELLO);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_STR(strbuf_text(&f.client.got), HELLO_CLOSE);
    fixture_done(&f);
}

TEST(drains)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, HELLO);
    CHECK(fixture_receives(&f, HELLO_OK));
    conn_group_drain(&f.group, false);
    fixture_run_some(&f);
    CHECK(!conn_list_empty(&f.group.conns)); /* a request may be on its way */
    fixture_send_text(&f, HELLO);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_STR(strbuf_text(&f.client.got), HELLO_CLOSE);
    fixture_done(&f);
}

TEST(drains_idle_connections_when_told)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    conn_group_drain(&f.group, true);
    fixture_run_some(&f);
    CHECK(f.attached != NULL);
    fixture_respond(&f, 200, "content-length: 0", "");
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    CHECK(fixture_has_text(&f, "connection: close"));
    f.group.draining = false;
    fixture_disconnect(&f, false);
    fixture_connect(&f);
    fixture_send_text(&f, HELLO); /* lies in the socket when the drain comes */
    conn_group_drain(&f.group, true);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_STR(strbuf_text(&f.client.got), HELLO_CLOSE);
    fixture_disconnect(&f, false);
    fixture_connect(&f);
    conn_group_drain(&f.group, true);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof && f.client.got.length == 0);
    fixture_done(&f);
}

TEST(destroy_tells_the_handler)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    conn_group_destroy_all(&f.group);
    CHECK_EQ_INT(f.gone, 1);
    CHECK(fixture_run_until(&f, fixture_until_over));
    fixture_done(&f);
}

CHECK_MAIN
