/* SPDX-License-Identifier: MIT */
/*
 * The promotion of generations as a state machine: a table of what may follow what, one function that changes a state, and a
 * review that does what is due. It must not know workers, loops or sockets; what it writes down is in deploy_text.c.
 */
#include "app/deploy.h"

#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"

#define CRASH_TIME (60 * CLOCK_NS_PER_S)
/* After a start with a known current generation: so long its workers may take to come back before another one serves. */
#define PATIENCE (10 * CLOCK_NS_PER_S)

/* --- states ------------------------------------------------------------------------------------------------------------- */

#define TO(state) (1u << GENERATION_##state)

static const struct {
    const char *name;
    unsigned next; /* states that may follow */
} states[GENERATION_STATE_COUNT] = {
    [GENERATION_FREE] = {"free",
                         TO(CANDIDATE) | TO(CURRENT) | TO(PREVIOUS) | TO(RETIRED) | TO(FAILED)},
    [GENERATION_CANDIDATE] = {"candidate",
                              TO(SOAKING) | TO(CURRENT) | TO(RETIRED) | TO(FAILED) | TO(FREE)},
    [GENERATION_SOAKING] = {"soaking",
                            TO(CANDIDATE) | TO(WAITING) | TO(CURRENT) | TO(RETIRED) | TO(FAILED)},
    [GENERATION_WAITING] = {"waiting", TO(CANDIDATE) | TO(CURRENT) | TO(RETIRED) | TO(FAILED)},
    [GENERATION_CURRENT] = {"current", TO(PREVIOUS) | TO(RETIRED) | TO(FAILED)},
    [GENERATION_PREVIOUS] = {"previous", TO(CURRENT) | TO(RETIRED)},
    [GENERATION_RETIRED] = {"retired", TO(CANDIDATE) | TO(FREE)},
    [GENERATION_FAILED] = {"deploy_failed", TO(CANDIDATE) | TO(FREE)},
};

const char *generation_state_name(enum generation_state state)
{
    return states[state].name;
}

bool generation_may_become(enum generation_state from, enum generation_state to)
{
    return (states[from].next >> to & 1u) != 0;
}

/* The only place where a generation's state changes. */
static void set_state(struct deploy *deploy, struct generation *generation,
                      enum generation_state state, uint64_t now)
{
    enum generation_state before = generation->state;
    REQUIRE(generation_may_become(before, state));
    generation->state = state;
    generation->since = now;
    deploy->on_change(deploy->context, generation, before);
}

static void set_reason(struct generation *generation, struct slice text)
{
    char *copy = mem_alloc(text.length + 1);
    if (copy == NULL) {
        return; /* the one before is better than none */
    }
    if (text.length > 0) {
        memcpy(copy, text.data, text.length);
    }
    copy[text.length] = '\0';
    mem_free(generation->reason);
    generation->reason = copy;
}

static bool is_candidate(const struct generation *generation)
{
    return generation->state == GENERATION_CANDIDATE || generation->state == GENERATION_SOAKING ||
           generation->state == GENERATION_WAITING;
}

static bool is_sent_away(const struct generation *generation)
{
    return generation->state == GENERATION_RETIRED || generation->state == GENERATION_FAILED;
}

struct generation *deploy_find(const struct deploy *deploy, struct slice name)
{
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        const struct generation *generation = &deploy->slots[i];
        if (generation->state != GENERATION_FREE &&
            slice_equal(slice_from(generation->name), name)) {
            return (struct generation *)(uintptr_t)generation;
        }
    }
    return NULL;
}

static struct generation *in_state(struct deploy *deploy, enum generation_state state)
{
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        if (deploy->slots[i].state == state) {
            return &deploy->slots[i];
        }
    }
    return NULL;
}

static uint32_t slot_of(const struct deploy *deploy, const struct generation *generation)
{
    return (uint32_t)(generation - deploy->slots);
}

static uint32_t ready_of(const struct generation *generation)
{
    return atomic_load_explicit(&generation->ready, memory_order_relaxed);
}

