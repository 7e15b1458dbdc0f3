/* SPDX-License-Identifier: MIT */
/*
 * Why an exchange ended: the rows of the end-of-life table in docs/ARCHITECTURE.md. Each codec and the forwarder translate a
 * reason into their own protocol's words; logs and metrics name it.
 */
#ifndef GATEWAY_HTTP_END_REASON_H
#define GATEWAY_HTTP_END_REASON_H

#include <stdbool.h>

/* END_REASON(NAME, name in logs, status when no head was sent yet (0: nothing is sent), text for the client's error page, what it means) */
#define END_REASONS(END_REASON)                                                                    \
    END_REASON(NONE, "none", 0, "", "still alive")                                                 \
    END_REASON(COMPLETE, "complete", 0, "", "the whole response was sent")                         \
    END_REASON(CLIENT_GONE, "client_gone", 0, "", "reset, write error, or end inside the request") \
    END_REASON(CLIENT_PROTOCOL, "client_protocol", 400, "The request is malformed.",               \
               "the client broke its protocol")                                                    \
    END_REASON(CLIENT_TIMEOUT, "client_timeout", 408, "The request did not arrive in time.",       \
               "header_timeout, body_idle or body_min_rate")                                       \
    END_REASON(CLIENT_STALLED, "client_stalled", 0, "",                                            \
               "write_stall or min_send_rate: the client does not take the response")              \
    END_REASON(BODY_TOO_LARGE, "body_too_large", 413,                                              \
               "The request body is larger than this server accepts.", "limits.body_size")         \
    END_REASON(NO_ROUTE, "no_route", 404, "No application is configured for this address.",        \
               "no route or server name matches")                                                  \
    END_REASON(QUEUE_FULL, "queue_full", 503, "The server is at capacity. Please try again.",      \
               "apps.x.queue_max")                                                                 \
    END_REASON(QUEUE_TIMEOUT, "queue_timeout", 503,                                                \
               "The server is at capacity. Please try again.", "apps.x.queue_timeout")             \
    END_REASON(NO_WORKER, "no_worker", 503, "The application is not available. Please try again.", \
               "no ready worker until the deadline")                                               \
    END_REASON(NO_WEBSOCKET, "no_websocket", 501, "The application takes no WebSockets.",          \
               "no worker of the app speaks WebSocket")                                            \
    END_REASON(OVERLOAD, "overload", 503, "The server is at capacity. Please try again.",          \
               "gateway.buffer_memory")                                                            \
    END_REASON(FIRST_BYTE_TIMEOUT, "first_byte_timeout", 504,                                      \
               "The application did not answer in time.", "limits.first_byte")                     \
    END_REASON(REQUEST_DEADLINE, "request_deadline", 504,                                          \
               "The application did not answer in time.", "limits.request_deadline")               \
    END_REASON(RESPONSE_IDLE, "response_idle", 504, "The application did not answer in time.",     \
               "limits.response_idle")                                                             \
    END_REASON(WORKER_LOST, "worker_lost", 502,                                                    \
               "The application process ended before it answered.",                                \
               "the worker died or broke its link")                                                \
    END_REASON(WORKER_PROTOCOL, "worker_protocol", 502,                                            \
               "The application gave an invalid response.", "a bad head or body from the worker")  \
    END_REASON(APP_EXCEPTION, "app_exception", 500, "Internal Server Error", "the app raised")     \
    END_REASON(APP_INCOMPLETE, "app_incomplete", 500, "Internal Server Error",                     \
               "the app returned without (all of) a response")                                     \
    END_REASON(NO_MEMORY, "no_memory", 503, "The server is at capacity. Please try again.",        \
               "an allocation failed")                                                             \
    END_REASON(SHUTDOWN, "shutdown", 503, "The server is shutting down.",                          \
               "the gateway stops and drain_timeout has passed")

enum end_reason {
#define END_REASON(constant, name, status, text, meaning) END_##constant,
    END_REASONS(END_REASON)
#undef END_REASON
        END_REASON_COUNT
};

/* "worker_lost": for logs and metrics. */
const char *end_reason_name(enum end_reason reason);
/* The status of the gateway-made response, 0 when none is sent. */
unsigned end_reason_status(enum end_reason reason);
/* The sentence on the error page. */
const char *end_reason_text(enum end_reason reason);

#endif
