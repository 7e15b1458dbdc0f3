/* SPDX-License-Identifier: MIT */
/* The ordinary life of a channel: handshake, requests and responses in batches, bodies both ways, ends of streams, GOAWAY. */
#include "check.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/metrics.h"
#include "ipc/channel_state.h"
#include "ipc/map_rules.h"
#include "script.h"

static struct script s;

static void start(void)
{
    struct ipc_settings settings = script_settings();

    CHECK(script_start(&s, &settings));
    script_ready(&s);
    CHECK_EQ_INT(s.ready, 1);
}

static struct frame stream_frame(unsigned type, uint32_t id, unsigned flags, unsigned code)
{
    return (struct frame){
        .type = (uint8_t)type, .stream = id, .flags = (uint8_t)flags, .code = (uint16_t)code};
}

#define END FRAME_FLAG_END_STREAM
#define DONE FRAME_FLAG_DONE

TEST(hello_ack_carries_the_settings_and_the_page)
{
    struct ipc_settings settings = script_settings();
    struct arena arena;
    struct pack_value map;
    const char *text;
    struct stat status;

    CHECK(script_start(&s, &settings));
    CHECK(!channel_can_open(s.channel));
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_HELLO_ACK);
    arena_init(&arena, 4096);
    CHECK_EQ_INT(map_decode(MAP_HELLO_ACK, &arena, frame.payload, &map, &text), ERROR_NONE);
    CHECK_EQ_INT(map_value(&map, "window")->number, settings.window);
    CHECK_EQ_INT(map_value(&map, "ping_interval")->number, 60000);
    CHECK_EQ_INT(map_value(&map, "server_cert")->type, PACK_NIL);
    arena_done(&arena);
    CHECK(s.page_fd >= 0);
    CHECK_EQ_INT(fstat(s.page_fd, &status), 0);
    CHECK_EQ_INT(status.st_size, FRAME_PAGE_SIZE);
    CHECK(ftruncate(s.page_fd, 0) != 0); /* sealed */
    script_say(&s, (struct frame){.type = FRAME_READY}, NULL, 0);
    CHECK(channel_can_open(s.channel));
    CHECK(channel_is_ready(s.channel));
    CHECK(script_end(&s));
}

TEST(a_request_and_its_response)
{
    struct script_user user = {0};

    start();
    CHECK(script_open(&s, &user, "", true, false));
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_REQUEST);
    CHECK_EQ_INT(frame.stream, 1);
    CHECK_EQ_INT(frame.flags, END);
    CHECK_EQ_INT(frame.aux, 0);
    CHECK_EQ_INT(frame.length, 2);
    /* one frame each way: head, body, end and DONE in one */
    struct frame response = stream_frame(FRAME_RESPONSE, 1, END | DONE, 200);
    response.aux = 3;
    script_say(&s, response, "\x91\xc4\0hello", 8);
    CHECK_EQ_INT(user.heads, 1);
    CHECK_EQ_INT(user.status, 200);
    CHECK_EQ_INT(user.bytes, 5);
    CHECK(user.end);
    CHECK_EQ_INT(user.gones, 1);
    CHECK_EQ_INT(user.gone.end, CHANNEL_END_DONE);
    CHECK_EQ_INT(s.slots_freed, 1);
    CHECK_EQ_INT(channel_counts(s.channel).open, 0);
    CHECK_EQ_INT(script_take(&s).type, 0); /* no WINDOW for a side that has ended */
    CHECK(script_end(&s));
}

