/* SPDX-License-Identifier: MIT */
/*
 * Types whose value is a number in the end: booleans, numbers, sizes, durations, file modes and words.
 */
#include <stdio.h>

#include "config/option.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* Smallest first; a value is printed in the largest that divides it. */
static const struct unit size_units[] = {{"KiB", UINT64_C(1) << 10},
                                         {"MiB", UINT64_C(1) << 20},
                                         {"GiB", UINT64_C(1) << 30},
                                         {"TiB", UINT64_C(1) << 40},
                                         {NULL, 0}};
static const struct unit duration_units[] = {
    {"us", UINT64_C(1000)},       {"ms", UINT64_C(1000000)},      {"s", UINT64_C(1000000000)},
    {"m", UINT64_C(60000000000)}, {"h", UINT64_C(3600000000000)}, {NULL, 0}};

/* --- fields --------------------------------------------------------------------------------------------------------- */

static void store(const struct option *option, void *field, uint64_t value)
{
    uint8_t u8 = (uint8_t)value;
    uint16_t u16 = (uint16_t)value;
    uint32_t u32 = (uint32_t)value;

    switch (option->size) {
    case 1:
        memcpy(field, &u8, sizeof(u8));
        break;
    case 2:
        memcpy(field, &u16, sizeof(u16));
        break;
    case 4:
        memcpy(field, &u32, sizeof(u32));
        break;
    default:
        REQUIRE(option->size == 8);
        memcpy(field, &value, sizeof(value));
    }
}

static uint64_t load(const struct option *option, const void *field)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    switch (option->size) {
    case 1:
        memcpy(&u8, field, sizeof(u8));
        return u8;
    case 2:
        memcpy(&u16, field, sizeof(u16));
        return u16;
    case 4:
        memcpy(&u32, field, sizeof(u32));
        return u32;
    default:
        REQUIRE(option->size == 8);
        memcpy(&u64, field, sizeof(u64));
        return u64;
    }
}

/* --- complaints ----------------------------------------------------------------------------------------------------- */

static void refuse_kind(struct option_reader *reader, const struct option *option,
                        const struct toml_node *node)
{
    struct strbuf expected;

    strbuf_init(&expected);
    option_describe(option, &expected);
    option_refuse(reader, option, node, "is %s; write %s", toml_kind_text(node->kind),
                  strbuf_text(&expected));
    strbuf_done(&expected);
}

static void refuse_text(struct option_reader *reader, const struct option *option,
                        const struct toml_node *node)
{
    struct strbuf expected;

    strbuf_init(&expected);
    option_describe(option, &expected);
    option_refuse(reader, option, node, "is \"%.*s\"; write %s", SLICE_PRINT(node->string),
                  strbuf_text(&expected));
    strbuf_done(&expected);
}

static void store_checked(struct option_reader *reader, const struct option *option,
                          const struct toml_node *node, void *field, uint64_t value, uint64_t scale)
{
    struct strbuf expected;

    if (value >= option->least && value <= option->most) {
        store(option, field, value / scale);
        return;
    }
    strbuf_init(&expected);
    option_describe(option, &expected);
    option_refuse(reader, option, node, "is out of range; write %s", strbuf_text(&expected));
    strbuf_done(&expected);
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

static bool word_matches(const struct option *option, struct slice text, unsigned *ret_value)
{
    for (const struct option_word *word = option->type->words; word && word->word; word++) {
        if (slice_equal(text, slice_from(word->word))) {
            *ret_value = word->value;
            return true;
        }
    }
    return false;
}

static void read_bool(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    if (node->kind != TOML_KIND_BOOLEAN) {
        refuse_kind(reader, option, node);
        return;
    }
    store(option, field, node->boolean);
}

static void read_word(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    struct slice text;
    unsigned value;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (word_matches(option, text, &value)) {
        store(option, field, value);
    } else {
        refuse_text(reader, option, node);
    }
}

/* A number in a string with a unit, as "64KiB": false when it is none, or too large to be counted. */
static bool parse_with_unit(struct slice text, const struct unit *units, uint64_t *ret_value)
{
    unsigned long long number;
    size_t digits = 0;

    while (digits < text.length && text.data[digits] >= '0' && text.data[digits] <= '9') {
        digits++;
    }
    struct slice name = {text.data + digits, text.length - digits};
    if (!slice_to_uint((struct slice){text.data, digits}, UINT64_MAX, &number)) {
        return false;
    }
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (slice_equal(name, slice_from(unit->name))) {
            return !__builtin_mul_overflow((uint64_t)number, unit->factor, ret_value);
        }
    }
    return false;
}