static uint32_t min_ready(const struct deploy *deploy)
{
    return deploy->settings.min_ready;
}

/* --- slots -------------------------------------------------------------------------------------------------------------- */

static void forget(struct deploy *deploy, struct generation *generation, uint64_t now)
{
    set_state(deploy, generation, GENERATION_FREE, now);
    mem_free(generation->reason);
    generation->reason = NULL;
    generation->name[0] = '\0';
}

/* Of those that were sent away, only the last ones are remembered: a worker that comes that late is taken for a new one. */
static void forget_old(struct deploy *deploy, uint64_t now)
{
    for (;;) {
        struct generation *oldest = NULL;
        unsigned count = 0;
        for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
            struct generation *generation = &deploy->slots[i];
            if (!is_sent_away(generation)) {
                continue;
            }
            count++;
            if (generation->workers == 0 && (oldest == NULL || generation->since < oldest->since)) {
                oldest = generation;
            }
        }
        if (count <= DEPLOY_RETIRED_KEPT || oldest == NULL) {
            return;
        }
        forget(deploy, oldest, now);
    }
}

/* A slot for a new generation; candidates that have no worker (any more) make room. NULL: none. */
static struct generation *take_slot(struct deploy *deploy, struct slice name, uint64_t now)
{
    struct generation *slot = in_state(deploy, GENERATION_FREE);
    for (uint32_t i = 0; i < DEPLOY_SLOTS && slot == NULL; i++) {
        struct generation *generation = &deploy->slots[i];
        if (generation->state == GENERATION_CANDIDATE && generation->workers == 0) {
            forget(deploy, generation, now);
            slot = generation;
        }
    }
    if (slot == NULL) {
        return NULL;
    }
    size_t length = name.length < DEPLOY_NAME_MAX ? name.length : DEPLOY_NAME_MAX;
    if (length > 0) {
        memcpy(slot->name, name.data, length);
    }
    slot->name[length] = '\0';
    slot->ordered = slot->unexplained = slot->proving = slot->restored = false;
    slot->crash_count = 0;
    slot->sequence = ++deploy->last_sequence;
    slot->workers = slot->alive = 0;
    return slot;
}

/* --- changes ------------------------------------------------------------------------------------------------------------ */

static void fail(struct deploy *deploy, struct generation *generation, struct slice reason,
                 uint64_t now)
{
    if (reason.length > 0) {
        set_reason(generation, reason);
    }
    generation->ordered = false;
    set_state(deploy, generation, GENERATION_FAILED, now);
}

static void end_probation(struct deploy *deploy)
{
    deploy->probation_until = 0;
    atomic_store(&deploy->fallback, DEPLOY_NONE);
}

/* `generation` serves from the store on. What was current waits for probation and rollback_keep; older plans are given up. */
static void promote(struct deploy *deploy, struct generation *generation, uint64_t now)
{
    struct generation *old = in_state(deploy, GENERATION_CURRENT);
    struct generation *older = in_state(deploy, GENERATION_PREVIOUS);
    uint64_t probation = deploy->settings.probation;
    bool keep =
        old != NULL && old->alive > 0 && (probation > 0 || deploy->settings.rollback_keep > 0);
    bool way_back = keep && probation > 0 && ready_of(old) > 0;
    /* The way back first: from the other store on it may be needed. */
    deploy->probation_until = way_back ? now + probation : 0;
    atomic_store(&deploy->fallback, way_back ? slot_of(deploy, old) : DEPLOY_NONE);
    atomic_store(&deploy->serving, slot_of(deploy, generation));
    if (older != NULL && older != generation) {
        set_state(deploy, older, GENERATION_RETIRED, now);
    }
    if (old != NULL) {
        set_state(deploy, old, keep ? GENERATION_PREVIOUS : GENERATION_RETIRED, now);
    }
    generation->ordered = false;
    generation->crash_count = 0;
    set_state(deploy, generation, GENERATION_CURRENT, now);
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        struct generation *other = &deploy->slots[i];
        if (is_candidate(other) && other->sequence < generation->sequence) {
            set_state(deploy, other, GENERATION_RETIRED, now);
        }
    }
}

