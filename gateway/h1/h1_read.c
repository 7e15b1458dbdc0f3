/* SPDX-License-Identifier: MIT */
/*
 * Bytes from the client. They are read into a scratch buffer of the thread and parsed there; only what cannot be parsed yet
 * (pipelined requests, a body without room) is kept, in a buffer that the connection owns while it needs it. So an idle connection
 * holds no buffer, and read-ahead is bounded by h1_settings.read_buffer.
 */
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "h1/h1_state.h"

#define SCRATCH_SIZE 16384
/* Bytes read in one callback before others get their turn. */
#define READ_BUDGET (4 * SCRATCH_SIZE)

static _Thread_local char scratch[SCRATCH_SIZE];

static size_t buffer_size(const struct h1_conn *h1)
{
    return h1->settings->read_buffer < SCRATCH_SIZE ? (size_t)h1->settings->read_buffer
                                                    : SCRATCH_SIZE;
}

bool h1_wants_bytes(const struct h1_conn *h1)
{
    bool room = !h1->client_shut && h1->buffer_length < buffer_size(h1);
    switch (h1->phase) {
    case H1_PHASE_IDLE:
    case H1_PHASE_HEAD:
    case H1_PHASE_BODY:
    case H1_PHASE_DRAIN:
    case H1_PHASE_LINGER:
        return room;
    case H1_PHASE_TUNNEL:
        return room && !h1->deaf && exchange_request_room(h1->exchange) > 0;
    case H1_PHASE_WAIT:
        return room && !h1->deaf &&
               !h1->close_after; /* read-ahead is for requests that will be served */
    default:
        return false;
    }
}

/* --- parser events ------------------------------------------------------------------------------ */

static void on_begin(struct h1_conn *h1)
{
    h1->exchange = exchange_new(&h1->conn);
    if (h1->exchange == NULL) {
        METRIC_INCREMENT(h1_no_memory);
        h1_close_later(h1, END_NO_MEMORY);
        return;
    }
    h1_writer_init(&h1->writer);
    h1->head_pending = false;
    h1_parser_begin(&h1->parser, &h1->exchange->arena, &h1->exchange->request);
    h1_set_phase(h1, H1_PHASE_HEAD);
}

/* The connection belongs to the WebSocket from here on, also if the handshake is refused. */
static void begin_tunnel(struct h1_conn *h1)
{
    struct request_head *head = &h1->exchange->request;
    head->kind = REQUEST_WEBSOCKET;
    head->scheme = h1->conn.identity.secure ? SLICE("wss") : SLICE("ws");
    head->has_body = true;
    h1->close_after = true;
    h1_set_phase(h1, H1_PHASE_TUNNEL);
}

static void on_head(struct h1_conn *h1)
{
    struct exchange *exchange = h1->exchange;
    h1->close_after |= !h1->parser.message.keep_alive;
    h1->drained = 0;
    if (h1->parser.message.websocket) {
        begin_tunnel(h1);
        exchange_request_head(exchange);
        return;
    }
    h1_set_phase(h1, exchange->request.has_body ? H1_PHASE_BODY : H1_PHASE_WAIT);
    exchange_request_head(exchange);
}

static void on_body(struct h1_conn *h1, struct slice body)
{
    h1_timers_body(h1, true, body.length);
    if (h1->phase == H1_PHASE_DRAIN) {
        h1->drained += body.length;
    }
    enum error error = exchange_request_body(h1->exchange, body.data, body.length);
    if (error == ERROR_NO_MEMORY) {
        METRIC_INCREMENT(h1_no_memory);
    }
    /* An error has been answered by the exchange, which drops the rest of the body from now on. */
    if (h1->phase == H1_PHASE_DRAIN && h1->drained > h1_http_settings(h1)->early_response_drain) {
        METRIC_INCREMENT(limit_early_response_drain);
        h1_log(h1, "the rest of the body is longer than limits.early_response_drain");
        h1->close_after = true;
        h1->deaf = true;
        h1_end_exchange(h1);
    }
}

static void on_end(struct h1_conn *h1)
{
    struct exchange *exchange = h1->exchange;
    bool draining = h1->phase == H1_PHASE_DRAIN;
    if (exchange->request.has_body) {
        h1_set_phase(h1, H1_PHASE_WAIT);
        exchange_request_ended(exchange);
    }
    if (draining && !h1_is_over(h1)) {
        h1_end_exchange(h1);
    }
}