TEST(a_thousand_requests_cost_one_write)
{
    static struct script_user users[1000];
    memset(users, 0, sizeof(users));

    start();
    int64_t writes = metrics_sum(METRIC_ipc_writes);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK(script_open(&s, &users[i], "", true, false));
    }
    script_turns(&s, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_writes) - writes, 1);
    script_read(&s);
    CHECK_EQ_INT(s.count - s.next, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQ_INT(script_take(&s).stream, i + 1);
    }
    /* and their responses one read */
    struct strbuf out;
    strbuf_init(&out);
    for (unsigned i = 0; i < 1000; i++) {
        struct frame frame = stream_frame(FRAME_RESPONSE, i + 1, END | DONE, 204);
        uint8_t header[FRAME_HEADER_SIZE];
        frame.length = 3;
        frame_encode(header, &frame);
        strbuf_append(&out, header, sizeof(header));
        strbuf_append(&out, "\x91\xc4", 3);
    }
    int64_t reads = metrics_sum(METRIC_ipc_reads);
    script_write(&s, out.data, out.length);
    script_turns(&s, 1);
    strbuf_done(&out);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_reads) - reads, 1);
    CHECK_EQ_INT(s.slots_freed, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQ_INT(users[i].status, 204);
        CHECK_EQ_INT(users[i].gones, 1);
    }
    CHECK(script_end(&s));
}

TEST(a_body_goes_out_in_slices_within_credit)
{
    struct script_user user = {.to_send = 200000, .send_end = true};
    uint64_t bytes = 0;
    uint32_t credit = 65536;

    start();
    CHECK(script_open(&s, &user, "abc", false, false));
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.aux, 2); /* the head's length: body bytes follow */
    CHECK_EQ_INT(frame.length, 5);
    credit -= 16 + 3;
    channel_stream_want_send(user.stream);
    for (bool end = false; !end;) {
        frame = script_take(&s);
        if (frame.type == 0) { /* it has used its credit up to the last byte that fits */
            CHECK(credit < 17);
            script_say(&s, (struct frame){.type = FRAME_WINDOW, .stream = 1, .aux = 65536 - credit},
                       NULL, 0);
            credit = 65536;
            continue;
        }
        CHECK_EQ_INT(frame.type, FRAME_DATA);
        CHECK(frame.length <= 16384);
        CHECK(frame.length + 16 <= credit);
        credit -= frame.length + 16;
        bytes += frame.length;
        end = (frame.flags & END) != 0;
    }
    CHECK_EQ_INT(bytes, 200000);
    CHECK(user.credits > 0);
    CHECK_EQ_INT(channel_stream_credit(user.stream), 0); /* its side has ended */
    CHECK(script_end(&s));
    CHECK_EQ_INT(user.gone.end, CHANNEL_END_LOST);
    CHECK_EQ_INT(user.gone.fate, CHANNEL_FATE_STARTED); /* the worker had spoken */
}

TEST(streams_share_a_link_in_turn)
{
    struct script_user users[3] = {{.to_send = 40000, .send_end = true},
                                   {.to_send = 40000, .send_end = true},
                                   {.to_send = 10, .send_end = true}};
    uint32_t order[16];
    size_t count = 0;
    struct frame frame;

    start();
    for (int i = 0; i < 3; i++) {
        CHECK(script_open(&s, &users[i], "", false, false));
        channel_stream_want_send(users[i].stream);
        channel_stream_want_send(users[i].stream); /* idempotent */
    }
    while ((frame = script_take(&s)).type != 0) {
        if (frame.type == FRAME_DATA) {
            CHECK(count < 16);
            order[count++] = frame.stream;
        }
    }
    const uint32_t expected[] = {1, 2, 3, 1, 2, 1, 2};
    CHECK_EQ_INT(count, 7);
    CHECK_EQ_MEM(order, expected, sizeof(expected));
    CHECK(script_end(&s));
}

TEST(an_end_alone_needs_only_the_overhead)
{
    struct script_user user = {.to_send = 65536 - 32, .send_end = false};

    start();
    CHECK(script_open(&s, &user, "", false, false));
    channel_stream_want_send(user.stream);
    while (script_take(&s).type != 0) {
    }
    /* four frames of overhead: 65536 - 4 * 16 bytes could go, not all that it had */
    CHECK_EQ_INT(channel_stream_credit(user.stream), 0);
    CHECK_EQ_INT(user.to_send, 32);
    user.to_send = 0;
    user.send_end = true;
    channel_stream_want_send(user.stream);
    CHECK_EQ_INT(script_take(&s).type, 0);
    script_say(&s, (struct frame){.type = FRAME_WINDOW, .stream = 1, .aux = 16}, NULL, 0);
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_DATA);
    CHECK_EQ_INT(frame.length, 0);
    CHECK_EQ_INT(frame.flags, END);
    CHECK(script_end(&s));
}

