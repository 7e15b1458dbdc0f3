/* SPDX-License-Identifier: MIT */
/* h3_client.h over the library's client side. */
#include "unit/h3/h3_client.h"

#include <string.h>

static const uint8_t content[4096];

struct h3_answer *h3_client_answer(struct h3_client *client, int64_t id)
{
    REQUIRE(id >= 0 && id / 4 < CLIENT_STREAMS);
    return &client->answers[id / 4];
}

/* --- what the library says ----------------------------------------------------------------------- */

static int on_header(nghttp3_conn *session, int64_t id, int32_t token, nghttp3_rcbuf *name,
                     nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream_user)
{
    struct h3_answer *answer = h3_client_answer(user, id);
    nghttp3_vec bytes = nghttp3_rcbuf_get_buf(value);
    (void)session, (void)name, (void)flags, (void)stream_user;
    if (token == NGHTTP3_QPACK_TOKEN__STATUS) {
        unsigned status = 0;
        for (size_t i = 0; i < bytes.len; i++) {
            status = status * 10 + (unsigned)(bytes.base[i] - '0');
        }
        answer->informational += status < 200;
        answer->status = status;
    }
    return 0;
}

static int on_trailer(nghttp3_conn *session, int64_t id, int32_t token, nghttp3_rcbuf *name,
                      nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream_user)
{
    (void)session, (void)token, (void)name, (void)value, (void)flags, (void)stream_user;
    h3_client_answer(user, id)->trailers++;
    return 0;
}

static int on_data(nghttp3_conn *session, int64_t id, const uint8_t *data, size_t length,
                   void *user, void *stream_user)
{
    (void)session, (void)data, (void)stream_user;
    h3_client_answer(user, id)->body += length;
    return 0;
}

static int on_end(nghttp3_conn *session, int64_t id, void *user, void *stream_user)
{
    (void)session, (void)stream_user;
    h3_client_answer(user, id)->ended = true;
    return 0;
}

static int on_shutdown(nghttp3_conn *session, int64_t id, void *user)
{
    struct h3_client *client = user;
    (void)session;
    client->goaway = id;
    return 0;
}

static const nghttp3_callbacks callbacks = {.recv_header = on_header,
                                            .recv_trailer = on_trailer,
                                            .recv_data = on_data,
                                            .end_stream = on_end,
                                            .shutdown = on_shutdown};

/* --- life ---------------------------------------------------------------------------------------- */

void h3_client_init(struct h3_client *client, struct h3_driver *driver)
{
    nghttp3_settings settings;
    *client = (struct h3_client){.driver = driver, .goaway = -1};
    nghttp3_settings_default(&settings);
    settings.qpack_max_dtable_capacity = 4096;
    settings.qpack_blocked_streams = 16;
    REQUIRE(nghttp3_conn_client_new(&client->session, &callbacks, &settings, NULL, client) == 0);
    REQUIRE(nghttp3_conn_bind_control_stream(client->session, 2) == 0);
    REQUIRE(nghttp3_conn_bind_qpack_streams(client->session, 6, 10) == 0);
}

void h3_client_done(struct h3_client *client)
{
    client->driver->each_turn = NULL;
    nghttp3_conn_del(client->session);
}

/* --- requests ------------------------------------------------------------------------------------ */

static nghttp3_ssize read_content(nghttp3_conn *session, int64_t id, nghttp3_vec *pieces,
                                  size_t most, uint32_t *flags, void *user, void *stream_user)
{
    struct h3_client *client = user;
    struct h3_answer *answer = h3_client_answer(client, id);
    const struct fake_stream *stream = fake_quic_stream(&client->driver->quic, id);
    (void)session, (void)most, (void)stream_user;
    size_t part = answer->to_send < sizeof content ? answer->to_send : sizeof content;
    size_t lies = (size_t)(stream->received - stream->consumed);
    /* Its window, but for what framing takes. */
    size_t window = (size_t)client->driver->h3.stream_window;
    size_t room = lies + 16 < window ? window - lies - 16 : 0;
    part = part < room ? part : room;
    if (part == 0 && answer->to_send > 0) {
        return NGHTTP3_ERR_WOULDBLOCK;
    }
    if (answer->to_send != SIZE_MAX) {
        answer->to_send -= part;
    }
    if (answer->to_send == 0) {
        *flags |= NGHTTP3_DATA_FLAG_EOF;
    }
    pieces[0] = (nghttp3_vec){(uint8_t *)(uintptr_t)content, part};
    return part > 0;
}