/* The store was undone by the loop that lost a worker (deploy_fall_back): the states follow. */
static void notice_fall_back(struct deploy *deploy, uint64_t now)
{
    struct generation *current = in_state(deploy, GENERATION_CURRENT);
    uint32_t serving = atomic_load(&deploy->serving);
    if (current == NULL || serving == slot_of(deploy, current)) {
        return;
    }
    end_probation(deploy);
    fail(deploy, current, SLICE("a worker was lost on probation"), now);
    current->unexplained = true; /* what it died of comes with deploy_gone */
    set_state(deploy, &deploy->slots[serving], GENERATION_CURRENT, now);
}

bool deploy_fall_back(struct deploy *deploy, uint32_t slot)
{
    uint32_t fallback = atomic_load(&deploy->fallback);
    uint32_t expected = slot;
    return fallback != DEPLOY_NONE && fallback != slot &&
           atomic_compare_exchange_strong(&deploy->serving, &expected, fallback);
}

/* --- news --------------------------------------------------------------------------------------------------------------- */

/* What was sent away may try again. */
static void welcome(struct deploy *deploy, struct generation *generation, uint64_t now)
{
    set_state(deploy, generation, GENERATION_CANDIDATE, now);
    mem_free(generation->reason);
    generation->reason = NULL;
    generation->crash_count = 0;
    generation->unexplained = generation->proving = generation->restored = false;
    generation->sequence = ++deploy->last_sequence;
}

enum error deploy_admit(struct deploy *deploy, struct slice name, uint64_t now, uint32_t *ret_slot)
{
    struct generation *generation = deploy_find(deploy, name);
    if (generation != NULL && is_sent_away(generation)) {
        if (!generation->restored || deploy_somebody_serves(deploy)) {
            return ERROR_CLOSED;
        }
        if (now < deploy->patience_until) {
            return ERROR_AGAIN;
        }
        welcome(deploy, generation, now); /* what was current then has not come back */
    }
    if (generation == NULL) {
        generation = take_slot(deploy, name, now);
        if (generation == NULL) {
            return ERROR_LIMIT;
        }
        set_state(deploy, generation, GENERATION_CANDIDATE, now);
    }
    generation->workers++;
    generation->alive++;
    *ret_slot = slot_of(deploy, generation);
    return ERROR_NONE;
}

bool deploy_somebody_serves(const struct deploy *deploy)
{
    uint32_t slot = atomic_load(&deploy->serving);
    return slot != DEPLOY_NONE && deploy->slots[slot].alive > 0;
}

/* Whether this crash is one too many. */
static bool crashed_too_often(struct generation *generation, uint64_t now)
{
    generation->crashes[generation->crash_count++ % DEPLOY_CRASHES] = now;
    uint64_t oldest = generation->crashes[generation->crash_count % DEPLOY_CRASHES];
    return generation->crash_count >= DEPLOY_CRASHES && now - oldest <= CRASH_TIME;
}

/* It has failed by a loss whose cause is known now. */
static void explain(struct generation *generation, struct slice cause)
{
    struct strbuf text;
    strbuf_init(&text);
    strbuf_printf(&text, "%s: %.*s", generation->reason != NULL ? generation->reason : "",
                  SLICE_PRINT(cause));
    set_reason(generation, (struct slice){strbuf_text(&text), text.length});
    strbuf_done(&text);
}

void deploy_gone(struct deploy *deploy, uint32_t slot, enum deploy_gone how, struct slice text,
                 uint64_t now)
{
    struct generation *generation = &deploy->slots[slot];
    if (how == DEPLOY_LEFT || generation->state == GENERATION_FREE ||
        (is_sent_away(generation) && !generation->unexplained)) {
        return;
    }
    if (text.length > 0 && generation->unexplained) {
        explain(generation, text);
    } else if (text.length > 0) {
        set_reason(generation, text);
    }
    generation->unexplained = false;
    bool often = crashed_too_often(generation, now);
    if (!is_candidate(generation) || !deploy_somebody_serves(deploy)) {
        return; /* a cold start is tried for as long as somebody tries */
    }
    if (how == DEPLOY_START_FAILED || often || generation->proving) {
        fail(deploy, generation, (struct slice){NULL, 0}, now);
    }
}

