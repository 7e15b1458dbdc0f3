/* SPDX-License-Identifier: MIT */
/* A connection as a whole, against the library's own client: what is answered, what is bounded, and that nothing is left behind. */
#include "base/metrics.h"
#include "check.h"
#include "unit/h2/h2_client.h"

static struct h2_driver driver;
static struct h2_client client;
static uint64_t live;

static void begin(void)
{
    REQUIRE(metrics_register_thread() == ERROR_NONE); /* its memory stays */
    live = mem_live();
    driver_init(&driver);
}

static void connect_client(void)
{
    REQUIRE(driver_connect(&driver));
    h2_client_init(&client, &driver);
    h2_client_run(&client);
}

static void end(void)
{
    h2_client_done(&client);
    driver_done(&driver);
    CHECK(!client.bad);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 0);
    CHECK_EQ_INT(mem_live(), live);
}

static struct h2_answer *ask(const char *method, const char *path, size_t body)
{
    int32_t id = h2_client_request(&client, method, path, body);
    h2_client_run(&client);
    return &client.answers[id];
}

TEST(requests_are_answered)
{
    begin();
    connect_client();
    for (int i = 0; i < 5; i++) {
        struct h2_answer *answer = ask("GET", "/now", 0);
        CHECK_EQ_INT(answer->status, 200);
        CHECK_EQ_INT(answer->body, 5);
        CHECK(answer->closed);
        CHECK_EQ_INT(answer->code, NGHTTP2_NO_ERROR);
    }
    CHECK_EQ_INT(ask("HEAD", "/now", 0)->body, 0);
    CHECK_EQ_INT(ask("GET", "/fail", 0)->status, 502);
    struct h2_answer *hinted = ask("GET", "/hint", 0);
    CHECK_EQ_INT(hinted->informational, 1);
    CHECK_EQ_INT(ask("GET", "/trailers", 0)->trailers, 1);
    CHECK_EQ_INT(driver.heads, 9);
    end();
}

TEST(bodies_go_both_ways)
{
    begin();
    connect_client();
    CHECK_EQ_INT(ask("POST", "/stream", 300000)->body, 300003);
    CHECK_EQ_INT(ask("POST", "/echo", 70000)->body, 3);
    CHECK_EQ_INT(ask("GET", "/big", 0)->body, DRIVER_BIG);
    CHECK_EQ_INT(driver.released >= DRIVER_BIG, 1);
    end();
}

TEST(small_pieces_change_nothing)
{
    begin();
    driver.wire.read_most = 1;
    driver.wire.write_most = 7;
    connect_client();
    CHECK_EQ_INT(ask("POST", "/stream", 3000)->body, 3003);
    struct h2_answer *answer = ask("GET", "/trailers", 0);
    CHECK_EQ_INT(answer->trailers, 1);
    CHECK_EQ_INT(answer->code, NGHTTP2_NO_ERROR);
    end();
}

TEST(an_early_answer_ends_the_request)
{
    begin();
    connect_client();
    struct h2_answer *answer = ask("POST", "/early", SIZE_MAX);
    CHECK_EQ_INT(answer->status, 403);
    CHECK_EQ_INT(answer->body, 5);
    CHECK(answer->closed);
    CHECK_EQ_INT(answer->code, NGHTTP2_NO_ERROR);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    end();
}

TEST(a_cut_response_is_reset)
{
    begin();
    connect_client();
    struct h2_answer *answer = ask("GET", "/cut", 0);
    CHECK(answer->closed);
    CHECK_EQ_INT(answer->code, NGHTTP2_INTERNAL_ERROR);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    end();
}

TEST(a_reset_reaches_the_handler)
{
    begin();
    connect_client();
    int32_t id = h2_client_request(&client, "GET", "/never", 0);
    h2_client_run(&client);
    CHECK_EQ_INT(driver.gone, 0);
    REQUIRE(nghttp2_submit_rst_stream(client.session, 0, id, NGHTTP2_CANCEL) == 0);
    h2_client_run(&client);
    CHECK_EQ_INT(driver.gone, 1);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    end();
}

TEST(the_clients_end_reaches_every_handler)
{
    begin();
    connect_client();
    for (int i = 0; i < 3; i++) {
        (void)ask("GET", "/never", 0);
    }
    driver.wire.ended = true;
    driver_run(&driver, 3);
    CHECK_EQ_INT(driver.gone, 3);
    CHECK_EQ_INT(driver.closed, 1);
    CHECK(driver.wire.closed);
    end();
}

TEST(a_full_socket_bounds_what_is_pulled)
{
    begin();
    connect_client();
    driver.wire.write_most = 0;
    int32_t ids[4];
    for (int i = 0; i < 4; i++) {
        ids[i] = h2_client_request(&client, "GET", "/big", 0);
    }
    REQUIRE(nghttp2_session_set_local_window_size(client.session, 0, 0, 1 << 24) == 0);
    h2_client_run(&client);
    /* A window of each, and nothing has left. */
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 4 * DRIVER_WINDOW);
    CHECK_EQ_INT(driver.released, 0);
    driver.wire.write_most = 10000;
    h2_client_run(&client);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ_INT(client.answers[ids[i]].body, DRIVER_BIG);
    }
    end();
}

