/* SPDX-License-Identifier: MIT */
/*
 * Generations in words: what became of a deployment, and the state as text, one line for each generation:
 *
 *   gatewayd generations 1
 *   current NAME
 *   failed NAME REASON
 *
 * with previous and retired likewise. In names and reasons every byte up to a space, '%' and DEL is written as %XX.
 */
#include "app/deploy.h"
#include "base/clock.h"

#define HEADING "gatewayd generations 1"
#define REASON_KEPT 4096u /* of a reason, its end */

/* --- words -------------------------------------------------------------------------------------------------------------- */

static enum deploy_outcome describe_candidate(const struct deploy *deploy,
                                              const struct generation *generation, uint64_t now,
                                              struct strbuf *text)
{
    uint64_t soaked = generation->since + deploy->settings.soak;
    switch (generation->state) {
    case GENERATION_SOAKING:
        strbuf_printf(text, "%u ready, soaking for another %u ms", atomic_load(&generation->ready),
                      soaked > now ? (unsigned)((soaked - now) / CLOCK_NS_PER_MS) : 0);
        break;
    case GENERATION_WAITING:
        strbuf_printf(text, "%u ready, waiting for the order (promote = \"manual\")",
                      atomic_load(&generation->ready));
        break;
    default:
        if (!deploy_somebody_serves(deploy) && generation->alive == 0 &&
            generation->reason != NULL) { /* not marked as failed: whoever tries may try again */
            strbuf_append_text(text, generation->reason);
            return DEPLOY_FAILED;
        }
        strbuf_printf(text, "%u of min_ready %u ready, %u connected",
                      atomic_load(&generation->ready), deploy->settings.min_ready,
                      generation->workers);
        break;
    }
    return DEPLOY_PENDING;
}

enum deploy_outcome deploy_outcome(const struct deploy *deploy, struct slice name, uint64_t now,
                                   struct strbuf *text)
{
    const struct generation *generation = deploy_find(deploy, name);
    if (generation == NULL) {
        strbuf_append_text(text, "no worker of it has come");
        return DEPLOY_PENDING;
    }
    switch (generation->state) {
    case GENERATION_CURRENT:
        if (deploy->probation_until > now) {
            strbuf_printf(text, "promoted, on probation for another %u ms",
                          (unsigned)((deploy->probation_until - now) / CLOCK_NS_PER_MS));
            return DEPLOY_PENDING;
        }
        strbuf_append_text(text, "promoted");
        return DEPLOY_DONE;
    case GENERATION_PREVIOUS:
        if (generation->ordered) {
            strbuf_append_text(text, "fewer than min_ready of its workers are left");
            return DEPLOY_PENDING;
        }
        strbuf_append_text(text, "another generation took its place");
        return DEPLOY_FAILED;
    case GENERATION_RETIRED:
        strbuf_append_text(text, "retired: a generation that was wanted later took its place");
        return DEPLOY_FAILED;
    case GENERATION_FAILED:
        strbuf_append_text(text, generation->reason != NULL ? generation->reason : "failed");
        return DEPLOY_FAILED;
    default:
        return describe_candidate(deploy, generation, now, text);
    }
}

/* --- text --------------------------------------------------------------------------------------------------------------- */

static void write_word(struct strbuf *out, struct slice word)
{
    for (size_t i = 0; i < word.length; i++) {
        unsigned char c = (unsigned char)word.data[i];
        if (c <= ' ' || c == '%' || c == 0x7f) {
            strbuf_printf(out, "%%%02X", c);
        } else {
            strbuf_append_char(out, (char)c);
        }
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_word(struct slice word, struct strbuf *out)
{
    for (size_t i = 0; i < word.length; i++) {
        if (word.data[i] != '%') {
            strbuf_append_char(out, word.data[i]);
            continue;
        }
        int high = i + 2 < word.length ? hex_digit(word.data[i + 1]) : -1;
        int low = i + 2 < word.length ? hex_digit(word.data[i + 2]) : -1;
        if (high < 0 || low < 0) {
            return false;
        }
        strbuf_append_char(out, (char)(high << 4 | low));
        i += 2;
    }
    return !out->failed;
}

/* The word that a state has in the text; NULL: it is not kept. */
static const char *kept_as(enum generation_state state)
{
    switch (state) {
    case GENERATION_CURRENT:
        return "current";
    case GENERATION_PREVIOUS:
        return "previous";
    case GENERATION_RETIRED:
        return "retired";
    case GENERATION_FAILED:
        return "failed";
    default:
        return NULL;
    }
}

void deploy_write(const struct deploy *deploy, struct strbuf *out)
{
    strbuf_append_text(out, HEADING "\n");
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        const struct generation *generation = &deploy->slots[i];
        const char *word = kept_as(generation->state);
        struct slice reason = slice_from(generation->reason);
        if (word == NULL) {
            continue;
        }
        if (reason.length > REASON_KEPT) {
            reason = slice_skip(reason, reason.length - REASON_KEPT);
        }
        strbuf_printf(out, "%s ", word);
        write_word(out, slice_from(generation->name));
        if (generation->state == GENERATION_FAILED && reason.length > 0) {
            strbuf_append_char(out, ' ');
            write_word(out, reason);
        }
        strbuf_append_char(out, '\n');
    }
}

static enum error read_line(struct deploy *deploy, struct slice line, uint64_t now)
{
    struct slice rest;
    struct slice word = slice_cut(line, ' ', &rest);
    struct slice reason_text;
    struct slice name_text = slice_cut(rest, ' ', &reason_text);
    struct strbuf name, reason;
    enum error error = ERROR_INVALID;
    strbuf_init(&name);
    strbuf_init(&reason);
    bool good = rest.data != NULL && read_word(name_text, &name) &&
                (reason_text.data == NULL || read_word(reason_text, &reason)) &&
                name.length <= DEPLOY_NAME_MAX &&
                memchr(strbuf_text(&name), '\0', name.length) == NULL;
    for (int i = 0; i < GENERATION_STATE_COUNT && good; i++) {
        const char *kept = kept_as((enum generation_state)i);
        if (kept != NULL && slice_equal(word, slice_from(kept))) {
            error = deploy_restore(deploy, (enum generation_state)i,
                                   (struct slice){strbuf_text(&name), name.length},
                                   (struct slice){strbuf_text(&reason), reason.length}, now);
        }
    }
    strbuf_done(&name);
    strbuf_done(&reason);
    return error;
}

enum error deploy_read(struct deploy *deploy, struct slice text, uint64_t now)
{
    struct slice rest;
    struct slice line = slice_cut(text, '\n', &rest);
    enum error error = slice_equal(line, SLICE(HEADING)) ? ERROR_NONE : ERROR_INVALID;
    while (error == ERROR_NONE && rest.data != NULL && rest.length > 0) {
        line = slice_cut(rest, '\n', &rest);
        error = read_line(deploy, line, now);
    }
    if (error != ERROR_NONE) {
        struct deploy_settings settings = deploy->settings;
        deploy_done(deploy);
        deploy_init(deploy, &settings, deploy->on_change, deploy->context);
    }
    return error;
}
