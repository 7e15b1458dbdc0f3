/* SPDX-License-Identifier: MIT */
/* app/deploy.c and deploy_text.c with a clock of the test's own: promotion, what stops it, the ways back, and the state as text. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

#include "app/deploy.h"
#include "base/clock.h"
#include "base/mem.h"

#define S CLOCK_NS_PER_S

static struct deploy d;
static uint64_t now;
static uint32_t slots[DEPLOY_SLOTS + 1];

static void on_change(void *context, const struct generation *generation,
                      enum generation_state before)
{
    CHECK(context == &d);
    CHECK(generation_may_become(before, generation->state));
}

static void begin(bool promote_auto)
{
    struct deploy_settings settings = {.min_ready = 1,
                                       .soak = 5 * S,
                                       .probation = 2 * S,
                                       .rollback_keep = 0,
                                       .promote_auto = promote_auto};
    now = 1000 * S;
    deploy_init(&d, &settings, on_change, &d);
}

static void finish(void)
{
    deploy_done(&d);
}

static uint32_t come(const char *name)
{
    uint32_t slot = DEPLOY_NONE;
    CHECK_EQ_INT(deploy_admit(&d, slice_from(name), now, &slot), ERROR_NONE);
    (void)deploy_review(&d, now);
    return slot;
}

static uint32_t up(const char *name)
{
    uint32_t slot = come(name);
    atomic_fetch_add(&d.slots[slot].ready, 1);
    (void)deploy_review(&d, now);
    return slot;
}

/* A worker that was ready goes. */
static void gone(uint32_t slot, enum deploy_gone how, const char *text)
{
    atomic_fetch_sub(&d.slots[slot].ready, 1);
    d.slots[slot].workers--;
    d.slots[slot].alive--;
    deploy_gone(&d, slot, how, slice_from(text), now);
    (void)deploy_review(&d, now);
}

static void later(uint64_t seconds)
{
    now += seconds * S;
    (void)deploy_review(&d, now);
}

static enum generation_state state(const char *name)
{
    const struct generation *generation = deploy_find(&d, slice_from(name));
    return generation == NULL ? GENERATION_FREE : generation->state;
}

static const char *serving(void)
{
    uint32_t slot = atomic_load(&d.serving);
    return slot == DEPLOY_NONE ? "nobody" : d.slots[slot].name;
}

static enum deploy_outcome outcome(const char *name, const char *text)
{
    struct strbuf out;
    strbuf_init(&out);
    enum deploy_outcome result = deploy_outcome(&d, slice_from(name), now, &out);
    if (strstr(strbuf_text(&out), text) == NULL) {
        CHECK_EQ_STR(strbuf_text(&out), text);
    }
    strbuf_done(&out);
    return result;
}

/* v1 serves with a worker, v2 has served 5 s as a candidate. */
static uint32_t promoted(void)
{
    up("v1");
    uint32_t slot = up("v2");
    later(5);
    CHECK_EQ_STR(serving(), "v2");
    return slot;
}

/* --- promotion ------------------------------------------------------------------------------------------------------------ */

TEST(the_first_one_serves_at_once)
{
    begin(true);
    come("v1");
    CHECK_EQ_STR(serving(), "nobody");
    up("v1");
    CHECK_EQ_STR(serving(), "v1");
    CHECK_EQ_INT(deploy_ready(&d), 1);
    CHECK_EQ_INT(state("v1"), GENERATION_CURRENT);
    finish();
    begin(false); /* promote = "manual": there is nobody that it could take anything from */
    d.settings.min_ready = 2;
    up("v1");
    CHECK_EQ_STR(serving(), "nobody");
    up("v1");
    CHECK_EQ_STR(serving(), "v1");
    finish();
}

TEST(a_candidate_soaks_then_serves)
{
    begin(true);
    up("v1");
    up("v2");
    CHECK_EQ_INT(state("v2"), GENERATION_SOAKING);
    CHECK_EQ_INT(deploy_review(&d, now), now + 5 * S);
    CHECK_EQ_INT(outcome("v2", "soaking for another 5000 ms"), DEPLOY_PENDING);
    later(4);
    CHECK_EQ_STR(serving(), "v1");
    later(1);
    CHECK_EQ_STR(serving(), "v2");
    CHECK_EQ_INT(state("v1"), GENERATION_PREVIOUS);
    CHECK_EQ_INT(outcome("v2", "on probation for another 2000 ms"), DEPLOY_PENDING);
    CHECK_EQ_INT(deploy_review(&d, now), now + 2 * S);
    later(2);
    CHECK_EQ_INT(state("v1"), GENERATION_RETIRED);
    CHECK_EQ_INT(outcome("v2", "promoted"), DEPLOY_DONE);
    CHECK_EQ_INT(deploy_review(&d, now), UINT64_MAX);
    finish();
}

