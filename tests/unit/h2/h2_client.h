/* SPDX-License-Identifier: MIT */
/* A client of h2_driver.h, built on the library's client session: whatever the gateway writes must be good HTTP/2 for it. */
#ifndef TESTS_UNIT_H2_H2_CLIENT_H
#define TESTS_UNIT_H2_H2_CLIENT_H

#include <nghttp2/nghttp2.h>

#include "unit/h2/h2_driver.h"

struct h2_answer {
    int status;
    unsigned informational, trailers;
    size_t body;
    bool closed;
    uint32_t code;
};

struct h2_client {
    struct h2_driver *driver;
    nghttp2_session *session;
    size_t taken;                   /* of wire.out */
    size_t body_left;               /* what is still to be sent of every request body */
    struct h2_answer answers[1000]; /* by stream id */
    unsigned goaways;
    uint32_t goaway_code;
    int32_t goaway_last;
    bool bad; /* the gateway broke the protocol */
};

void h2_client_init(struct h2_client *client, struct h2_driver *driver);
void h2_client_done(struct h2_client *client);
/* Opens a stream and returns its id; `body`: bytes to be sent after the head, SIZE_MAX: none and no end. */
int32_t h2_client_request(struct h2_client *client, const char *method, const char *path,
                          size_t body);
/* Lets both sides run until neither has anything to say. */
void h2_client_run(struct h2_client *client);

#endif