/* --- the review --------------------------------------------------------------------------------------------------------- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Whether a candidate may serve now; when not, *next is when time alone may change that. */
static bool is_due(struct deploy *deploy, struct generation *generation, uint64_t now,
                   uint64_t *next)
{
    bool wanted = deploy->settings.promote_auto || generation->ordered;
    if (!deploy_somebody_serves(deploy)) {
        bool first = in_state(deploy, GENERATION_CURRENT) == NULL;
        if ((first || wanted) && now >= deploy->patience_until) {
            return true; /* nobody is there to be careful for */
        }
        *next = sooner(*next, now < deploy->patience_until ? deploy->patience_until : UINT64_MAX);
    }
    if (generation->state == GENERATION_WAITING) {
        return wanted;
    }
    uint64_t soaked = generation->since + deploy->settings.soak;
    if (now < soaked) {
        *next = sooner(*next, soaked);
        return false;
    }
    if (!wanted) {
        set_state(deploy, generation, GENERATION_WAITING, now);
    }
    return wanted;
}

static void review_candidate(struct deploy *deploy, struct generation *generation, uint64_t now,
                             uint64_t *next)
{
    bool enough = ready_of(generation) >= min_ready(deploy);
    if (generation->state == GENERATION_CANDIDATE && enough) {
        set_state(deploy, generation, GENERATION_SOAKING, now);
        generation->proving = true;
    } else if (generation->state != GENERATION_CANDIDATE && !enough) {
        set_state(deploy, generation, GENERATION_CANDIDATE, now); /* one has left in order */
    }
    if (enough && is_due(deploy, generation, now, next)) {
        promote(deploy, generation, now);
        *next = now; /* what else has changed by that */
    } else if (generation->state == GENERATION_CANDIDATE && generation->workers == 0 &&
               !generation->ordered && generation->reason == NULL) {
        forget(deploy, generation, now);
    }
}

static void review_previous(struct deploy *deploy, struct generation *generation, uint64_t now,
                            uint64_t *next)
{
    uint64_t until = generation->since + deploy->settings.rollback_keep;
    until = until > deploy->probation_until ? until : deploy->probation_until;
    if (generation->ordered && ready_of(generation) >= min_ready(deploy)) {
        promote(deploy, generation, now); /* it has served before: nothing to try out */
        *next = now;
    } else if (now >= until && !generation->ordered) {
        set_state(deploy, generation, GENERATION_RETIRED, now);
    } else if (!generation->ordered) {
        *next = sooner(*next, until);
    }
}

static void review_probation(struct deploy *deploy, uint64_t now, uint64_t *next)
{
    const struct generation *previous = in_state(deploy, GENERATION_PREVIOUS);
    if (deploy->probation_until == 0) {
        return;
    }
    if (now >= deploy->probation_until || previous == NULL || ready_of(previous) == 0) {
        end_probation(deploy); /* passed; or nothing is left to go back to */
    } else {
        *next = sooner(*next, deploy->probation_until);
    }
}

/* The current generation has come back: what was restored holds. */
static void trust_restored(struct deploy *deploy)
{
    for (uint32_t i = 0; i < DEPLOY_SLOTS && deploy_somebody_serves(deploy); i++) {
        deploy->slots[i].restored = false;
    }
}