TEST(without_soak_and_probation_it_is_one_step)
{
    begin(true);
    d.settings.soak = d.settings.probation = 0;
    up("v1");
    up("v2");
    CHECK_EQ_STR(serving(), "v2");
    CHECK_EQ_INT(state("v1"), GENERATION_RETIRED);
    CHECK_EQ_INT(outcome("v2", "promoted"), DEPLOY_DONE);
    finish();
}

TEST(one_that_leaves_in_order_starts_the_soak_anew)
{
    begin(true);
    up("v1");
    uint32_t slot = up("v2");
    later(4);
    gone(slot, DEPLOY_LEFT, "");
    CHECK_EQ_INT(state("v2"), GENERATION_FREE); /* nobody of it is left: forgotten */
    slot = up("v2");
    later(4);
    CHECK_EQ_STR(serving(), "v1");
    later(1);
    CHECK_EQ_STR(serving(), "v2");
    finish();
}

TEST(manual_waits_for_the_order)
{
    begin(false);
    up("v1");
    up("v2");
    later(100);
    CHECK_EQ_INT(state("v2"), GENERATION_WAITING);
    CHECK_EQ_INT(outcome("v2", "waiting for the order"), DEPLOY_PENDING);
    CHECK_EQ_INT(deploy_order(&d, SLICE("v2"), now), ERROR_NONE);
    (void)deploy_review(&d, now);
    CHECK_EQ_STR(serving(), "v2");
    finish();
}

TEST(an_order_may_come_first)
{
    begin(false);
    up("v1");
    CHECK_EQ_INT(deploy_order(&d, SLICE("v2"), now), ERROR_NONE);
    (void)deploy_review(&d, now);
    CHECK_EQ_INT(outcome("v2", "0 of min_ready 1 ready, 0 connected"), DEPLOY_PENDING);
    CHECK_EQ_INT(outcome("v9", "no worker of it has come"), DEPLOY_PENDING);
    later(100);
    up("v2");
    later(5);
    CHECK_EQ_STR(serving(), "v2");
    CHECK_EQ_INT(deploy_order(&d, SLICE("v2"), now), ERROR_NONE); /* it is so already */
    CHECK_EQ_INT(state("v2"), GENERATION_CURRENT);
    finish();
}

TEST(the_newest_of_two_candidates_wins)
{
    begin(true);
    up("v1");
    up("v2");
    up("v3");
    later(5);
    CHECK_EQ_STR(serving(), "v3");
    CHECK_EQ_INT(state("v2"), GENERATION_RETIRED);
    CHECK_EQ_INT(outcome("v2", "wanted later took its place"), DEPLOY_FAILED);
    finish();
    begin(true);
    up("v1");
    up("v2");
    later(3);
    up("v3");
    later(2);
    CHECK_EQ_STR(serving(), "v2"); /* it was ready earlier; the newer one follows */
    later(3);
    CHECK_EQ_STR(serving(), "v3");
    finish();
}

TEST(where_nobody_serves_nobody_soaks)
{
    begin(true);
    uint32_t old = up("v1");
    up("v2");
    gone(old, DEPLOY_LEFT, "");
    CHECK_EQ_STR(serving(), "v2");
    CHECK_EQ_INT(state("v1"), GENERATION_RETIRED);
    finish();
}

/* --- failures ------------------------------------------------------------------------------------------------------------- */

TEST(a_start_that_fails_fails_the_candidate)
{
    uint32_t slot;
    begin(true);
    up("v1");
    slot = come("v2");
    deploy_gone(&d, slot, DEPLOY_START_FAILED, SLICE("Traceback\nRuntimeError: no"), now);
    CHECK_EQ_INT(state("v2"), GENERATION_FAILED);
    CHECK_EQ_INT(outcome("v2", "RuntimeError: no"), DEPLOY_FAILED);
    CHECK_EQ_INT(deploy_admit(&d, SLICE("v2"), now, &slot), ERROR_CLOSED);
    CHECK_EQ_STR(serving(), "v1");
    CHECK_EQ_INT(deploy_order(&d, SLICE("v2"), now), ERROR_NONE); /* once more */
    CHECK_EQ_INT(state("v2"), GENERATION_CANDIDATE);
    up("v2");
    later(5);
    CHECK_EQ_STR(serving(), "v2");
    finish();
}

