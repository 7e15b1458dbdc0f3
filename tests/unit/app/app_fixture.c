/* SPDX-License-Identifier: MIT */
/* Loops, apps and the scripts' clients. It owns the loops, the socket's directory and what a client has got. */
#include "app_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "app/forward.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"

/* --- the clients' codec ------------------------------------------------------------------------------------------------ */

static struct app_client *client_of(struct exchange *exchange)
{
    return LIST_CONTAINER(exchange->conn, struct app_client, conn);
}

static void client_end(struct app_client *client, enum end_reason reason)
{
    struct app_fixture *fixture = client->fixture;
    struct exchange *exchange = client->exchange;
    client->exchange = NULL;
    client->retries = exchange->retries;
    client->reason = exchange->end_reason == END_NONE ? reason : exchange->end_reason;
    exchange_client_detach(exchange, reason);
    app_loop_conn_closed(&fixture->apps->app_loops[client->loop], &client->conn);
    conn_done(&client->conn);
    pthread_mutex_lock(&fixture->lock);
    for (size_t i = 0; i < fixture->client_count; i++) {
        if (fixture->clients[i] == client) {
            fixture->clients[i] = fixture->clients[--fixture->client_count];
        }
    }
    pthread_mutex_unlock(&fixture->lock);
}

static enum error send_head(struct exchange *exchange, const struct response_head *head, bool end)
{
    struct app_client *client = client_of(exchange);
    (void)end;
    if (head->status < 200) {
        client->infos++;
    } else {
        REQUIRE(client->status == 0);
        client->status = head->status;
    }
    return ERROR_NONE;
}

static void resume_body(struct exchange *exchange)
{
    (void)exchange;
}

static void consumed(struct exchange *exchange, size_t length)
{
    (void)exchange;
    (void)length;
}

static bool on_take_back(struct exchange *exchange)
{
    (void)exchange;
    return false;
}

static void on_abort(struct exchange *exchange, enum end_reason reason)
{
    struct app_client *client = client_of(exchange);
    client->aborted = true;
    client_end(client, reason);
}

static void destroy(struct conn *conn)
{
    client_end(LIST_CONTAINER(conn, struct app_client, conn), END_SHUTDOWN);
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
    .destroy = destroy,
};

/* Takes what there is, in the loop's thread but outside its callbacks. */
void app_client_take(struct app_client *client)
{
    static _Thread_local char piece[65536];
    struct exchange *exchange = client->exchange;
    size_t length = byteq_copy_out(&exchange->response_body, piece, sizeof piece);
    if (length > 0) {
        strbuf_append(&client->body, piece, length);
        exchange_response_sent(exchange, length);
    }
    if (exchange->response_state == RESPONSE_ENDED && exchange->response_body.size == 0) {
        exchange_response_finished(exchange);
        client->complete = true;
        client_end(client, END_COMPLETE);
    }
}

void app_client_init(struct app_fixture *fixture, struct app_client *client, unsigned loop)
{
    *client = (struct app_client){.fixture = fixture, .loop = loop};
}

bool app_client_begin(struct app_client *client, const char *method, int64_t length)
{
    struct app_fixture *fixture = client->fixture;
    struct conn_identity identity = {.client_host = SLICE("192.0.2.7"),
                                     .client_port = 4711,
                                     .server_host = SLICE("127.0.0.1"),
                                     .server_port = 80};
    if (client->tls) {
        identity.secure = true;
        identity.client_chain_pem = SLICE("-----END CERTIFICATE-----\n");
    }
    conn_init(&client->conn, &fixture->groups[client->loop], &codec, "http/1.1", &identity);
    struct exchange *exchange = exchange_new(&client->conn);
    if (exchange == NULL) {
        conn_done(&client->conn);
        return false;
    }
    client->exchange = exchange;
    pthread_mutex_lock(&fixture->lock);
    REQUIRE(fixture->client_count < sizeof fixture->clients / sizeof fixture->clients[0]);
    fixture->clients[fixture->client_count++] = client;
    pthread_mutex_unlock(&fixture->lock);
    struct request_head *head = &exchange->request;
    head->version = HTTP_1_1;
    head->method = slice_from(method);
    head->scheme = SLICE("http");
    head->authority = SLICE("example.com");
    head->target = head->raw_path = head->path = SLICE("/a");
    client->fields[0] = (struct field){SLICE("host"), SLICE("example.com")};
    head->fields = client->fields;
    head->field_count = 1;
    head->content_length = length;
    head->has_body = length > 0;
    exchange_request_head(exchange);
    return true;
}

size_t app_client_body(struct app_client *client, size_t length, bool end)
{
    static const char bytes[65536] = "body";
    size_t room = exchange_request_room(client->exchange);
    length = length < room ? length : room;
    length = length < sizeof bytes ? length : sizeof bytes;
    if (length > 0 && exchange_request_body(client->exchange, bytes, length) != ERROR_NONE) {
        return 0;
    }
    if (end && client->exchange != NULL) {
        exchange_request_ended(client->exchange);
    }
    return length;
}

void app_client_go(struct app_client *client)
{
    client_end(client, END_CLIENT_GONE);
}

/* --- turns --------------------------------------------------------------------------------------------------------------- */

struct stopper {
    struct loop_resume resume;
    struct loop *loop;
};

static void stop_loop(struct loop_resume *resume)
{
    loop_stop(LIST_CONTAINER(resume, struct stopper, resume)->loop);
}

static void loop_turn(struct loop *loop)
{
    struct stopper stopper = {.loop = loop};
    loop_resume_init(&stopper.resume, stop_loop);
    loop_resume_later(loop, &stopper.resume);
    REQUIRE(loop_run(loop) == ERROR_NONE);
}

