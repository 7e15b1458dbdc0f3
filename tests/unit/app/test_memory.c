/* SPDX-License-Identifier: MIT */
/* Every allocation of app/ may fail: requests are answered or cut, slots and gauges come back, nothing leaks. */
#include "check.h"

#include "app_fixture.h"
#include "base/mem.h"
#include "base/metrics.h"

#define CLIENTS 4

static struct app_fixture f;
static struct app_link w;
static struct app_client clients[CLIENTS];

static void begin(void)
{
    app_fixture_init(&f, 1);
    f.http.first_byte = UINT64_C(60000000000);
    CHECK(app_fixture_start(&f));
    app_worker_up(&f, &w, 'a', 2);
    for (size_t i = 0; i < CLIENTS; i++) {
        app_client_init(&f, &clients[i], 0);
    }
}

static void finish(void)
{
    mem_fail_nth(0, 0);
    app_fixture_turns(&f, 2);
    for (size_t i = 0; i < CLIENTS; i++) {
        strbuf_done(&clients[i].body);
    }
    app_link_close(&w);
    app_fixture_done(&f); /* REQUIREs that nothing is left */
}

/* Four requests with bodies for two slots. */
static void place(void)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        if (app_client_begin(&clients[i], i % 2 == 0 ? "POST" : "GET", i % 2 == 0 ? 30000 : -1) &&
            i % 2 == 0 && clients[i].exchange != NULL) {
            (void)app_client_body(&clients[i], 30000, true);
        }
    }
    app_fixture_turns(&f, 3);
}

static void frame(unsigned type, uint32_t stream, unsigned flags, const char *payload,
                  size_t length)
{
    struct frame header = {.type = (uint8_t)type,
                           .flags = (uint8_t)flags,
                           .stream = stream,
                           .code = type == FRAME_RESPONSE  ? 200
                                   : type == FRAME_REFUSED ? FRAME_ERROR_REFUSED
                                                           : 0};
    app_link_say(&f, &w, header, payload, length);
}

static void answer(void)
{
    static char body[5000];
    static const char head[] = "\x91\xc4\x0f"
                               "Content-Type\0xy";
    frame(FRAME_RESPONSE, 1, 0, head, sizeof head - 1);
    frame(FRAME_DATA, 1, 0, body, sizeof body);
    frame(FRAME_REFUSED, 2, 0, NULL, 0);
    frame(FRAME_DATA, 1, FRAME_FLAG_END_STREAM | FRAME_FLAG_DONE, "x", 1);
    app_fixture_turns(&f, 3);
}

/* Runs it with the n-th allocation failing until a run needs fewer. */
static void walk(bool placing, int from_then_on)
{
    for (uint64_t n = 1;; n++) {
        begin();
        if (!placing) {
            place();
        }
        uint64_t made = mem_made();
        mem_fail_nth(n, from_then_on);
        if (placing) {
            place();
        } else {
            answer();
        }
        made = mem_made() - made;
        mem_fail_nth(0, 0);
        CHECK(metrics_sum(METRIC_slots_taken) <= 2);
        finish();
        if (made < n) {
            CHECK(n > 3);
            return;
        }
        CHECK(n < 1000);
    }
}

TEST(placing_survives_any_failed_allocation)
{
    walk(true, 0);
}

TEST(placing_survives_the_end_of_memory)
{
    walk(true, 1);
}

TEST(answering_survives_any_failed_allocation)
{
    walk(false, 0);
}

TEST(answering_survives_the_end_of_memory)
{
    walk(false, 1);
}

TEST(apps_are_made_whole_or_not_at_all)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 500};
    struct apps_settings settings = {.apps = &f.app, .app_count = 1};
    struct loop *loops[2];
    uint64_t live = mem_live();
    for (unsigned i = 0; i < 2; i++) {
        loops[i] = loop_new(i, &loop_settings);
        CHECK(loops[i] != NULL);
    }
    bool made = false;
    for (uint64_t n = 1; !made; n++) {
        mem_fail_nth(n, 0);
        struct apps *apps = apps_new(&settings, loops, 2);
        mem_fail_nth(0, 0);
        made = apps != NULL;
        apps_free(apps);
        CHECK(n < 50 && (!made || n > 5));
    }
    loop_free(loops[0]);
    loop_free(loops[1]);
    CHECK_EQ_INT(mem_live(), live);
}

CHECK_MAIN