uint64_t deploy_review(struct deploy *deploy, uint64_t now)
{
    uint64_t next;
    trust_restored(deploy);
    do {
        next = UINT64_MAX;
        notice_fall_back(deploy, now);
        review_probation(deploy, now, &next);
        /* The newest first: when two are due, it is the one that is wanted. */
        for (uint64_t below = UINT64_MAX;;) {
            struct generation *newest = NULL;
            for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
                struct generation *generation = &deploy->slots[i];
                if (is_candidate(generation) && generation->sequence < below &&
                    (newest == NULL || generation->sequence > newest->sequence)) {
                    newest = generation;
                }
            }
            if (newest == NULL) {
                break;
            }
            below = newest->sequence;
            review_candidate(deploy, newest, now, &next);
        }
        struct generation *previous = in_state(deploy, GENERATION_PREVIOUS);
        if (previous != NULL) {
            review_previous(deploy, previous, now, &next);
        }
    } while (next <= now);
    forget_old(deploy, now);
    return next;
}

/* --- orders ------------------------------------------------------------------------------------------------------------- */

enum error deploy_order(struct deploy *deploy, struct slice name, uint64_t now)
{
    struct generation *generation = deploy_find(deploy, name);
    if (generation == NULL) {
        generation = take_slot(deploy, name, now);
        if (generation == NULL) {
            return ERROR_LIMIT;
        }
        set_state(deploy, generation, GENERATION_CANDIDATE, now);
    } else if (is_sent_away(generation)) {
        welcome(deploy, generation, now);
    }
    if (generation->state == GENERATION_CURRENT) {
        return ERROR_NONE;
    }
    generation->ordered = true;
    generation->sequence = ++deploy->last_sequence;
    return ERROR_NONE;
}

enum error deploy_roll_back(struct deploy *deploy, uint64_t now, char *text, size_t size)
{
    struct generation *current = in_state(deploy, GENERATION_CURRENT);
    struct generation *previous = in_state(deploy, GENERATION_PREVIOUS);
    if (current == NULL || previous == NULL) {
        snprintf(text, size,
                 "no generation is kept to go back to (rollback_keep says how long one is); start "
                 "workers of the wanted one and deploy it");
        return ERROR_CLOSED;
    }
    if (ready_of(previous) == 0) {
        snprintf(text, size, "generation %s has no ready worker any more; start some and deploy it",
                 previous->name);
        return ERROR_CLOSED;
    }
    end_probation(deploy);
    atomic_store(&deploy->serving, slot_of(deploy, previous));
    fail(deploy, current, SLICE("rolled back by gatewayctl rollback"), now);
    previous->ordered = false;
    set_state(deploy, previous, GENERATION_CURRENT, now);
    return ERROR_NONE;
}

/* --- life --------------------------------------------------------------------------------------------------------------- */

void deploy_init(struct deploy *deploy, const struct deploy_settings *settings,
                 void (*on_change)(void *context, const struct generation *generation,
                                   enum generation_state before),
                 void *context)
{
    memset(deploy, 0, sizeof *deploy);
    deploy->settings = *settings;
    REQUIRE(settings->min_ready > 0);
    deploy->on_change = on_change;
    deploy->context = context;
    atomic_init(&deploy->serving, DEPLOY_NONE);
    atomic_init(&deploy->fallback, DEPLOY_NONE);
}

void deploy_done(struct deploy *deploy)
{
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        mem_free(deploy->slots[i].reason);
        deploy->slots[i].reason = NULL;
    }
}

enum error deploy_restore(struct deploy *deploy, enum generation_state state, struct slice name,
                          struct slice reason, uint64_t now)
{
    bool single = state == GENERATION_CURRENT || state == GENERATION_PREVIOUS;
    if (deploy_find(deploy, name) != NULL || (single && in_state(deploy, state) != NULL)) {
        return ERROR_INVALID;
    }
    struct generation *generation = take_slot(deploy, name, now);
    if (generation == NULL) {
        return ERROR_INVALID;
    }
    if (reason.length > 0) {
        set_reason(generation, reason);
    }
    set_state(deploy, generation, state, now);
    generation->restored = true;
    if (state == GENERATION_CURRENT) {
        atomic_store(&deploy->serving, slot_of(deploy, generation));
        deploy->patience_until = now + PATIENCE;
    }
    return ERROR_NONE;
}