TEST(a_cold_start_may_be_tried_for_ever)
{
    begin(true);
    for (unsigned i = 0; i < 10; i++) {
        uint32_t slot = come("v1");
        d.slots[slot].workers = d.slots[slot].alive = 0;
        deploy_gone(&d, slot, DEPLOY_START_FAILED, SLICE("no database"), now);
        CHECK_EQ_INT(state("v1"), GENERATION_CANDIDATE);
        CHECK_EQ_INT(outcome("v1", "no database"), DEPLOY_FAILED);
        later(1);
    }
    up("v1");
    CHECK_EQ_STR(serving(), "v1");
    finish();
}

TEST(three_crashes_within_a_minute)
{
    begin(true);
    up("v1");
    for (unsigned i = 0; i < 6; i++) { /* too slowly */
        uint32_t slot = come("v2");
        deploy_gone(&d, slot, DEPLOY_LOST, SLICE("killed"), now);
        CHECK_EQ_INT(state("v2"), GENERATION_CANDIDATE);
        later(31);
    }
    uint32_t slot = come("v2");
    deploy_gone(&d, slot, DEPLOY_LOST, SLICE("killed"), now);
    later(28);
    CHECK_EQ_INT(state("v2"), GENERATION_CANDIDATE);
    deploy_gone(&d, slot, DEPLOY_LOST, SLICE("killed"), now);
    CHECK_EQ_INT(state("v2"), GENERATION_FAILED);
    finish();
}

TEST(any_loss_during_the_soak)
{
    begin(true);
    up("v1");
    up("v2");
    uint32_t slot = up("v2");
    later(4);
    gone(slot, DEPLOY_LOST, "killed by signal 9");
    CHECK_EQ_INT(state("v2"), GENERATION_FAILED);
    CHECK_EQ_INT(outcome("v2", "killed by signal 9"), DEPLOY_FAILED);
    later(10);
    CHECK_EQ_STR(serving(), "v1");
    finish();
}

TEST(a_loss_on_probation_falls_back_at_once)
{
    begin(true);
    uint32_t slot = promoted();
    later(1);
    CHECK(deploy_fall_back(&d, slot)); /* in any loop, before anything else */
    CHECK_EQ_STR(serving(), "v1");
    CHECK(!deploy_fall_back(&d, slot)); /* another loop lost it too */
    CHECK_EQ_STR(serving(), "v1");
    (void)deploy_review(&d, now);
    CHECK_EQ_INT(state("v2"), GENERATION_FAILED);
    CHECK_EQ_INT(state("v1"), GENERATION_CURRENT);
    gone(slot, DEPLOY_LOST, "killed by signal 11");
    CHECK_EQ_INT(outcome("v2", "a worker was lost on probation: killed by signal 11"),
                 DEPLOY_FAILED);
    later(100);
    CHECK_EQ_STR(serving(), "v1");
    finish();
}

TEST(after_probation_there_is_no_way_back)
{
    begin(true);
    uint32_t slot = promoted();
    later(2);
    CHECK(!deploy_fall_back(&d, slot));
    gone(slot, DEPLOY_LOST, "killed");
    CHECK_EQ_STR(serving(), "v2");
    CHECK_EQ_INT(state("v2"), GENERATION_CURRENT);
    finish();
}

TEST(nobody_to_fall_back_to_ends_the_probation)
{
    begin(true);
    uint32_t old = up("v1"), slot = up("v2");
    later(5);
    gone(old, DEPLOY_LEFT, "");
    CHECK_EQ_INT(outcome("v2", "promoted"), DEPLOY_DONE);
    CHECK(!deploy_fall_back(&d, slot));
    finish();
}

/* --- the ways back -------------------------------------------------------------------------------------------------------- */

TEST(rollback_while_the_old_one_is_kept)
{
    char text[256];
    begin(true);
    d.settings.rollback_keep = 600 * S;
    CHECK_EQ_INT(deploy_roll_back(&d, now, text, sizeof text), ERROR_CLOSED);
    promoted();
    later(599);
    CHECK_EQ_INT(state("v1"), GENERATION_PREVIOUS);
    CHECK_EQ_INT(deploy_roll_back(&d, now, text, sizeof text), ERROR_NONE);
    CHECK_EQ_STR(serving(), "v1");
    CHECK_EQ_INT(state("v2"), GENERATION_FAILED);
    CHECK_EQ_INT(outcome("v2", "rolled back"), DEPLOY_FAILED);
    CHECK_EQ_INT(deploy_roll_back(&d, now, text, sizeof text), ERROR_CLOSED);
    finish();
}

