/* SPDX-License-Identifier: MIT */
/*
 * An exchange between two scripts: a codec that records what it is told and takes bytes when the test says so, and a handler
 * that attaches and waits for the test. No socket and no worker.
 */
#ifndef TESTS_UNIT_HTTP_HTTP_FIXTURE_H
#define TESTS_UNIT_HTTP_HTTP_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "http/conn.h"
#include "http/exchange.h"

struct http_fixture {
    struct loop *loop;
    struct http_settings settings;
    struct conn_group group;
    struct conn conn;
    struct exchange *exchange; /* the latest; NULL once its client half has detached */
    uint64_t live;             /* allocations before */
    /* the codec */
    unsigned heads, infos, resumes, aborts, consumes, drains, idle_drains, destroys, closes;
    unsigned status, info_status;
    bool head_end, finished;
    bool take_back; /* a final head can be taken back */
    size_t consumed;
    enum end_reason abort_reason;
    bool detach_in_abort;   /* abort detaches at once, as h2 may */
    enum error head_answer; /* what send_head returns */
    struct strbuf body;     /* what the client has got of the body */
    /* the handler */
    bool attach; /* on_head attaches */
    unsigned on_heads, bodies, gones, half_closes;
    size_t released;
};

void http_fixture_init(struct http_fixture *fixture);
/* Detaches what is left, ends the connection, and REQUIREs that nothing lives and every gauge stands where it stood. */
void http_fixture_done(struct http_fixture *fixture);
/* One turn of the loop: what is buried is freed. */
void http_fixture_turn(struct http_fixture *fixture);

/* A new exchange with this request; `length` -1: no content-length, `has_body` as said. NULL: no memory. */
struct exchange *http_fixture_request(struct http_fixture *fixture, const char *method,
                                      const char *authority, int64_t length, bool has_body);
/* The same, handed over by exchange_request_head. False: no memory. */
bool http_fixture_begin(struct http_fixture *fixture, const char *method, int64_t length,
                        bool has_body);
/* The worker's head: status and content-length (-1: none). */
enum error http_fixture_head(struct http_fixture *fixture, unsigned status, int64_t length,
                             bool end);
/* The codec takes up to `most` bytes of the response body; says FINISHED when it has all of it. */
void http_fixture_take(struct http_fixture *fixture, size_t most);
/* The codec has no more to do with the exchange. */
void http_fixture_detach(struct http_fixture *fixture, enum end_reason reason);
/* The handler lets go. */
void http_fixture_let_go(struct http_fixture *fixture);
/* The value of a field of the response head, "" when there is none. */
const char *http_fixture_field(const struct http_fixture *fixture, const char *name);

#endif
