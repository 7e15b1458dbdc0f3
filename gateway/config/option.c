/* SPDX-License-Identifier: MIT */
/*
 * The tables that schema.def makes, and looking things up in them.
 */
#include "config/option.h"

#include <string.h>

#define US(n) (UINT64_C(1000) * (n))
#define MS(n) (UINT64_C(1000000) * (n))
#define SECONDS(n) (UINT64_C(1000000000) * (n))
#define MINUTES(n) (SECONDS(60) * (n))
#define HOURS(n) (MINUTES(60) * (n))
#define KIB(n) (UINT64_C(1024) * (n))
#define MIB(n) (KIB(1024) * (n))
#define GIB(n) (MIB(1024) * (n))
#define TIB(n) (GIB(1024) * (n))
#define REQUIRED NULL

const struct section option_sections[SECTION_COUNT] = {
#define SECTION(id, name, shape, type, doc) [SECTION_##id] = {#id, name, SHAPE_##shape, doc},
#include "config/schema.def"
};

/* The struct of each section, so that a row needs to name only the field. */
#define SECTION(id, name, shape, type, doc)                                                        \
    struct section_##id##_target {                                                                 \
        type fields;                                                                               \
    };
#include "config/schema.def"

const struct option option_table[] = {
#define OPTION(section, key, type, initial, least, most, field, doc, breach, counter)              \
    {SECTION_##section,                                                                            \
     #key,                                                                                         \
     &option_type_##type,                                                                          \
     initial,                                                                                      \
     least,                                                                                        \
     most,                                                                                         \
     offsetof(struct section_##section##_target, fields.field),                                    \
     sizeof(((struct section_##section##_target *)NULL)->fields.field),                            \
     doc,                                                                                          \
     breach,                                                                                       \
     counter},
#include "config/schema.def"
};
const size_t option_count = sizeof(option_table) / sizeof(option_table[0]);

const struct option_later option_later_table[] = {
#define LATER(section, key, sentence) {section, key, sentence},
#include "config/schema.def"
};
const size_t option_later_count = sizeof(option_later_table) / sizeof(option_later_table[0]);

static const struct option_fixed {
    enum option_section section;
    const char *key, *how;
} fixed_table[] = {
#define FIXED(section, key, how) {SECTION_##section, #key, how},
#include "config/schema.def"
};

const char *option_fix(const struct option *option)
{
    for (size_t i = 0; i < sizeof(fixed_table) / sizeof(fixed_table[0]); i++) {
        if (fixed_table[i].section == option->section &&
            strcmp(fixed_table[i].key, option->key) == 0) {
            return fixed_table[i].how;
        }
    }
    return NULL;
}

const struct section *option_find_section(struct slice name)
{
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (option_sections[i].shape != SHAPE_INLINE &&
            slice_equal(name, slice_from(option_sections[i].name))) {
            return &option_sections[i];
        }
    }
    return NULL;
}

const char *option_find_later(struct slice section, struct slice key)
{
    for (size_t i = 0; i < option_later_count; i++) {
        const struct option_later *later = &option_later_table[i];
        if (slice_equal(section, slice_from(later->section)) &&
            slice_equal(key, slice_from(later->key))) {
            return later->sentence;
        }
    }
    return NULL;
}

/* --- did you mean --------------------------------------------------------------------------------------------------- */

#define SUGGEST_MAX 40 /* longer words get no suggestion */

static size_t least_of(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Edits (insert, delete, replace, swap of neighbours) between two words. */
static size_t distance(struct slice a, struct slice b)
{
    size_t rows[3][SUGGEST_MAX + 1];

    for (size_t j = 0; j <= b.length; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a.length; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *older = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= b.length; j++) {
            size_t change = a.data[i - 1] == b.data[j - 1] ? 0 : 1;
            now[j] = least_of(before[j] + 1, now[j - 1] + 1, before[j - 1] + change);
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] &&
                a.data[i - 2] == b.data[j - 1] && older[j - 2] + 1 < now[j]) {
                now[j] = older[j - 2] + 1;
            }
        }
    }
    return rows[a.length % 3][b.length];
}

void option_nearest(struct slice text, const char *candidate, const char **best,
                    size_t *best_distance)
{
    struct slice word = slice_from(candidate);

    if (text.length > SUGGEST_MAX || word.length > SUGGEST_MAX) {
        return;
    }
    size_t edits = distance(text, word);
    size_t allowed = text.length > 4 ? 2 : text.length > 2 ? 1 : 0;
    if (word.length > 3 && text.length > 3 &&
        (slice_starts_with(word, text) || slice_starts_with(text, word)) && edits > allowed) {
        edits = allowed; /* "header" for "header_block" */
    }
    if (edits <= allowed && edits < *best_distance) {
        *best = candidate;
        *best_distance = edits;
    }
}

const char *option_suggest_key(enum option_section section, struct slice key)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    for (size_t i = 0; i < option_count; i++) {
        if (option_table[i].section == section) {
            option_nearest(key, option_table[i].key, &best, &best_distance);
        }
    }
    return best;
}

const char *option_suggest_section(struct slice name)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (option_sections[i].shape != SHAPE_INLINE) {
            option_nearest(name, option_sections[i].name, &best, &best_distance);
        }
    }
    return best;
}