/* How many bytes the parser may have: not more of a body than the exchange has room for. */
static size_t allowance(struct h1_conn *h1, size_t length)
{
    if (h1->phase != H1_PHASE_BODY && h1->phase != H1_PHASE_DRAIN) {
        return length;
    }
    size_t room = exchange_request_room(h1->exchange);
    h1->blocked_on_room = room == 0;
    return room < length ? room : length;
}

static bool may_parse(const struct h1_conn *h1)
{
    return !h1->deaf && h1->phase != H1_PHASE_TUNNEL &&
           (h1->phase == H1_PHASE_IDLE || h1->phase == H1_PHASE_HEAD ||
            h1->phase == H1_PHASE_BODY || h1->phase == H1_PHASE_DRAIN ||
            h1->parser.state == H1_PARSE_ENDED) &&
           !h1_is_over(h1) && h1->phase != H1_PHASE_LINGER;
}

/* Whether the preface of HTTP/2 is welcome: where the listener says so, and as the first thing of a connection (RFC 9113 3.3). */
static bool may_hand_over(const struct h1_conn *h1)
{
    return h1->conn.identity.prior_knowledge && h1->conn.group->on_preface != NULL &&
           h1->conn.requests == 1;
}

/* Bytes of a WebSocket, as many as there is room for; returns how many. */
static size_t feed_tunnel(struct h1_conn *h1, const char *data, size_t length)
{
    size_t room = exchange_request_room(h1->exchange);
    size_t piece = room < length ? room : length;
    h1->blocked_on_room = room <= length;
    if (piece > 0 && exchange_request_body(h1->exchange, data, piece) == ERROR_NO_MEMORY) {
        METRIC_INCREMENT(h1_no_memory);
    }
    return piece;
}

/* Parses as far as the state allows; returns how many bytes are done with. */
static size_t parse(struct h1_conn *h1, char *data, size_t length)
{
    size_t done = 0;
    while (may_parse(h1) && (done < length || h1->parser.state == H1_PARSE_ENDED)) {
        size_t piece = allowance(h1, length - done);
        if (piece == 0 && h1->parser.state != H1_PARSE_ENDED) {
            break;
        }
        size_t used = 0;
        struct slice body;
        enum h1_event event = h1_parser_feed(&h1->parser, data + done, piece, &used, &body);
        done += used;
        switch (event) {
        case H1_EVENT_NEED_DATA:
            break;
        case H1_EVENT_BEGIN:
            on_begin(h1);
            break;
        case H1_EVENT_HEAD:
            on_head(h1);
            break;
        case H1_EVENT_BODY:
            on_body(h1, body);
            break;
        case H1_EVENT_END:
            on_end(h1);
            break;
        case H1_EVENT_H2_PREFACE:
            if (may_hand_over(h1)) {
                h1_hand_over(h1, data + done, length - done);
                return length;
            }
            h1_refuse(h1, h1->parser.error);
            break;
        case H1_EVENT_FAILED:
            h1_refuse(h1, h1->parser.error);
            break;
        }
    }
    if (h1->phase == H1_PHASE_TUNNEL && done < length) {
        done += feed_tunnel(h1, data + done, length - done);
    }
    return done;
}

/* --- bytes that wait ----------------------------------------------------------------------------- */

/* Keeps bytes that cannot be parsed yet. */
static void keep(struct h1_conn *h1, const char *data, size_t length)
{
    if (length == 0 || h1->deaf || h1_is_over(h1) || h1->phase == H1_PHASE_LINGER) {
        return;
    }
    if (h1->buffer == NULL) {
        h1->buffer = mem_alloc(buffer_size(h1));
    }
    if (h1->buffer == NULL) {
        METRIC_INCREMENT(h1_no_memory);
        h1_close_later(h1, END_NO_MEMORY);
        return;
    }
    REQUIRE(h1->buffer_length + length <= buffer_size(h1));
    memcpy(h1->buffer + h1->buffer_length, data, length);
    h1->buffer_length += length;
}