/* Numbers, and words beside them; with `units` also text with a unit. */
static void read_number(struct option_reader *reader, const struct option *option,
                        const struct toml_node *node, void *field, const struct unit *units)
{
    unsigned word;
    uint64_t value;
    struct slice text;

    if (node->kind == TOML_KIND_INTEGER) {
        value = node->integer >= 0 ? (uint64_t)node->integer : UINT64_MAX;
        store_checked(reader, option, node, field, value, 1);
        return;
    }
    if (node->kind != TOML_KIND_STRING || (units == NULL && option->type->words == NULL)) {
        refuse_kind(reader, option, node);
        return;
    }
    struct option any_length = *option; /* least and most bound the number, not the text */
    any_length.least = any_length.most = 0;
    if (!option_string(reader, &any_length, node, &text)) {
        return;
    }
    if (word_matches(option, text, &word)) {
        store(option, field, word);
    } else if (units != NULL && parse_with_unit(text, units, &value)) {
        store_checked(reader, option, node, field, value, 1);
    } else {
        refuse_text(reader, option, node);
    }
}

static void read_uint(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    read_number(reader, option, node, field, NULL);
}

static void read_size(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    read_number(reader, option, node, field, size_units);
}

static void read_duration_scaled(struct option_reader *reader, const struct option *option,
                                 const struct toml_node *node, void *field, uint64_t scale)
{
    struct slice text;
    unsigned word;
    uint64_t value;
    struct option any_length = *option;

    any_length.least = any_length.most = 0;
    if (node->kind == TOML_KIND_INTEGER) {
        option_refuse(reader, option, node,
                      "is the plain number %lld; write a duration with its unit, such as \"%llds\" "
                      "or \"%lldms\"",
                      (long long)node->integer, (long long)node->integer, (long long)node->integer);
    } else if (node->kind != TOML_KIND_STRING) {
        refuse_kind(reader, option, node);
    } else if (option_string(reader, &any_length, node, &text)) {
        if (word_matches(option, text, &word)) {
            store(option, field, word);
        } else if (parse_with_unit(text, duration_units, &value)) {
            store_checked(reader, option, node, field, value, scale);
        } else {
            refuse_text(reader, option, node);
        }
    }
}

static void read_duration(struct option_reader *reader, const struct option *option,
                          const struct toml_node *node, void *field)
{
    read_duration_scaled(reader, option, node, field, 1);
}

static void read_duration_us(struct option_reader *reader, const struct option *option,
                             const struct toml_node *node, void *field)
{
    read_duration_scaled(reader, option, node, field, 1000);
}

/* "0660": a string, because a TOML number with a leading zero is an error and 660 would be decimal. */
static void read_mode(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    uint64_t value = 0;
    struct option any_length = *option;
    struct slice text;

    any_length.least = any_length.most = 0;
    if (!option_string(reader, &any_length, node, &text)) {
        return;
    }
    bool good = text.length >= 3 && text.length <= 4;
    for (size_t i = 0; good && i < text.length; i++) {
        good = text.data[i] >= '0' && text.data[i] <= '7';
        value = value * 8 + (uint64_t)(text.data[i] - '0');
    }
    if (good && value <= option->most) {
        store(option, field, value);
    } else {
        refuse_text(reader, option, node);
    }
}

/* --- printing ------------------------------------------------------------------------------------------------------- */

