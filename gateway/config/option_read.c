/* SPDX-License-Identifier: MIT */
/*
 * Reading a section by the table, and what all types share: complaints, strings with ${NAME}, paths.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file_set.h"
#include "base/run_directory.h"
#include "config/option.h"

void option_refuse(struct option_reader *reader, const struct option *option,
                   const struct toml_node *node, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (reader->is_default) {
        node = reader->table;
    }
    report_value(&reader->report, node, "%.*s.%s %s", SLICE_PRINT(reader->prefix), option->key,
                 text);
}

void *option_alloc(struct option_reader *reader, size_t count, size_t size)
{
    /* One more than asked for: an empty list still has an address. */
    void *memory = arena_calloc(reader->arena, count + 1, size);

    if (memory == NULL) {
        reader->no_memory = true;
    }
    return memory;
}

/* --- strings -------------------------------------------------------------------------------------------------------- */

static bool is_name_char(char c, bool first)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

/* Appends the value of the variable whose "${NAME}" starts at `text` and returns the length of that, 0 after a complaint. */
static size_t expand_one(struct option_reader *reader, const struct option *option,
                         const struct toml_node *node, struct slice text, struct strbuf *out)
{
    char name[128], directory[256];
    size_t length = 0;

    while (2 + length < text.length && length + 1 < sizeof(name) &&
           is_name_char(text.data[2 + length], length == 0)) {
        name[length] = text.data[2 + length];
        length++;
    }
    name[length] = '\0';
    if (length == 0 || 2 + length >= text.length || text.data[2 + length] != '}') {
        option_refuse(reader, option, node,
                      "has a malformed \"${\"; write ${NAME} for an environment variable, or $${ "
                      "for the text \"${\"");
        return 0;
    }
    const char *value = getenv(name);
    if (strcmp(name, "RUN_DIRECTORY") == 0) {
        run_directory(directory, sizeof(directory));
        value = file_set_note(reader->files, "run directory", directory);
    }
    if (value == NULL) {
        option_refuse(
            reader, option, node,
            "names the environment variable %s, which is not set; set it or write the value itself",
            name);
        return 0;
    }
    strbuf_append_text(out, value);
    return length + 3;
}

/* The length of the UTF-8 character at `text`, 0 when it is none (RFC 3629 4). */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    unsigned char c = text[0];
    size_t length = c < 0x80                ? 1
                    : c >= 0xc2 && c < 0xe0 ? 2
                    : c >= 0xe0 && c < 0xf0 ? 3
                    : c >= 0xf0 && c < 0xf5 ? 4
                                            : 0;

    if (length == 0 || length > left) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (c == 0xe0 && text[1] < 0xa0) || (c == 0xf0 && text[1] < 0x90);
    bool beyond = (c == 0xed && text[1] >= 0xa0) || (c == 0xf4 && text[1] >= 0x90);
    return overlong || beyond ? 0 : length;
}

/* A TOML file is UTF-8; an override or an environment variable may be anything. */
static bool is_utf8(struct slice text)
{
    size_t length = 1;

    for (size_t i = 0; i < text.length && length > 0; i += length) {
        length = utf8_length((const unsigned char *)text.data + i, text.length - i);
    }
    return length > 0;
}

/* ${NAME} is the variable's value, $${ is the text "${". */
static bool expand(struct option_reader *reader, const struct option *option,
                   const struct toml_node *node, struct slice *ret_string)
{
    struct slice text = node->string;
    struct strbuf out;
    bool good = true;

    strbuf_init(&out);
    for (size_t i = 0; i < text.length && good;) {
        struct slice rest = {text.data + i, text.length - i};
        if (slice_starts_with(rest, SLICE("$${"))) {
            strbuf_append_text(&out, "${");
            i += 3;
        } else if (slice_starts_with(rest, SLICE("${"))) {
            size_t taken = expand_one(reader, option, node, rest, &out);
            good = taken > 0;
            i += taken;
        } else {
            strbuf_append_char(&out, text.data[i++]);
        }
    }
    if (good && !is_utf8((struct slice){strbuf_text(&out), out.length})) {
        option_refuse(reader, option, node, "is not UTF-8; write it in UTF-8");
        good = false;
    }
    if (good) {
        *ret_string = arena_copy(reader->arena, (struct slice){strbuf_text(&out), out.length});
        if (out.failed || ret_string->data == NULL) {
            reader->no_memory = true;
            good = false;
        }
    }
    strbuf_done(&out);
    return good;
}

bool option_string(struct option_reader *reader, const struct option *option,
                   const struct toml_node *node, struct slice *ret_string)
{
    struct slice text;

    if (node->kind != TOML_KIND_STRING) {
        struct strbuf expected;
        strbuf_init(&expected);
        option_describe(option, &expected);
        option_refuse(reader, option, node, "is %s; write %s", toml_kind_text(node->kind),
                      strbuf_text(&expected));
        strbuf_done(&expected);
        return false;
    }
    if (!expand(reader, option, node, &text)) {
        return false;
    }
    if (text.length > 0 && memchr(text.data, '\0', text.length) != NULL) {
        option_refuse(reader, option, node, "has a NUL character; leave it out");
        return false;
    }
    if (option->most > 0 && text.length > option->most) {
        option_refuse(reader, option, node, "has %zu characters; at most %llu are allowed",
                      text.length, (unsigned long long)option->most);
        return false;
    }
    if (text.length < option->least) {
        option_refuse(reader, option, node, "is empty; write %s", option->type->expected);
        return false;
    }
    *ret_string = text;
    return true;
}