TEST(expect_starts_without_credit)
{
    struct script_user user = {.to_send = 100, .send_end = true};

    start();
    CHECK(script_open(&s, &user, "", false, true));
    CHECK_EQ_INT(script_take(&s).flags, FRAME_FLAG_EXPECT);
    CHECK_EQ_INT(channel_stream_credit(user.stream), 0);
    channel_stream_want_send(user.stream);
    CHECK_EQ_INT(script_take(&s).type, 0);
    CHECK_EQ_INT(user.credits, 0);
    script_say(&s, (struct frame){.type = FRAME_WINDOW, .stream = 1, .aux = 65536}, NULL, 0);
    CHECK_EQ_INT(user.credits, 1);
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_DATA);
    CHECK_EQ_INT(frame.length, 100);
    CHECK(script_end(&s));
}

TEST(credit_comes_back_as_the_response_is_released)
{
    struct script_user user = {.hold = true};
    static char bytes[65536];

    start();
    CHECK(script_open(&s, &user, "", true, false));
    (void)script_take(&s);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, 0, 200), "\x91\xc4", 3);
    script_say(&s, stream_frame(FRAME_DATA, 1, 0, 0), bytes, 30000);
    script_say(&s, stream_frame(FRAME_DATA, 1, 0, 0), bytes, 65536 - 30000 - 32);
    CHECK_EQ_INT(user.bytes, 65536 - 32);
    CHECK_EQ_INT(script_take(&s).type, 0);  /* nothing was released */
    channel_stream_release(user.stream, 1); /* the worker stands at zero: at once (R70) */
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_WINDOW);
    CHECK_EQ_INT(frame.aux, 1);
    channel_stream_release(user.stream, 100); /* it has 1: not enough for a byte */
    uint32_t granted = 1 + script_take(&s).aux;
    CHECK(granted >= 101);
    channel_stream_release(user.stream, 32000);
    CHECK_EQ_INT(script_take(&s).type, 0); /* the next when half a window is gone */
    channel_stream_release(user.stream, 800);
    frame = script_take(&s);
    CHECK(frame.aux >= 32768);
    granted += frame.aux;
    channel_stream_release(user.stream, 65536 - 32 - 32901);
    while ((frame = script_take(&s)).type == FRAME_WINDOW) {
        granted += frame.aux;
    }
    /* all but what is less than half a window, and nothing is lost: the overhead comes back with the bytes */
    CHECK_EQ_INT(user.stream->in.available, granted);
    CHECK_EQ_INT(user.stream->in.available + user.stream->in.consumed, 65536);
    CHECK_EQ_INT(user.stream->in.held, 0);
    CHECK(script_end(&s));
}

TEST(a_detached_stream_lives_until_done)
{
    struct script_user user = {.hold = true};
    static char bytes[65536];

    start();
    CHECK(script_open(&s, &user, "", true, false));
    (void)script_take(&s);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, 0, 200), "\x91\xc4", 3);
    script_say(&s, stream_frame(FRAME_DATA, 1, 0, 0), bytes, 40000);
    channel_stream_detach(user.stream);
    CHECK_EQ_INT(script_take(&s).aux, 40016); /* what it held is given back */
    script_say(&s, stream_frame(FRAME_DATA, 1, 0, 0), bytes, 65520);
    CHECK_EQ_INT(script_take(&s).aux, 65536); /* send() must not hang */
    CHECK_EQ_INT(user.datas, 1);
    CHECK_EQ_INT(s.slots_freed, 0);
    CHECK_EQ_INT(channel_counts(s.channel).open, 1);
    CHECK_EQ_INT(channel_counts(s.channel).attached, 0);
    script_say(&s, stream_frame(FRAME_DATA, 1, END | DONE, 0), NULL, 0);
    CHECK_EQ_INT(s.slots_freed, 1);
    CHECK_EQ_INT(user.gones, 0);
    CHECK(script_end(&s));
}