static void print_bool(const struct config *config, const struct option *option, const void *field,
                       struct strbuf *out)
{
    (void)config;
    strbuf_append_text(out, load(option, field) ? "true" : "false");
}

static void print_word(const struct config *config, const struct option *option, const void *field,
                       struct strbuf *out)
{
    (void)config;
    for (const struct option_word *word = option->type->words; word->word != NULL; word++) {
        if (word->value == load(option, field)) {
            strbuf_printf(out, "\"%s\"", word->word);
            return;
        }
    }
    REQUIRE(!"a value without a word");
}

/* Where a word may stand for zero, zero is printed as that word. */
static bool printed_as_word(const struct option *option, uint64_t value, struct strbuf *out)
{
    if (value != 0 || option->type->words == NULL) {
        return false;
    }
    strbuf_printf(out, "\"%s\"", option->type->words[0].word);
    return true;
}

static void append_with_unit(uint64_t value, const struct unit *units, struct strbuf *out)
{
    const struct unit *best = NULL;

    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        best = value % unit->factor == 0 ? unit : best;
    }
    if (best == NULL) {
        strbuf_printf(out, "%llu", (unsigned long long)value);
        return;
    }
    strbuf_printf(out, "\"%llu%s\"", (unsigned long long)(value / best->factor), best->name);
}

static void append_duration(uint64_t value, struct strbuf *out)
{
    if (value == 0) {
        strbuf_append_text(out, "\"0s\"");
    } else {
        append_with_unit(value, duration_units, out);
    }
}

static void append_size(uint64_t value, struct strbuf *out)
{
    if (value == 0) {
        strbuf_append_char(out, '0');
    } else {
        append_with_unit(value, size_units, out);
    }
}

static void print_uint(const struct config *config, const struct option *option, const void *field,
                       struct strbuf *out)
{
    uint64_t value = load(option, field);

    (void)config;
    if (!printed_as_word(option, value, out)) {
        strbuf_printf(out, "%llu", (unsigned long long)value);
    }
}

static void print_size(const struct config *config, const struct option *option, const void *field,
                       struct strbuf *out)
{
    (void)config;
    if (!printed_as_word(option, load(option, field), out)) {
        append_size(load(option, field), out);
    }
}

static void print_duration(const struct config *config, const struct option *option,
                           const void *field, struct strbuf *out)
{
    (void)config;
    if (!printed_as_word(option, load(option, field), out)) {
        append_duration(load(option, field), out);
    }
}

static void print_duration_us(const struct config *config, const struct option *option,
                              const void *field, struct strbuf *out)
{
    (void)config;
    append_duration(load(option, field) * 1000, out);
}

static void print_mode(const struct config *config, const struct option *option, const void *field,
                       struct strbuf *out)
{
    (void)config;
    strbuf_printf(out, "\"%04o\"", (unsigned)load(option, field));
}

/* --- describing ----------------------------------------------------------------------------------------------------- */

static void describe_words(const struct option *option, struct strbuf *out)
{
    const struct option_word *word = option->type->words;

    for (; word->word != NULL; word++) {
        strbuf_printf(out, "%s\"%s\"",
                      word == option->type->words ? ""
                      : word[1].word              ? ", "
                                                  : " or ",
                      word->word);
    }
}

void option_describe(const struct option *option, struct strbuf *out)
{
    if (option->type->read == read_uint) {
        strbuf_printf(out, "a whole number from %llu to %llu", (unsigned long long)option->least,
                      (unsigned long long)option->most);
    } else if (option->type->read == read_size) {
        strbuf_append_text(out, "a size from ");
        append_size(option->least, out);
        strbuf_append_text(out, " to ");
        append_size(option->most, out);
        strbuf_append_text(out, ", such as 65536 or \"64KiB\"");
    } else if (option->type->read == read_duration || option->type->read == read_duration_us) {
        strbuf_append_text(out, "a duration from ");
        append_duration(option->least, out);
        strbuf_append_text(out, " to ");
        append_duration(option->most, out);
        strbuf_append_text(out, ", such as \"30s\"");
    } else if (option->type->read == read_word) {
        describe_words(option, out);
        return;
    } else {
        strbuf_append_text(out, option->type->expected);
        return;
    }
    if (option->type->words != NULL) {
        strbuf_printf(out, ", or \"%s\"", option->type->words[0].word);
    }
}