static nghttp3_nv pair(const char *name, struct slice value)
{
    return (nghttp3_nv){(const uint8_t *)name, (const uint8_t *)value.data, strlen(name),
                        value.length, NGHTTP3_NV_FLAG_NONE};
}

int64_t h3_client_ask(struct h3_client *client, const char *method, const char *path,
                      const struct field *fields, size_t count, size_t body)
{
    static const nghttp3_data_reader reader = {.read_data = read_content};
    nghttp3_nv pairs[300] = {pair(":method", slice_from(method)), pair(":scheme", SLICE("https")),
                             pair(":authority", SLICE("example.org")),
                             pair(":path", slice_from(path)), pair("te", SLICE("trailers"))};
    int64_t id = client->next_id;
    client->next_id += 4;
    REQUIRE(count + 5 <= 300);
    for (size_t i = 0; i < count; i++) {
        pairs[5 + i] = (nghttp3_nv){(const uint8_t *)fields[i].name.data,
                                    (const uint8_t *)fields[i].value.data, fields[i].name.length,
                                    fields[i].value.length, NGHTTP3_NV_FLAG_NONE};
    }
    h3_client_answer(client, id)->to_send = body;
    REQUIRE(nghttp3_conn_submit_request(client->session, id, pairs, 5 + count,
                                        body > 0 ? &reader : NULL, NULL) == 0);
    return id;
}

int64_t h3_client_request(struct h3_client *client, const char *method, const char *path,
                          size_t body)
{
    return h3_client_ask(client, method, path, NULL, 0, body);
}

/* --- bytes --------------------------------------------------------------------------------------- */

/* Gives the client what the codec has said since. True: something. */
static bool listen_once(struct h3_client *client)
{
    struct quic_conn *quic = &client->driver->quic;
    bool any = false;
    for (size_t i = 0; i < FAKE_STREAMS && !client->bad; i++) {
        struct fake_stream *stream = &quic->streams[i];
        if (stream->out.failed) { /* the test's own memory is out: it has lost bytes */
            client->bad = true;
            break;
        }
        size_t more = stream->out.length - client->delivered[i];
        bool end_told =
            stream->id >= 0 && (stream->id & 3) == 0 && h3_client_answer(client, stream->id)->ended;
        if (stream->id < 0 || (more == 0 && (!stream->out_end || end_told))) {
            continue;
        }
        any = true;
        const uint8_t *data = (const uint8_t *)stream->out.data + client->delivered[i];
        client->delivered[i] = stream->out.length;
        if (nghttp3_conn_read_stream2(client->session, stream->id, more > 0 ? data : NULL, more,
                                      stream->out_end, 1) < 0) {
            client->bad = true;
        }
    }
    return any;
}

/* Gives the codec what the client says. True: something. */
static bool speak_once(struct h3_client *client)
{
    struct quic_conn *quic = &client->driver->quic;
    nghttp3_vec pieces[8];
    int64_t id = -1;
    int end = 0;
    nghttp3_ssize count =
        client->bad ? -1 : nghttp3_conn_writev_stream(client->session, &id, &end, pieces, 8);
    if (count < 0 || id < 0) {
        return false;
    }
    struct strbuf bytes;
    strbuf_init(&bytes);
    for (nghttp3_ssize i = 0; i < count; i++) {
        strbuf_append(&bytes, pieces[i].base, pieces[i].len);
    }
    if (bytes.failed) {
        client->bad = true;
        strbuf_done(&bytes);
        return false;
    }
    REQUIRE(nghttp3_conn_add_write_offset(client->session, id, bytes.length) == 0);
    fake_quic_receive(quic, id, bytes.data, bytes.length, end != 0);
    REQUIRE(nghttp3_conn_add_ack_offset(client->session, id, bytes.length) == 0);
    strbuf_done(&bytes);
    return true;
}

static void each_turn(struct h3_driver *driver)
{
    struct h3_client *client = driver->context;
    bool any = listen_once(client);
    for (int64_t id = 0; id < client->next_id; id += 4) {
        struct fake_stream *stream = fake_quic_stream(&driver->quic, id);
        if (stream->stopped || stream->closed) {
            nghttp3_conn_shutdown_stream_write(client->session, id);
        } else {
            REQUIRE(nghttp3_conn_resume_stream(client->session, id) == 0);
        }
    }
    for (int i = 0; i < 100 && speak_once(client); i++) {
        any = true;
    }
    if (any && driver->turns_left < 5) {
        driver->turns_left += 5;
    }
}

void h3_client_run(struct h3_client *client)
{
    client->driver->each_turn = each_turn;
    client->driver->context = client;
    h3_driver_run(client->driver, 8);
}
