/* SPDX-License-Identifier: MIT */
/*
 * The generations of one app: which one serves, which may take over, which are sent away. It is told what happens, with the time,
 * and decides; it sends nothing and knows no worker. Belongs to loop 0, but for the atomics, which every loop reads.
 */
#ifndef GATEWAY_APP_DEPLOY_H
#define GATEWAY_APP_DEPLOY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/strbuf.h"

#define DEPLOY_NAME_MAX 128
#define DEPLOY_SLOTS 32        /* generations known at once */
#define DEPLOY_RETIRED_KEPT 16 /* of these: retired or failed */
#define DEPLOY_CRASHES 3       /* so many within DEPLOY_CRASH_TIME fail a candidate */
#define DEPLOY_NONE UINT32_MAX

enum generation_state {
    GENERATION_FREE,      /* the slot is not used */
    GENERATION_CANDIDATE, /* fewer than min_ready of its workers are ready */
    GENERATION_SOAKING,   /* min_ready are, and have to stay so for `soak` */
    GENERATION_WAITING,   /* they have; promote = "manual": waits for the order */
    GENERATION_CURRENT,   /* serves */
    GENERATION_PREVIOUS,  /* served before: kept without requests, to go back to */
    GENERATION_RETIRED,   /* sent away, and refused when it comes late */
    GENERATION_FAILED,    /* the same, because it failed; `reason` says how */
    GENERATION_STATE_COUNT
};

struct generation {
    char name[DEPLOY_NAME_MAX + 1];
    enum generation_state state; /* only deploy.c's set_state writes it */
    bool ordered;                /* gatewayctl deploy asked for it */
    bool proving;                /* a candidate that had min_ready ready: it may not lose any */
    bool restored;     /* known from before the start; whether that still holds is not sure */
    bool unexplained;  /* failed; why, the next deploy_gone says */
    uint64_t sequence; /* greater: wanted later */
    uint64_t since;    /* when it came into its state */
    uint64_t crashes[DEPLOY_CRASHES];
    unsigned crash_count;
    char *
        reason; /* why it failed, or the last thing that a worker of it died of; NULL: nothing. Owned. */
    /* The registry's figures, which the caller sets before deploy_admit and deploy_review. */
    unsigned workers, alive; /* connected; of these starting or ready */
    _Atomic uint32_t ready;  /* any loop */
};

struct deploy_settings {
    uint32_t min_ready; /* at least 1 */
    uint64_t soak, probation, rollback_keep;
    bool promote_auto;
};

struct deploy {
    struct deploy_settings settings; /* may be changed between two calls */
    struct generation slots[DEPLOY_SLOTS];
    /* The slot that serves: the one store that promotes. DEPLOY_NONE: none yet. */
    _Atomic uint32_t serving;
    /* While the serving generation is on probation: the slot to go back to at once when it loses a worker. */
    _Atomic uint32_t fallback;
    uint64_t last_sequence;
    uint64_t probation_until, patience_until;
    /* Told after each change of a state, for logs and the state file. */
    void (*on_change)(void *context, const struct generation *generation,
                      enum generation_state before);
    void *context;
};

/* How a worker ended. */
enum deploy_gone {
    DEPLOY_LEFT,         /* in order */
    DEPLOY_START_FAILED, /* the app did not start, or not in time, or its warm-up failed */
    DEPLOY_LOST
};

/* What became of a deployment that was asked for. */
enum deploy_outcome { DEPLOY_PENDING, DEPLOY_DONE, DEPLOY_FAILED };

void deploy_init(struct deploy *deploy, const struct deploy_settings *settings,
                 void (*on_change)(void *context, const struct generation *generation,
                                   enum generation_state before),
                 void *context);
void deploy_done(struct deploy *deploy);

/* A worker of this generation has come: the slot that it counts for. ERROR_CLOSED: it is retired or failed, and is to be sent away.
 * ERROR_AGAIN: so it was before the start, and nobody of the current one is there yet: it may ask again. ERROR_LIMIT: DEPLOY_SLOTS
 * generations have workers. */
enum error deploy_admit(struct deploy *deploy, struct slice name, uint64_t now,
                        uint32_t *ret_slot) MUST_CHECK;
/* A worker has gone; `text` says why, empty: nothing known. */
void deploy_gone(struct deploy *deploy, uint32_t slot, enum deploy_gone how, struct slice text,
                 uint64_t now);
/* Does what has become due. Returns when to call again if nothing happens before: a time, UINT64_MAX: never. */
uint64_t deploy_review(struct deploy *deploy, uint64_t now);
/* From any loop: a worker of the slot is lost. On probation its generation serves no longer from this moment on; true: so it was. */
bool deploy_fall_back(struct deploy *deploy, uint32_t slot);

/* gatewayctl deploy: this generation is wanted, whatever became of it before. ERROR_LIMIT: no slot. */
enum error deploy_order(struct deploy *deploy, struct slice name, uint64_t now) MUST_CHECK;
/* gatewayctl rollback: back to the previous generation. On failure `text` (256 bytes) says why. */
enum error deploy_roll_back(struct deploy *deploy, uint64_t now, char *text,
                            size_t size) MUST_CHECK;
/* What became of it, as a sentence too. */
enum deploy_outcome deploy_outcome(const struct deploy *deploy, struct slice name, uint64_t now,
                                   struct strbuf *text);

/* The state as text, one line for each generation, for the state file and for the next server on upgrade; and back, into a fresh
 * `deploy`. ERROR_INVALID: not this text; then nothing was taken. */
void deploy_write(const struct deploy *deploy, struct strbuf *out);
enum error deploy_read(struct deploy *deploy, struct slice text, uint64_t now) MUST_CHECK;

/* For deploy_text.c: a generation by its name, or NULL; whether the serving one has workers, so that candidates are held to what they
 * promise; one that was known before, into a fresh `deploy` (ERROR_INVALID: twice, or too many). */
struct generation *deploy_find(const struct deploy *deploy, struct slice name);
bool deploy_somebody_serves(const struct deploy *deploy);
enum error deploy_restore(struct deploy *deploy, enum generation_state state, struct slice name,
                          struct slice reason, uint64_t now) MUST_CHECK;

const char *generation_state_name(enum generation_state state);
/* Whether the table allows this change of state. */
bool generation_may_become(enum generation_state from, enum generation_state to);
/* Ready workers of the generation that serves. Any loop. */
static inline uint32_t deploy_ready(const struct deploy *deploy)
{
    uint32_t slot = atomic_load_explicit(&deploy->serving, memory_order_acquire);
    return slot == DEPLOY_NONE
               ? 0
               : atomic_load_explicit(&deploy->slots[slot].ready, memory_order_relaxed);
}

#endif
