/* SPDX-License-Identifier: MIT */
/*
 * The two tables that join the HTTP versions to the apps. A codec (h1/, h2/, h3/) implements codec_ops; whoever answers
 * requests (app/forward) implements exchange_handler. Neither knows the other.
 *
 * Rules for both: a call may come from any callback, so nobody writes to a socket, frees, or calls into a protocol library's
 * send function inside one: change state, then mark dirty; the flush does the rest.
 *
 * WebSockets: a codec that finds a handshake (Upgrade on HTTP/1.1, extended CONNECT on HTTP/2 and 3) sets request.kind to
 * REQUEST_WEBSOCKET, method to GET, scheme to ws or wss and has_body. Tunnel bytes of the client are the request body from then
 * on, early ones too; their end (FIN, END_STREAM) is exchange_request_ended. No limit of bodies applies. The handshake is
 * accepted by send_head with 101 (200 from HTTP/2 on), whose fields are complete but for what the carrier itself adds; then
 * response body bytes are tunnel bytes, and their end closes the tunnel. Any other final status is a plain response.
 */
#ifndef GATEWAY_HTTP_CODEC_H
#define GATEWAY_HTTP_CODEC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct conn;
struct exchange;
struct field;
struct response_head;
struct strbuf;
enum end_reason;

/* From an exchange towards its client. */
struct codec_ops {
    /* Queues a checked head. status < 200: informational, any number before the final one (100 too). Final: exactly once;
     * `end` says that no body and no trailers follow. The head's memory lives as long as the exchange. */
    enum error (*send_head)(struct exchange *exchange, const struct response_head *head, bool end);
    /* Forgets the final head, if no byte of it was given to the socket or a library yet: another one may follow. False: too late. */
    bool (*take_back)(struct exchange *exchange);
    /* exchange->response_body, response_end or trailers changed: pull when the socket can take more, and call
     * exchange_response_sent() for what was taken. */
    void (*resume_body)(struct exchange *exchange);
    /* `length` bytes of the request body left exchange->request_body: open the peer's window, go on reading. */
    void (*consumed)(struct exchange *exchange, size_t length);
    /* Cuts the exchange so that a begun response cannot look complete: h1 closes without the last chunk, h2 RST_STREAM, h3
     * RESET_STREAM, the code from the reason. Calls exchange_client_detach before it returns or in this turn's flush. */
    void (*abort)(struct exchange *exchange, enum end_reason reason);
    /* An exchange of conn->unconfirmed was confirmed by its worker: there may be room for a new stream. */
    void (*confirmed)(struct conn *conn);
    /* Begins a graceful end of the connection: no new requests, those under way finish. Idempotent. `close_idle`: an idle
     * connection is closed now (drain_idle has passed). */
    void (*drain)(struct conn *conn, bool close_idle);
    /* Ends the connection at once: exchanges under way are told END_SHUTDOWN... and detached; memory goes by loop_bury. */
    void (*destroy)(struct conn *conn);
    /* One line or more of the codec's state for status output; must work on a half-broken connection. */
    void (*dump)(const struct conn *conn, struct strbuf *out);
};

/* From an exchange's client towards the app. The handler sits in the conn_group, the exchange has room for its state. */
struct exchange_handler {
    /* A complete request head. The handler may answer at once; otherwise it attaches (exchange_worker_attach) and answers later. */
    void (*on_head)(struct exchange *exchange);
    /* exchange->request_body grew, request_end was set, or the rest of the body was dropped (request_body_dropped: no more of it
     * will come, as after an early response). Only while attached. */
    void (*on_body)(struct exchange *exchange);
    /* `length` bytes of the response have left for the client (h3: are in packets, and not too many of them unacknowledged). Only while
     * attached. */
    void (*on_released)(struct exchange *exchange, size_t length);
    /* The client is gone (`half_closed` false: nothing more can be sent for the handler, which must call exchange_worker_detach
     * before it returns), or an HTTP/1.1 client shut its side after its complete request (`half_closed` true: the answer can still
     * be sent). Only while attached. */
    void (*on_client_gone)(struct exchange *exchange, bool half_closed);
};

#endif