TEST(informational_heads_then_trailers)
{
    struct script_user user = {0};

    start();
    CHECK(script_open(&s, &user, "", true, false));
    for (unsigned i = 0; i < FRAME_MAX_INFORMATIONAL; i++) {
        script_say(&s, stream_frame(FRAME_RESPONSE, 1, FRAME_FLAG_INFORMATIONAL, 103), "\x91\xc4",
                   3);
    }
    CHECK_EQ_INT(user.heads, 8);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, 0, 200), "\x91\xc4", 3);
    script_say(&s, stream_frame(FRAME_TRAILERS, 1, END | DONE, 0), "\x91\xc4", 3);
    CHECK_EQ_INT(user.heads, 9);
    CHECK_EQ_INT(user.trailers, 1);
    CHECK_EQ_INT(user.gone.end, CHANNEL_END_DONE);
    CHECK(script_end(&s));
}

TEST(ends_that_are_no_success)
{
    struct script_user users[4] = {{0}};

    start();
    for (int i = 0; i < 4; i++) {
        CHECK(script_open(&s, &users[i], "", true, false));
    }
    script_turns(&s, 1);
    script_say(&s, stream_frame(FRAME_RESET, 1, 0, FRAME_ERROR_APP_EXCEPTION), NULL, 0);
    CHECK_EQ_INT(users[0].gone.end, CHANNEL_END_RESET);
    CHECK_EQ_INT(users[0].gone.code, FRAME_ERROR_APP_EXCEPTION);
    CHECK_EQ_INT(s.slots_freed, 0); /* the app has not returned */
    script_say(&s, stream_frame(FRAME_DONE, 1, 0, 0), NULL, 0);
    CHECK_EQ_INT(s.slots_freed, 1);
    script_say(&s, stream_frame(FRAME_REFUSED, 2, 0, FRAME_ERROR_OVERLOADED), NULL, 0);
    CHECK_EQ_INT(users[1].gone.end, CHANNEL_END_REFUSED);
    CHECK_EQ_INT(users[1].gone.code, FRAME_ERROR_OVERLOADED);
    CHECK_EQ_INT(s.slots_freed, 2);
    script_say(&s, stream_frame(FRAME_DONE, 3, 0, 0), NULL, 0);
    CHECK_EQ_INT(users[2].gone.end, CHANNEL_END_RESET);
    CHECK_EQ_INT(users[2].gone.code, FRAME_ERROR_APP_INCOMPLETE);
    script_say(&s, stream_frame(FRAME_RESET, 4, DONE, FRAME_ERROR_APP_INCOMPLETE), NULL, 0);
    CHECK_EQ_INT(users[3].gones, 1);
    CHECK_EQ_INT(s.slots_freed, 4);
    CHECK(script_end(&s));
}

TEST(the_body_alone_is_aborted)
{
    struct script_user user = {.to_send = 1000};

    start();
    CHECK(script_open(&s, &user, "", false, false));
    (void)script_take(&s);
    channel_stream_disconnect(user.stream, FRAME_ERROR_CLIENT_EOF); /* waits for our end (R63) */
    CHECK_EQ_INT(script_take(&s).type, 0);
    channel_stream_abort_body(user.stream);
    channel_stream_abort_body(user.stream);
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_RESET);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_BODY_ABORTED);
    frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_DISCONNECT);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_CLIENT_EOF);
    channel_stream_want_send(user.stream);
    CHECK_EQ_INT(script_take(&s).type, 0);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, END | DONE, 200), "\x91\xc4", 3);
    CHECK_EQ_INT(user.heads, 1);
    CHECK_EQ_INT(user.gone.end, CHANNEL_END_DONE);
    CHECK(script_end(&s));
}