bool option_path(struct option_reader *reader, const struct option *option,
                 const struct toml_node *node, struct slice text, struct slice *ret_path)
{
    struct slice path = text;

    if (text.length > 0 && text.data[0] != '/') {
        path = arena_format(reader->arena, "%s/%.*s", reader->directory, SLICE_PRINT(text));
        if (path.data == NULL) {
            reader->no_memory = true;
            return false;
        }
    }
    if (option->most > 0 && path.length > option->most) {
        option_refuse(reader, option, node,
                      "is the path %.*s of %zu characters; at most %llu are allowed",
                      SLICE_PRINT(path), path.length, (unsigned long long)option->most);
        return false;
    }
    *ret_path = path;
    return true;
}

bool option_strings(struct option_reader *reader, const struct option *option,
                    const struct toml_node *node, struct slice **ret_items, size_t *ret_count)
{
    size_t count = 0;

    if (node->kind != TOML_KIND_ARRAY) {
        option_refuse(reader, option, node, "is %s; write %s", toml_kind_text(node->kind),
                      option->type->expected);
        return false;
    }
    struct slice *items = option_alloc(reader, node->count, sizeof(*items));
    if (items == NULL) {
        return false;
    }
    for (const struct toml_node *child = node->first; child != NULL; child = child->next) {
        if (child->kind != TOML_KIND_STRING) {
            option_refuse(reader, option, child, "has an element that is %s; write %s",
                          toml_kind_text(child->kind), option->type->expected);
            return false;
        }
        if (!expand(reader, option, child, &items[count])) {
            return false;
        }
        count++;
    }
    *ret_items = items;
    *ret_count = count;
    return true;
}

/* --- sections ------------------------------------------------------------------------------------------------------- */

static bool has_key(enum option_section section, struct slice key)
{
    for (size_t i = 0; i < option_count; i++) {
        if (option_table[i].section == section &&
            slice_equal(key, slice_from(option_table[i].key))) {
            return true;
        }
    }
    return false;
}

/* The section that has this key, when it is only one and there is only one of it. */
static const char *section_with(struct slice key)
{
    const char *found = NULL;

    for (size_t i = 0; i < option_count; i++) {
        const struct section *section = &option_sections[option_table[i].section];
        if (section->shape == SHAPE_TABLE && slice_equal(key, slice_from(option_table[i].key))) {
            if (found != NULL) {
                return NULL;
            }
            found = section->name;
        }
    }
    return found;
}

static void refuse_unknown_keys(struct option_reader *reader, enum option_section section,
                                const struct toml_node *node)
{
    const char *name = option_sections[section].name;

    for (const struct toml_node *child = node->first; child != NULL; child = child->next) {
        if (has_key(section, child->key)) {
            continue;
        }
        const char *later = option_find_later(slice_from(name), child->key);
        const char *near = option_suggest_key(section, child->key), *other;
        if (later != NULL) {
            report_key(&reader->report, child, "%.*s.%.*s: %s; leave it out",
                       SLICE_PRINT(reader->prefix), SLICE_PRINT(child->key), later);
        } else if (near != NULL) {
            report_key(&reader->report, child, "%.*s has no option \"%.*s\"; did you mean \"%s\"?",
                       SLICE_PRINT(reader->prefix), SLICE_PRINT(child->key), near);
        } else if ((other = section_with(child->key)) != NULL) {
            report_key(&reader->report, child, "%.*s has no option \"%.*s\"; it belongs in [%s]",
                       SLICE_PRINT(reader->prefix), SLICE_PRINT(child->key), other);
        } else {
            report_key(&reader->report, child,
                       "%.*s has no option \"%.*s\"; docs/CONFIGURATION.md lists the options",
                       SLICE_PRINT(reader->prefix), SLICE_PRINT(child->key));
        }
    }
}

void option_read_section(struct option_reader *reader, enum option_section section,
                         const struct toml_node *node, void *base)
{
    const struct toml_node *defaults =
        toml_find(reader->defaults, slice_from(option_sections[section].id));

    if (node != NULL && node->kind != TOML_KIND_TABLE) {
        report_value(&reader->report, node, "%.*s is %s; write a table of options",
                     SLICE_PRINT(reader->prefix), toml_kind_text(node->kind));
        return;
    }
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        if (option->section != section) {
            continue;
        }
        const struct toml_node *value = toml_find(node, slice_from(option->key));
        if (value == NULL && option->initial == NULL) {
            option_refuse(reader, option, node, "is missing; add it: %s", option->type->expected);
            continue;
        }
        reader->table = node;
        reader->is_default = value == NULL;
        value = value != NULL ? value : toml_find(defaults, slice_from(option->key));
        REQUIRE(value != NULL);
        option->type->read(reader, option, value, (char *)base + option->offset);
        reader->is_default = false;
    }
    if (node != NULL) {
        refuse_unknown_keys(reader, section, node);
    }
}