static const struct option_word word_off[] = {{"off", 0}, {NULL, 0}};
static const struct option_word word_close[] = {{"close", 0}, {NULL, 0}};
static const struct option_word word_auto[] = {{"auto", 0}, {NULL, 0}};
static const struct option_word words_log_level[] = {{"debug", LOG_DEBUG},
                                                     {"info", LOG_INFO},
                                                     {"warning", LOG_WARNING},
                                                     {"error", LOG_ERROR},
                                                     {NULL, 0}};
static const struct option_word words_tls_version[] = {{"1.2", 0x0303}, {"1.3", 0x0304}, {NULL, 0}};
static const struct option_word words_verify[] = {{"none", TLS_VERIFY_NONE},
                                                  {"optional", TLS_VERIFY_OPTIONAL},
                                                  {"required", TLS_VERIFY_REQUIRED},
                                                  {NULL, 0}};
static const struct option_word words_retry[] = {{"never", APP_RETRY_NEVER},
                                                 {"unstarted", APP_RETRY_UNSTARTED},
                                                 {"safe", APP_RETRY_SAFE},
                                                 {"idempotent", APP_RETRY_IDEMPOTENT},
                                                 {NULL, 0}};
static const struct option_word words_promote[] = {{"auto", true}, {"manual", false}, {NULL, 0}};
static const struct option_word words_proxy_protocol[] = {{"off", PROXY_PROTOCOL_OFF},
                                                          {"v1", PROXY_PROTOCOL_V1},
                                                          {"v2", PROXY_PROTOCOL_V2},
                                                          {"any", PROXY_PROTOCOL_ANY},
                                                          {NULL, 0}};
static const struct option_word words_proxy_style[] = {{"auto", PROXY_HEADERS_AUTO},
                                                       {"x-forwarded", PROXY_HEADERS_X_FORWARDED},
                                                       {"forwarded", PROXY_HEADERS_FORWARDED},
                                                       {NULL, 0}};

const struct option_type option_type_BOOL = {read_bool, print_bool, "true or false", NULL};
const struct option_type option_type_UINT = {read_uint, print_uint, "", NULL};
const struct option_type option_type_UINT_OFF = {read_uint, print_uint, "", word_off};
const struct option_type option_type_UINT_AUTO = {read_uint, print_uint, "", word_auto};
const struct option_type option_type_SIZE = {read_size, print_size, "", NULL};
const struct option_type option_type_SIZE_AUTO = {read_size, print_size, "", word_auto};
const struct option_type option_type_DURATION = {read_duration, print_duration, "", NULL};
const struct option_type option_type_DURATION_OFF = {read_duration, print_duration, "", word_off};
const struct option_type option_type_DURATION_CLOSE = {read_duration, print_duration, "",
                                                       word_close};
const struct option_type option_type_DURATION_US = {read_duration_us, print_duration_us, "", NULL};
const struct option_type option_type_MODE = {
    read_mode, print_mode, "permissions in octal, such as \"0660\", at most \"0777\"", NULL};
const struct option_type option_type_LOG_LEVEL = {read_word, print_word, "", words_log_level};
const struct option_type option_type_TLS_VERSION = {read_word, print_word, "", words_tls_version};
const struct option_type option_type_VERIFY = {read_word, print_word, "", words_verify};
const struct option_type option_type_RETRY = {read_word, print_word, "", words_retry};
const struct option_type option_type_PROMOTE = {read_word, print_word, "", words_promote};
const struct option_type option_type_PROXY_PROTOCOL = {read_word, print_word, "",
                                                       words_proxy_protocol};
const struct option_type option_type_PROXY_STYLE = {read_word, print_word, "", words_proxy_style};
