/* SPDX-License-Identifier: MIT */
/* The n-th allocation fails, for every n, through a scenario that touches every path: no crash, no leak, each slot freed once. */
#include "check.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/hello.h"
#include "script.h"

static struct script s;
static char bytes[60000];

/* Two requests with bodies both ways, a partial frame, statistics, GOAWAY. Failures are allowed everywhere. */
static void scenario(void)
{
    static const char stats[] = "\x83\xa3rss\x01\xa9in_flight\x02\xa5tasks\x03";
    struct script_user users[2] = {{.to_send = 100000, .send_end = true}, {.hold = true}};
    struct ipc_settings settings = script_settings();
    unsigned opened = 0;

    if (!script_start(&s, &settings)) {
        return;
    }
    script_say(&s, (struct frame){.type = FRAME_READY}, NULL, 0);
    for (int i = 0; i < 2 && s.channel != NULL && channel_can_open(s.channel); i++) {
        opened += script_open(&s, &users[i], i == 0 ? "abc" : "", i == 1, false);
    }
    if (s.channel != NULL && users[0].stream != NULL) {
        channel_stream_want_send(users[0].stream);
    }
    script_turns(&s, 3);
    for (uint32_t id = 1; id <= opened; id++) {
        script_say(&s, (struct frame){.type = FRAME_RESPONSE, .stream = id, .code = 200},
                   "\x91\xc4", 3);
        struct frame frame = {.type = FRAME_DATA, .stream = id, .length = sizeof(bytes)};
        uint8_t header[FRAME_HEADER_SIZE];
        frame_encode(header, &frame);
        script_write(&s, header, sizeof(header));
        script_write(&s, bytes, 1000);
        script_turns(&s, 2); /* the rest of the frame comes later */
        script_write(&s, bytes, sizeof(bytes) - 1000);
        script_turns(&s, 2);
    }
    script_say(&s, (struct frame){.type = FRAME_STATS}, stats, sizeof(stats) - 1);
    if (s.channel != NULL && channel_conn(s.channel, 5, SLICE("\x80")) == ERROR_NONE) {
        channel_conn_end(s.channel, 5);
    }
    script_turns(&s, 2);
    if (users[1].stream != NULL) {
        channel_stream_detach(users[1].stream);
    }
    script_say(&s, (struct frame){.type = FRAME_GOAWAY, .code = FRAME_ERROR_DRAINING, .aux = 2},
               NULL, 0);
    for (uint32_t id = 1; id <= opened; id++) {
        script_say(&s, (struct frame){.type = FRAME_DONE, .stream = id}, NULL, 0);
    }
    if (s.channel == NULL) {
        CHECK_EQ_INT(s.slots_freed, opened);
    }
}

/* Runs `walk` with the n-th allocation failing until a run needs fewer than n. */
static void walk_failures(void (*walk)(void), void (*end)(void), int from_then_on)
{
    walk(); /* what is made once per thread and library */
    end();
    uint64_t live = mem_live();
    for (uint64_t n = 1; n < 2000; n++) {
        uint64_t made = mem_made();
        mem_fail_nth(n, from_then_on);
        walk();
        bool reached = mem_made() - made >= n || from_then_on;
        mem_fail_nth(0, 0);
        end();
        CHECK_EQ_INT(mem_live(), live);
        if (!reached || (from_then_on && n > 120)) {
            CHECK(n > 20);
            return;
        }
    }
    CHECK(false && "the walk ends");
}

static void scenario_end(void)
{
    CHECK(script_end(&s));
}

TEST(every_allocation_may_fail_once)
{
    walk_failures(scenario, scenario_end, 0);
}

TEST(memory_may_end_at_any_point)
{
    walk_failures(scenario, scenario_end, 1);
}

CHECK_MAIN
