/* SPDX-License-Identifier: MIT */
/*
 * Options as data: schema.def as tables, and the types that read a TOML value into a field and print a field as TOML. Internal to
 * config/.
 */
#ifndef GATEWAY_CONFIG_OPTION_H
#define GATEWAY_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "config/config.h"
#include "config/report.h"
#include "config/toml_tree.h"

enum option_section {
#define SECTION(id, name, shape, type, doc) SECTION_##id,
#include "config/schema.def"
    SECTION_COUNT
};

enum section_shape {
    SHAPE_TABLE,  /* [name] */
    SHAPE_TABLES, /* [[name]] */
    SHAPE_NAMED,  /* [name.X] */
    SHAPE_INLINE  /* { } within another option */
};

struct section {
    const char *id, *name;
    enum section_shape shape;
    const char *doc;
};

struct option;

/* What reading needs beside the value. */
struct option_reader {
    struct config *config;
    struct arena *arena; /* the configuration's */
    struct file_set *files;
    struct report report;
    const char *directory;         /* absolute: relative paths start here */
    struct toml_node *defaults;    /* a table per section id */
    struct slice prefix;           /* of names in complaints: "gateway", "listen[0]", "apps.main" */
    struct slice app_name;         /* of the app that is being read */
    const struct toml_node *table; /* being read: where complaints about a default point to */
    bool is_default;               /* the value that is being read is the option's default */
    bool no_memory;
};

/* A word that a value may be, and what it stands for. */
struct option_word {
    const char *word;
    unsigned value;
};

/* How a type reads, prints and describes itself. `read` complains to the reader's report and leaves the field alone, or sets it. */
struct option_type {
    void (*read)(struct option_reader *reader, const struct option *option,
                 const struct toml_node *node, void *field);
    void (*print)(const struct config *config, const struct option *option, const void *field,
                  struct strbuf *out);
    const char *expected;            /* "a string": for types without a range or words */
    const struct option_word *words; /* of an enumeration; of a number: one word that is 0 */
};

struct option {
    enum option_section section;
    const char *key;
    const struct option_type *type;
    const char *initial; /* default as TOML; NULL: required */
    uint64_t least, most;
    size_t offset, size; /* of the field in the section's struct */
    const char *doc, *breach, *counter;
};

/* An option of the design that this version does not have; key "": the whole section. */
struct option_later {
    const char *section, *key, *sentence;
};

extern const struct section option_sections[SECTION_COUNT];
extern const struct option option_table[];
extern const size_t option_count;
extern const struct option_later option_later_table[];
extern const size_t option_later_count;

/* How an option changes that a reload cannot change; NULL: a reload can. */
const char *option_fix(const struct option *option);
/* The section with this name (not an inline one), or NULL. */
const struct section *option_find_section(struct slice name);
/* The sentence for an option or section that does not exist yet, or NULL. */
const char *option_find_later(struct slice section, struct slice key);
/* The key of `section` nearest to a mistyped one, or NULL when none is near; likewise for sections. */
const char *option_suggest_key(enum option_section section, struct slice key);
const char *option_suggest_section(struct slice name);
/* The candidate within two edits (one in short words) of `text` with the smallest distance: keeps the best of many calls. */
void option_nearest(struct slice text, const char *candidate, const char **best,
                    size_t *best_distance);

/* Reads one table into the struct at `base`: every option of the section, its default where it is left out (`node` may be NULL);
 * complains about unknown keys. */
void option_read_section(struct option_reader *reader, enum option_section section,
                         const struct toml_node *node, void *base);
/* Appends what a value of the option may be: "a whole number from 0 to 64". */
void option_describe(const struct option *option, struct strbuf *out);

/* --- the types ------------------------------------------------------------------------------------------------------ */

/* clang-format off */
#define OPTION_TYPES(TYPE) \
    TYPE(BOOL) TYPE(UINT) TYPE(UINT_OFF) TYPE(UINT_AUTO) TYPE(SIZE) TYPE(SIZE_AUTO) \
    TYPE(DURATION) TYPE(DURATION_OFF) TYPE(DURATION_CLOSE) TYPE(DURATION_US) TYPE(MODE) \
    TYPE(LOG_LEVEL) TYPE(TLS_VERSION) TYPE(VERIFY) TYPE(RETRY) TYPE(PROMOTE) TYPE(PROXY_PROTOCOL) \
    TYPE(STRING) TYPE(FIELD_VALUE) TYPE(USER) TYPE(GROUP) TYPE(ACCESS_FORMAT) TYPE(PATH) TYPE(FILE) \
    TYPE(SINK) TYPE(APP_SOCKET) TYPE(BIND) TYPE(ADDRESS) TYPE(HOST) TYPE(HOSTS) TYPE(ORIGINS) \
    TYPE(PATH_PREFIX) TYPE(WARMUP) TYPE(APP_NAME) TYPE(PROTOCOLS) TYPE(PROXY_USE) TYPE(PROXY_STYLE) \
    TYPE(NETWORKS) TYPE(FIELDS) TYPE(UIDS) TYPE(CERTIFICATES)
/* clang-format on */

#define TYPE(name) extern const struct option_type option_type_##name;
OPTION_TYPES(TYPE)
#undef TYPE

/* What reading shares (option_read.c). Each complains itself and returns false, or sets its result. */
PRINTF_LIKE(4, 5)
void option_refuse(struct option_reader *reader, const struct option *option,
                   const struct toml_node *node, const char *format, ...);
/* The string with ${NAME} expanded, its length within the option's bounds, without NUL. */
bool option_string(struct option_reader *reader, const struct option *option,
                   const struct toml_node *node, struct slice *ret_string);
/* A string as an absolute path. */
bool option_path(struct option_reader *reader, const struct option *option,
                 const struct toml_node *node, struct slice text, struct slice *ret_path);
/* Arena memory; notes that there is none. */
void *option_alloc(struct option_reader *reader, size_t count, size_t size) MUST_CHECK;
/* The elements of an array of strings, expanded. */
bool option_strings(struct option_reader *reader, const struct option *option,
                    const struct toml_node *node, struct slice **ret_items, size_t *ret_count);
void option_print_text(struct slice text, struct strbuf *out);
/* Types that list things keep pointer and count side by side. */
struct option_list {
    const void *items;
    size_t count;
};

#endif
