/* SPDX-License-Identifier: MIT */
/* A client of the driver's connection: the library's own, which checks what we write. */
#ifndef TESTS_UNIT_H3_H3_CLIENT_H
#define TESTS_UNIT_H3_H3_CLIENT_H

#include <nghttp3/nghttp3.h>

#include "unit/h3/h3_driver.h"

#define CLIENT_STREAMS 128

struct h3_answer {
    unsigned status, informational, trailers;
    size_t body;
    bool ended;
    size_t to_send; /* of the request's body; SIZE_MAX: without end */
};

struct h3_client {
    struct h3_driver *driver;
    nghttp3_conn *session;
    struct h3_answer answers[CLIENT_STREAMS];
    size_t delivered[FAKE_STREAMS];
    int64_t next_id, goaway;
    bool bad, in_trailers; /* the library refused what we wrote */
};

void h3_client_init(struct h3_client *client, struct h3_driver *driver);
void h3_client_done(struct h3_client *client);
/* Sends a request; returns its stream. `body`: bytes of content; SIZE_MAX: as much as we let it. */
int64_t h3_client_request(struct h3_client *client, const char *method, const char *path,
                          size_t body);
/* The same with fields of its own behind the pseudo-fields. */
int64_t h3_client_ask(struct h3_client *client, const char *method, const char *path,
                      const struct field *fields, size_t count, size_t body);
/* Lets both sides speak until they are silent. */
void h3_client_run(struct h3_client *client);
struct h3_answer *h3_client_answer(struct h3_client *client, int64_t id);

#endif