TEST(rollback_needs_workers)
{
    char text[256];
    begin(true);
    d.settings.rollback_keep = 600 * S;
    uint32_t old = up("v1");
    up("v2");
    later(5);
    gone(old, DEPLOY_LEFT, "");
    CHECK_EQ_INT(deploy_roll_back(&d, now, text, sizeof text), ERROR_CLOSED);
    CHECK(strstr(text, "no ready worker") != NULL);
    CHECK_EQ_STR(serving(), "v2");
    finish();
}

TEST(the_previous_one_may_be_deployed_again)
{
    begin(true);
    d.settings.rollback_keep = 600 * S;
    promoted();
    CHECK_EQ_INT(deploy_order(&d, SLICE("v1"), now), ERROR_NONE);
    (void)deploy_review(&d, now);
    CHECK_EQ_STR(serving(), "v1"); /* it has served before: no soak */
    CHECK_EQ_INT(state("v2"), GENERATION_PREVIOUS);
    finish();
}

TEST(sixteen_are_remembered)
{
    char name[16];
    uint32_t slot;
    begin(true);
    d.settings.soak = d.settings.probation = 0;
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "g%u", i);
        slot = up(name);
        later(1);
        CHECK_EQ_STR(serving(), name);
        /* its worker follows the GOAWAY */
        for (uint32_t k = 0; k < DEPLOY_SLOTS; k++) {
            if (k != slot && d.slots[k].workers > 0) {
                gone(k, DEPLOY_LEFT, "");
            }
        }
    }
    CHECK_EQ_INT(state("g0"), GENERATION_FREE);
    CHECK_EQ_INT(state("g2"), GENERATION_FREE);
    CHECK_EQ_INT(state("g3"), GENERATION_RETIRED);
    CHECK_EQ_INT(state("g18"), GENERATION_RETIRED);
    finish();
}

TEST(no_more_generations_than_slots)
{
    char name[16];
    begin(true);
    up("v0");
    for (unsigned i = 1; i < DEPLOY_SLOTS; i++) {
        snprintf(name, sizeof name, "v%u", i);
        slots[i] = come(name);
    }
    CHECK_EQ_INT(deploy_admit(&d, SLICE("one more"), now, &slots[0]), ERROR_LIMIT);
    CHECK_EQ_INT(deploy_order(&d, SLICE("one more"), now), ERROR_LIMIT);
    d.slots[slots[7]].workers = d.slots[slots[7]].alive = 0; /* its only worker has left */
    CHECK_EQ_INT(deploy_admit(&d, SLICE("one more"), now, &slots[0]), ERROR_NONE);
    finish();
}

/* --- the text ------------------------------------------------------------------------------------------------------------- */

TEST(the_state_is_written_and_read)
{
    struct strbuf text, again;
    begin(true);
    d.settings.rollback_keep = 600 * S;
    promoted();
    uint32_t slot = come("bad 100%\n");
    deploy_gone(&d, slot, DEPLOY_START_FAILED, SLICE("Traceback:\n  é"), now);
    strbuf_init(&text);
    strbuf_init(&again);
    deploy_write(&d, &text);
    CHECK(strstr(strbuf_text(&text), "gatewayd generations 1\n") == strbuf_text(&text));
    CHECK(strstr(strbuf_text(&text), "\ncurrent v2\n") != NULL);
    CHECK(strstr(strbuf_text(&text), "\nprevious v1\n") != NULL);
    CHECK(strstr(strbuf_text(&text), "\nfailed bad%20100%25%0A Traceback:%0A%20%20é\n") != NULL);
    finish();
    begin(true);
    CHECK_EQ_INT(deploy_read(&d, (struct slice){text.data, text.length}, now), ERROR_NONE);
    deploy_write(&d, &again);
    CHECK_EQ_STR(strbuf_text(&again), strbuf_text(&text));
    CHECK_EQ_STR(serving(), "v2");
    CHECK_EQ_INT(deploy_admit(&d, SLICE("bad 100%\n"), now, &slot), ERROR_AGAIN);
    strbuf_done(&text);
    strbuf_done(&again);
    finish();
}

TEST(after_a_restart_the_current_one_is_waited_for)
{
    begin(true);
    CHECK_EQ_INT(deploy_read(&d, SLICE("gatewayd generations 1\ncurrent v1\n"), now), ERROR_NONE);
    d.settings.soak = 60 * S;
    up("v2");
    CHECK_EQ_STR(serving(), "v1"); /* though nobody of it is there yet */
    later(9);
    CHECK_EQ_STR(serving(), "v1");
    later(1);
    CHECK_EQ_STR(serving(), "v2"); /* nobody comes */
    finish();
}