TEST(a_gone_client_ends_the_stream_for_us)
{
    struct script_user user = {.to_send = 1000};
    static char bytes[1000];

    start();
    CHECK(script_open(&s, &user, "", false, false));
    (void)script_take(&s);
    channel_stream_disconnect(user.stream, FRAME_ERROR_CLIENT_GONE);
    channel_stream_disconnect(user.stream, FRAME_ERROR_CLIENT_GONE);
    channel_stream_want_send(user.stream);
    CHECK_EQ_INT(script_take(&s).code, FRAME_ERROR_CLIENT_GONE);
    CHECK_EQ_INT(script_take(&s).type, 0);
    channel_stream_detach(user.stream);
    for (int i = 0; i < 40; i++) { /* R61: no credit back */
        script_say(&s,
                   i == 0 ? stream_frame(FRAME_RESPONSE, 1, 0, 200)
                          : stream_frame(FRAME_DATA, 1, 0, 0),
                   bytes, 1000);
    }
    CHECK_EQ_INT(script_take(&s).type, 0);
    CHECK_EQ_INT(user.heads, 0);
    script_say(&s, stream_frame(FRAME_DONE, 1, 0, 0), NULL, 0);
    CHECK_EQ_INT(s.slots_freed, 1);
    CHECK(s.channel != NULL);
    CHECK(script_end(&s));
}

TEST(a_reset_stream_is_confirmed_by_done)
{
    struct script_user user = {0};

    start();
    CHECK(script_open(&s, &user, "", true, false));
    (void)script_take(&s);
    channel_stream_reset(user.stream, FRAME_ERROR_DEADLINE);
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_RESET);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_DEADLINE);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, END, 200), "\x91\xc4", 3); /* crossed */
    CHECK_EQ_INT(user.heads, 0);
    CHECK_EQ_INT(s.slots_freed, 0);
    script_say(&s, stream_frame(FRAME_DONE, 1, 0, 0), NULL, 0);
    CHECK_EQ_INT(s.slots_freed, 1);
    CHECK_EQ_INT(user.gones, 0);
    /* late frames on the closed id are dropped */
    script_say(&s, stream_frame(FRAME_DATA, 1, END, 0), NULL, 0);
    script_say(&s, (struct frame){.type = FRAME_WINDOW, .stream = 1, .aux = 1}, NULL, 0);
    CHECK(s.channel != NULL);
    CHECK(script_end(&s));
}

TEST(bad_content_costs_one_stream)
{
    struct script_user bad = {.answer = ERROR_PROTOCOL}, big = {0}, hundred = {0}, good = {0};

    start();
    CHECK(script_open(&s, &bad, "", true, false));
    CHECK(script_open(&s, &big, "", true, false));
    CHECK(script_open(&s, &hundred, "", true, false));
    CHECK(script_open(&s, &good, "", true, false));
    (void)script_take_type(&s, FRAME_REQUEST);
    int64_t errors = metrics_sum(METRIC_ipc_stream_errors);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, 0, 200), "junk", 4);
    struct frame frame = script_take_type(&s, FRAME_RESET);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_HEADER_INVALID);
    CHECK_EQ_INT(bad.gones, 0); /* it knows: it has refused */
    script_say(&s, stream_frame(FRAME_RESPONSE, 2, 0, 200), "\x91\xc4", 3);
    big.answer = ERROR_INVALID;
    script_say(&s, stream_frame(FRAME_DATA, 2, END, 0), "x",
               1); /* its side has ended: no RESET (R54) */
    CHECK_EQ_INT(script_take(&s).type, 0);
    script_say(&s, stream_frame(FRAME_RESPONSE, 3, FRAME_FLAG_INFORMATIONAL, 101), "\x91\xc4", 3);
    frame = script_take_type(&s, FRAME_RESET); /* R52 */
    CHECK_EQ_INT(frame.stream, 3);
    CHECK_EQ_INT(hundred.gone.code, FRAME_ERROR_HEADER_INVALID);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_stream_errors) - errors, 3);
    script_say(&s, stream_frame(FRAME_RESPONSE, 4, END | DONE, 200), "\x91\xc4", 3);
    CHECK_EQ_INT(good.gone.end, CHANNEL_END_DONE);
    CHECK(script_end(&s));
}