static void take_all(struct app_fixture *fixture)
{
    for (size_t i = fixture->client_count; i > 0; i--) {
        if (i <= fixture->client_count && !fixture->clients[i - 1]->slow) {
            app_client_take(fixture->clients[i - 1]);
        }
    }
}

void app_fixture_turns(struct app_fixture *fixture, unsigned turns)
{
    if (fixture->threaded) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        return;
    }
    for (unsigned i = 0; i < turns; i++) {
        for (unsigned k = 0; k < fixture->loop_count; k++) {
            loop_turn(fixture->loops[k]);
        }
        take_all(fixture);
    }
}

bool app_fixture_until(struct app_fixture *fixture, bool (*holds)(void))
{
    uint64_t deadline = clock_now() + 10 * CLOCK_NS_PER_S;
    bool held; /* asked once a turn: it may take frames */
    while (!(held = holds()) && clock_now() < deadline) {
        app_fixture_turns(fixture, 1);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    return held;
}

/* --- life ---------------------------------------------------------------------------------------------------------------- */

static void make_listener(struct app_fixture *fixture)
{
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/gatewayd-app.XXXXXX");
    REQUIRE(mkdtemp(fixture->directory) != NULL);
    snprintf(fixture->path, sizeof fixture->path, "%s/app.sock", fixture->directory);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", fixture->path);
    fixture->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    REQUIRE(fixture->listener >= 0);
    REQUIRE(bind(fixture->listener, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(fixture->listener, 64) == 0);
}

void app_fixture_init(struct app_fixture *fixture, unsigned loops)
{
    REQUIRE(metrics_register_thread() == ERROR_NONE); /* its memory stays */
    *fixture = (struct app_fixture){.loop_count = loops, .live = mem_live()};
    fixture->app = (struct app_settings){.name = SLICE("shop"),
                                         .socket = SLICE("/run/shop.sock"),
                                         .queue_max = 100,
                                         .queue_timeout = 60 * CLOCK_NS_PER_S,
                                         .pause_timeout = 60 * CLOCK_NS_PER_S,
                                         .min_ready = 1,
                                         .promote_auto = true,
                                         .retry = APP_RETRY_SAFE};
    fixture->ipc = (struct ipc_settings){.max_frame = 65536,
                                         .window = 65536,
                                         .ws_max_message = 1 << 20,
                                         .max_links = 64,
                                         .link_queue = 262144,
                                         .hello_timeout = 60 * CLOCK_NS_PER_S,
                                         .start_timeout = 60 * CLOCK_NS_PER_S,
                                         .ping_interval = 60 * CLOCK_NS_PER_S,
                                         .unresponsive_after = 60 * CLOCK_NS_PER_S,
                                         .death_wait = 10 * CLOCK_NS_PER_S};
    fixture->http =
        (struct http_settings){.body_size_max = 1 << 30, .window = 65536, .retry_after = 1};
    pthread_mutex_init(&fixture->lock, NULL);
    make_listener(fixture);
}

bool app_fixture_start(struct app_fixture *fixture)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64,
                                                       .turn_time_us = 1000000};
    for (unsigned i = 0; i < fixture->loop_count; i++) {
        fixture->loops[i] = loop_new(i, &loop_settings);
        REQUIRE(fixture->loops[i] != NULL);
    }
    fixture->settings = (struct apps_settings){
        .apps = &fixture->app,
        .sockets = &fixture->listener,
        .app_count = 1,
        .router = {&fixture->route, fixture->route.path.length > 0, 0},
        .ipc = &fixture->ipc,
        .http = &fixture->http,
    };
    fixture->apps = apps_new(&fixture->settings, fixture->loops, fixture->loop_count);
    if (fixture->apps == NULL) {
        return false;
    }
    for (unsigned i = 0; i < fixture->loop_count; i++) {
        conn_group_init(&fixture->groups[i], fixture->loops[i], &fixture->http, &app_handler,
                        &fixture->apps->app_loops[i]);
    }
    return apps_start(fixture->apps) == ERROR_NONE;
}

static void check_nothing_lives(const struct app_fixture *fixture)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        enum metric metric = (enum metric)i;
        if (metrics_kind(metric) == METRIC_KIND_LIVE && metrics_sum(metric) != 0) {
            printf("# %s is %lld\n", metrics_name(metric), (long long)metrics_sum(metric));
            REQUIRE(!"a gauge of live objects is not zero");
        }
    }
    REQUIRE(metrics_sum(METRIC_workers_ready) == 0);
    REQUIRE(fixture->live == 0 || mem_live() == fixture->live);
}

void app_fixture_done(struct app_fixture *fixture)
{
    mem_fail_nth(0, 0);
    /* The order of server.c: clients, then apps twice with turns between. */
    while (fixture->client_count > 0) {
        client_end(fixture->clients[0], END_SHUTDOWN);
    }
    for (int round = 0; round < 2 && fixture->apps != NULL; round++) {
        for (unsigned i = 0; i < fixture->loop_count; i++) {
            apps_stop_loop(fixture->apps, i);
        }
        app_fixture_turns(fixture, 3);
    }
    apps_free(fixture->apps);
    for (unsigned i = 0; i < fixture->loop_count; i++) {
        loop_free(fixture->loops[i]);
    }
    pthread_mutex_destroy(&fixture->lock);
    close(fixture->listener);
    unlink(fixture->path);
    rmdir(fixture->directory);
    check_nothing_lives(fixture);
}