TEST(after_a_restart_the_retired_are_not_refused_for_good)
{
    struct slice text = SLICE("gatewayd generations 1\ncurrent v2\nretired v1\n");
    uint32_t slot;
    begin(true);
    CHECK_EQ_INT(deploy_read(&d, text, now), ERROR_NONE);
    CHECK_EQ_INT(deploy_admit(&d, SLICE("v1"), now, &slot), ERROR_AGAIN);
    later(10);
    up("v1"); /* v2 has not come back: better than nobody */
    CHECK_EQ_STR(serving(), "v1");
    finish();
    begin(true);
    CHECK_EQ_INT(deploy_read(&d, text, now), ERROR_NONE);
    uint32_t current = up("v2");
    CHECK_EQ_INT(deploy_admit(&d, SLICE("v1"), now, &slot), ERROR_CLOSED);
    later(20);
    gone(current, DEPLOY_LEFT, ""); /* restarted, say */
    CHECK_EQ_INT(deploy_admit(&d, SLICE("v1"), now, &slot), ERROR_CLOSED);
    finish();
}

TEST(what_is_no_state_is_refused)
{
    static const char *const texts[] = {
        "",
        "gatewayd generations 2\ncurrent v1\n",
        "gatewayd generations 1\ncurrent\n",
        "gatewayd generations 1\ncurrent v%1\n",
        "gatewayd generations 1\ncurrent v%zz\n",
        "gatewayd generations 1\ncurrent v%00\n",
        "gatewayd generations 1\nsoaking v1\n",
        "gatewayd generations 1\ncurrent v1\nretired v1\n",
        "gatewayd generations 1\ncurrent v1\ncurrent v2\n",
        "gatewayd generations 1\nprevious v1\nprevious v2\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        begin(true);
        CHECK_EQ_INT(deploy_read(&d, slice_from(texts[i]), now), ERROR_INVALID);
        CHECK_EQ_STR(serving(), "nobody");
        CHECK_EQ_INT(state("v1"), GENERATION_FREE);
        finish();
    }
    char *many = malloc(65536);
    int length = snprintf(many, 65536, "gatewayd generations 1\n");
    for (unsigned i = 0; i <= DEPLOY_SLOTS; i++) {
        length += snprintf(many + length, 65536 - (size_t)length, "retired v%u\n", i);
    }
    begin(true);
    CHECK_EQ_INT(deploy_read(&d, slice_from(many), now), ERROR_INVALID);
    finish();
    free(many);
}

/* Whatever happens in whatever order: one generation serves at most, its state agrees, and set_state never meets a change that the
 * table does not know (it would abort). */
TEST(any_order_of_events)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    char text[256];
    unsigned rolled = 0;
    srand(7);
    for (unsigned round = 0; round < 200; round++) {
        begin(round % 2 == 0);
        d.settings.rollback_keep = round % 3 == 0 ? 4 * S : 0;
        d.settings.probation = round % 5 == 0 ? 0 : 2 * S;
        for (unsigned step = 0; step < 300; step++) {
            struct slice name = slice_from(names[rand() % 5]);
            struct generation *generation = deploy_find(&d, name);
            uint32_t slot = generation != NULL ? (uint32_t)(generation - d.slots) : 0;
            bool any = generation != NULL && generation->workers > 0;
            switch (rand() % 8) {
            case 0:
            case 1:
                if (deploy_admit(&d, name, now, &slot) == ERROR_NONE) {
                    atomic_fetch_add(&d.slots[slot].ready, 1);
                }
                break;
            case 2:
            case 3:
                if (any && atomic_load(&generation->ready) > 0) {
                    enum deploy_gone how = (enum deploy_gone)(rand() % 3);
                    if (how == DEPLOY_LOST) {
                        (void)deploy_fall_back(&d, slot);
                    }
                    gone(slot, how, "why");
                }
                break;
            case 4:
                CHECK_EQ_INT(deploy_order(&d, name, now), ERROR_NONE);
                break;
            case 5:
                rolled += deploy_roll_back(&d, now, text, sizeof text) == ERROR_NONE;
                break;
            default:
                now += (uint64_t)(rand() % 3) * S;
                break;
            }
            (void)deploy_review(&d, now);
            unsigned current = 0;
            for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
                current += d.slots[i].state == GENERATION_CURRENT;
            }
            uint32_t serves = atomic_load(&d.serving);
            CHECK_EQ_INT(current, serves == DEPLOY_NONE ? 0 : 1);
            CHECK(serves == DEPLOY_NONE || d.slots[serves].state == GENERATION_CURRENT);
        }
        finish();
    }
    CHECK(rolled > 0);
}

CHECK_MAIN