TEST(the_worker_goes_away)
{
    struct script_user users[3] = {{0}};

    start();
    for (int i = 0; i < 3; i++) {
        CHECK(script_open(&s, &users[i], "", true, false));
    }
    script_turns(&s, 1);
    script_say(&s, (struct frame){.type = FRAME_GOAWAY, .code = FRAME_ERROR_DRAINING, .aux = 1},
               "bye", 3);
    CHECK_EQ_INT(s.goaways, 1);
    CHECK(!channel_can_open(s.channel));
    CHECK_EQ_INT(users[1].gone.end, CHANNEL_END_REFUSED);
    CHECK_EQ_INT(users[2].gone.end, CHANNEL_END_REFUSED);
    CHECK_EQ_INT(users[0].gones, 0);
    CHECK_EQ_INT(s.slots_freed, 2);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, END | DONE, 200), "\x91\xc4", 3);
    CHECK_EQ_INT(s.closed, 1); /* no stream is left: we close (R94) */
    CHECK(s.orderly);
    script_read(&s);
    CHECK(s.ended);
    CHECK(script_end(&s));
}

TEST(an_answered_stream_above_the_last_id_is_not_placed_again)
{
    struct script_user user = {0};

    start();
    CHECK(script_open(&s, &user, "", true, false));
    script_turns(&s, 1);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, 0, 200), "\x91\xc4", 3);
    script_say(&s, (struct frame){.type = FRAME_GOAWAY, .code = FRAME_ERROR_DRAINING, .aux = 0},
               NULL, 0);
    CHECK_EQ_INT(user.gone.end, CHANNEL_END_RESET);
    CHECK_EQ_INT(user.gone.code, FRAME_ERROR_DRAINING);
    CHECK_EQ_INT(user.gone.fate, CHANNEL_FATE_STARTED);
    CHECK_EQ_INT(s.closed, 1);
    CHECK(script_end(&s));
}

TEST(the_gateway_goes_away)
{
    struct script_user user = {0};

    start();
    CHECK(script_open(&s, &user, "", true, false));
    channel_goaway(s.channel, FRAME_ERROR_RECONNECT);
    CHECK(!channel_can_open(s.channel));
    struct frame frame = script_take_type(&s, FRAME_GOAWAY);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_RECONNECT);
    CHECK_EQ_INT(frame.aux, 1);
    CHECK_EQ_INT(s.closed, 0);
    script_say(&s, stream_frame(FRAME_RESPONSE, 1, END | DONE, 200), "\x91\xc4", 3);
    CHECK_EQ_INT(s.closed, 1);
    CHECK(s.orderly);
    CHECK(script_end(&s));
}

TEST(used_up_ids_ask_for_a_new_link)
{
    struct script_user users[2] = {{0}};

    start();
    s.channel->last_id = FRAME_MAX_STREAM_ID - 2;
    CHECK(script_open(&s, &users[0], "", true, false));
    CHECK(channel_can_open(s.channel));
    CHECK(script_open(&s, &users[1], "", true, false));
    CHECK(!channel_can_open(s.channel));
    struct frame frame = script_take_type(&s, FRAME_GOAWAY);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_RECONNECT);
    CHECK_EQ_INT(frame.aux, FRAME_MAX_STREAM_ID);
    CHECK(script_end(&s));
}

TEST(connections_are_told_once)
{
    start();
    CHECK_EQ_INT(channel_conn(s.channel, 7, SLICE("\x80")), ERROR_NONE);
    CHECK_EQ_INT(channel_conn(s.channel, 7, SLICE("\x80")), ERROR_NONE);
    channel_conn_end(s.channel, 7);
    channel_conn_end(s.channel, 7);
    static char chain[65537];
    CHECK_EQ_INT(channel_conn(s.channel, 8, (struct slice){chain, sizeof(chain)}), ERROR_LIMIT);
    CHECK_EQ_INT(script_take(&s).type, FRAME_CONN);
    struct frame frame = script_take(&s);
    CHECK_EQ_INT(frame.type, FRAME_CONN_END);
    CHECK_EQ_INT(frame.aux, 7);
    CHECK_EQ_INT(script_take(&s).type, 0);
    CHECK(script_end(&s));
}

TEST(a_dump_names_streams)
{
    struct script_user user = {0};
    struct strbuf out;

    start();
    CHECK(script_open(&s, &user, "", true, false));
    strbuf_init(&out);
    channel_dump(s.channel, &out);
    CHECK(strstr(strbuf_text(&out), "ready") != NULL);
    CHECK(strstr(strbuf_text(&out), "stream 1:") != NULL);
    strbuf_done(&out);
    CHECK(script_end(&s));
}

CHECK_MAIN
