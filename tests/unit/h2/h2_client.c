/* SPDX-License-Identifier: MIT */
/* The client of the connection tests. */
#include "unit/h2/h2_client.h"

#include <stdio.h>
#include <stdlib.h>

static struct h2_answer *answer_of(struct h2_client *client, int32_t id)
{
    REQUIRE(id > 0 && id < 1000);
    return &client->answers[id];
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                     void *user)
{
    struct h2_answer *answer = answer_of(user, frame->hd.stream_id);
    char text[4] = "";
    (void)session;
    (void)flags;
    if (name_length == 7 && memcmp(name, ":status", 7) == 0) {
        memcpy(text, value, value_length < 3 ? value_length : 3);
        int status = atoi(text);
        answer->informational += status < 200;
        answer->status = status >= 200 ? status : answer->status;
    } else if (answer->status != 0 && frame->headers.cat == NGHTTP2_HCAT_HEADERS &&
               answer->body > 0) {
        answer->trailers++;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t length, void *user)
{
    (void)session;
    (void)flags;
    (void)data;
    answer_of(user, id)->body += length;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2_answer *answer = answer_of(user, id);
    (void)session;
    answer->closed = true;
    answer->code = code;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_client *client = user;
    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->goaways++;
        client->goaway_code = frame->goaway.error_code;
        client->goaway_last = frame->goaway.last_stream_id;
    }
    return 0;
}

static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    struct h2_client *client = user;
    (void)session;
    printf("# the gateway's frame of type %d is bad: %s\n", frame->hd.type,
           nghttp2_strerror(error));
    client->bad = true;
    return 0;
}

void h2_client_init(struct h2_client *client, struct h2_driver *driver)
{
    nghttp2_session_callbacks *callbacks;
    *client = (struct h2_client){.driver = driver};
    REQUIRE(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid);
    REQUIRE(nghttp2_session_client_new(&client->session, callbacks, client) == 0);
    nghttp2_session_callbacks_del(callbacks);
    REQUIRE(nghttp2_submit_settings(client->session, 0, NULL, 0) == 0);
}

void h2_client_done(struct h2_client *client)
{
    nghttp2_session_del(client->session);
    client->session = NULL;
}

static nghttp2_ssize read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t length,
                               uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_client *client = user;
    (void)session;
    (void)id;
    (void)source;
    if (client->body_left == SIZE_MAX) {
        return NGHTTP2_ERR_DEFERRED;
    }
    size_t part = client->body_left < length ? client->body_left : length;
    memset(out, 'b', part);
    client->body_left -= part;
    *flags |= client->body_left == 0 ? NGHTTP2_DATA_FLAG_EOF : 0;
    return (nghttp2_ssize)part;
}

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

int32_t h2_client_request(struct h2_client *client, const char *method, const char *path,
                          size_t body)
{
    const nghttp2_nv fields[] = {pair(":method", method), pair(":scheme", "http"),
                                 pair(":authority", "host"), pair(":path", path),
                                 pair("te", "trailers")};
    const nghttp2_data_provider2 source = {.read_callback = read_body};
    client->body_left = body;
    int32_t id =
        nghttp2_submit_request2(client->session, NULL, fields, 5, body > 0 ? &source : NULL, NULL);
    REQUIRE(id > 0);
    return id;
}

/* Moves what both have written to the other. Returns whether there was anything. */
static bool exchange_bytes(struct h2_client *client)
{
    struct fake_wire *wire = &client->driver->wire;
    const uint8_t *data;
    nghttp2_ssize length;
    bool moved = client->taken < wire->out.length;
    if (moved) {
        length =
            nghttp2_session_mem_recv2(client->session, (uint8_t *)wire->out.data + client->taken,
                                      wire->out.length - client->taken);
        client->bad |= length < 0;
        client->taken = wire->out.length;
    }
    while ((length = nghttp2_session_mem_send2(client->session, &data)) > 0) {
        strbuf_append(&wire->in, data, (size_t)length);
        moved = true;
    }
    return moved;
}

void h2_client_run(struct h2_client *client)
{
    const struct fake_wire *wire = &client->driver->wire;
    for (int quiet = 0; quiet < 3;) {
        bool busy = exchange_bytes(client);
        busy |= !wire->closed && !wire->shut && wire->in_taken < wire->in.length;
        quiet = busy ? 0 : quiet + 1;
        driver_run(client->driver, 3);
    }
}