TEST(a_reset_while_its_bytes_wait_for_the_socket)
{
    begin();
    connect_client();
    driver.wire.write_most = 0;
    int32_t id = h2_client_request(&client, "GET", "/big", 0);
    h2_client_run(&client);
    REQUIRE(nghttp2_submit_rst_stream(client.session, 0, id, NGHTTP2_CANCEL) == 0);
    h2_client_run(&client);
    CHECK_EQ_INT(driver.gone, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 0);
    driver.wire.write_most = SIZE_MAX; /* the frames that were begun are finished */
    h2_client_run(&client);
    CHECK_EQ_INT(ask("GET", "/now", 0)->body, 5);
    end();
}

TEST(new_streams_are_refused_when_memory_is_used_up)
{
    begin();
    connect_client();
    conn_group_set_pressure(&driver.group, PRESSURE_REFUSE);
    for (int i = 0; i < 20; i++) {
        struct h2_answer *answer = ask("POST", "/now", 5000);
        CHECK_EQ_INT(answer->status, 0);
        CHECK_EQ_INT(answer->code, NGHTTP2_REFUSED_STREAM);
    }
    conn_group_set_pressure(&driver.group, PRESSURE_NONE);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    CHECK_EQ_INT(driver.heads, 1);
    end();
}

/* What a client has given up counts until its worker is done. */
TEST(an_unconfirmed_exchange_takes_a_stream)
{
    begin();
    driver.h2.max_concurrent_streams = 1;
    driver.leave_unconfirmed = true;
    connect_client();
    int32_t id = h2_client_request(&client, "GET", "/never", 0);
    h2_client_run(&client);
    REQUIRE(nghttp2_submit_rst_stream(client.session, 0, id, NGHTTP2_CANCEL) == 0);
    h2_client_run(&client);
    CHECK_EQ_INT(driver.gone, 1);
    CHECK_EQ_INT(ask("GET", "/now", 0)->code, NGHTTP2_REFUSED_STREAM);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 1);
    exchange_worker_confirmed(driver.unconfirmed);
    driver_run(&driver, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    end();
}

TEST(an_unconfirmed_exchange_outlives_its_connection)
{
    begin();
    driver.leave_unconfirmed = true;
    connect_client();
    (void)ask("GET", "/never", 0);
    driver.wire.reset = true;
    driver_run(&driver, 3);
    CHECK_EQ_INT(driver.closed, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 1);
    exchange_worker_confirmed(driver.unconfirmed);
    driver_run(&driver, 2);
    end();
}

TEST(drain_lets_requests_finish)
{
    begin();
    connect_client();
    int32_t id = h2_client_request(&client, "POST", "/echo", SIZE_MAX);
    h2_client_run(&client);
    conn_group_drain(&driver.group, true);
    h2_client_run(&client);
    CHECK_EQ_INT(client.goaways, 2);
    CHECK_EQ_INT(client.goaway_last, id);
    CHECK_EQ_INT(driver.closed, 0);
    client.body_left = 10;
    REQUIRE(nghttp2_session_resume_data(client.session, id) == 0);
    h2_client_run(&client);
    CHECK_EQ_INT(client.answers[id].body, 3);
    CHECK(driver.wire.shut);
    driver.wire.ended = true;
    driver_run(&driver, 3);
    CHECK_EQ_INT(driver.closed, 1);
    end();
}

TEST(an_idle_connection_is_drained_at_once)
{
    begin();
    connect_client();
    (void)ask("GET", "/now", 0);
    conn_group_drain(&driver.group, true);
    h2_client_run(&client);
    CHECK_EQ_INT(client.goaways, 1);
    CHECK_EQ_INT(client.goaway_code, NGHTTP2_NO_ERROR);
    CHECK(driver.wire.shut);
    end();
}

TEST(a_connection_is_destroyed_in_the_middle)
{
    static const char *const paths[] = {"/never", "/big", "/stream", "/echo", "/now"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        begin();
        connect_client();
        driver.wire.write_most = 0;
        (void)ask("POST", paths[i], 30000);
        conn_group_destroy_all(&driver.group);
        CHECK_EQ_INT(driver.closed, 1);
        end();
    }
}

TEST(dump_says_what_is_under_way)
{
    struct strbuf text;
    begin();
    connect_client();
    (void)ask("GET", "/never", 0);
    strbuf_init(&text);
    struct conn *conn = conn_list_first(&driver.group.conns);
    conn->ops->dump(conn, &text);
    CHECK(strstr(strbuf_text(&text), "phase=OPEN requests=1 streams=1") != NULL);
    strbuf_done(&text);
    end();
}

/* Everything that can be out of memory is, one allocation after the other: once, and from then on. */
static bool survives(uint64_t n, int from_then_on)
{
    static const char *const paths[] = {"/now", "/stream", "/trailers", "/big", "/early", "/hint"};
    uint64_t made;
    begin();
    h2_client_init(&client, &driver);
    client.taken = 0;
    made = mem_made();
    mem_fail_nth(n, from_then_on);
    if (driver_connect(&driver)) {
        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
            (void)h2_client_request(&client, "POST", paths[i], 3000);
            h2_client_run(&client);
        }
    }
    mem_fail_nth(0, 0);
    made = mem_made() - made;
    client.bad = false; /* a connection that is out of memory may end anywhere */
    end();
    return made < n;
}

TEST(every_allocation_may_fail_once)
{
    uint64_t n = 1;
    while (!survives(n, 0)) {
        n++;
        REQUIRE(n < 3000);
    }
    printf("# %d allocations\n", (int)n);
    CHECK(n > 50);
}

TEST(every_allocation_may_fail_from_then_on)
{
    for (uint64_t n = 1; n < 160; n++) {
        (void)survives(n, 1);
    }
}

CHECK_MAIN