/* Parses what was kept. */
static void parse_buffer(struct h1_conn *h1)
{
    if (h1->buffer_length == 0) {
        return;
    }
    /* The handler may end the connection meanwhile: then the buffer is gone and stays so. */
    char *buffer = h1->buffer;
    size_t length = h1->buffer_length;
    h1->buffer = NULL;
    h1->buffer_length = 0;
    size_t done = parse(h1, buffer, length);
    if (done < length && !h1->deaf && !h1_is_over(h1) && h1->phase != H1_PHASE_LINGER) {
        memmove(buffer, buffer + done, length - done);
        h1->buffer = buffer;
        h1->buffer_length = length - done;
        return;
    }
    mem_free(buffer);
}

/* --- the socket ---------------------------------------------------------------------------------- */

/* The client has shut its side (FIN, or close_notify). */
static void on_shut(struct h1_conn *h1)
{
    h1->client_shut = true;
    switch (h1->phase) {
    case H1_PHASE_HEAD:
    case H1_PHASE_BODY:
        if (h1->buffer_length > 0) {
            break; /* the end of the request may be in what was kept */
        }
        h1_destroy(h1, END_CLIENT_GONE, false);
        break;
    case H1_PHASE_TUNNEL:
        if (h1->buffer_length == 0 && !h1->exchange->request_end) {
            exchange_request_ended(h1->exchange);
        }
        break;
    case H1_PHASE_WAIT:
        if (h1->exchange != NULL && !h1->exchange->client_half_closed &&
            h1->exchange->response_state != RESPONSE_FINISHED) {
            METRIC_INCREMENT(h1_half_closes);
            exchange_client_half_closed(h1->exchange);
        }
        break;
    case H1_PHASE_IDLE:
        if (h1->buffer_length > 0) {
            break;
        }
        h1_destroy(h1, END_COMPLETE, false);
        break;
    case H1_PHASE_DRAIN:
    case H1_PHASE_LINGER:
        h1_destroy(h1, END_COMPLETE, false);
        break;
    default:
        break;
    }
}

/* One read. Returns how many bytes came, 0 when there is nothing more to do now. */
static size_t read_once(struct h1_conn *h1)
{
    size_t length = 0;
    size_t room = buffer_size(h1) - h1->buffer_length;
    enum error error = transport_read(h1->transport, scratch, room, &length);
    if (error == ERROR_AGAIN) {
        return 0;
    }
    if (error == ERROR_CLOSED) {
        on_shut(h1);
        return 0;
    }
    if (error != ERROR_NONE) {
        h1_destroy(h1, h1->phase == H1_PHASE_LINGER ? END_COMPLETE : END_CLIENT_GONE, true);
        return 0;
    }
    if (h1->phase == H1_PHASE_LINGER) {
        return length; /* thrown away */
    }
    size_t done = h1->buffer_length == 0 ? parse(h1, scratch, length) : 0;
    if (done < length) {
        keep(h1, scratch + done, length - done);
    }
    return length;
}

/* The body clock runs while the client could send and does not have to wait for us. */
static void update_body_clock(struct h1_conn *h1)
{
    if (h1->phase != H1_PHASE_BODY) {
        return;
    }
    const struct exchange *exchange = h1->exchange;
    bool awaits_continue = exchange->request.expect_continue && !exchange->continue_sent &&
                           exchange->request_bytes == 0;
    bool unwanted = exchange->request_body_dropped && exchange->response_state != RESPONSE_NONE;
    h1_timers_body(h1, !h1->blocked_on_room && !awaits_continue && !unwanted, 0);
}

void h1_read(struct h1_conn *h1)
{
    size_t total = 0;
    while (h1_wants_bytes(h1)) {
        size_t wanted = buffer_size(h1) - h1->buffer_length;
        size_t length = read_once(h1);
        total += length;
        if (h1->phase == H1_PHASE_DEAD) {
            return;
        }
        if (length == 0 || (length < wanted && !transport_buffered(h1->transport))) {
            break; /* a level-triggered event tells of more */
        }
        if (total >= READ_BUDGET) {
            loop_resume_later(h1->conn.loop, &h1->resume);
            break;
        }
    }
    update_body_clock(h1);
    h1_update_wishes(h1);
}

void h1_continue(struct h1_conn *h1)
{
    parse_buffer(h1);
    if (h1_is_over(h1)) {
        return;
    }
    if (h1->client_shut && (h1->buffer_length == 0 || h1->phase == H1_PHASE_WAIT)) {
        on_shut(h1); /* nothing more can come, and what was kept is parsed */
    }
    if (h1->phase != H1_PHASE_DEAD) {
        h1_read(h1);
    }
}
