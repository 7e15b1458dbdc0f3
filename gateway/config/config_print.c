/* SPDX-License-Identifier: MIT */
/*
 * The effective configuration as TOML, by the same table that reads it.
 */
#include "config/config.h"
#include "config/describe.h"
#include "config/option.h"

static void print_options(const struct config *config, enum option_section section,
                          const void *base, bool annotated, struct strbuf *out)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        if (option->section != section) {
            continue;
        }
        if (annotated) {
            describe_option_comment(option, out);
        }
        strbuf_printf(out, "%s = ", option->key);
        option->type->print(config, option, (const char *)base + option->offset, out);
        strbuf_append_char(out, '\n');
    }
}

static void print_section(const struct config *config, enum option_section id, bool annotated,
                          struct strbuf *out)
{
    const struct section *section = &option_sections[id];

    switch (section->shape) {
    case SHAPE_TABLE:
        strbuf_printf(out, "\n[%s]\n", section->name);
        print_options(config, id, config, annotated, out);
        break;
    case SHAPE_TABLES:
        for (size_t i = 0; id == SECTION_listen && i < config->listener_count; i++) {
            strbuf_printf(out, "\n[[%s]]\n", section->name);
            print_options(config, id, &config->listeners[i], annotated && i == 0, out);
        }
        for (size_t i = 0; id == SECTION_route && i < config->route_count; i++) {
            strbuf_printf(out, "\n[[%s]]\n", section->name);
            print_options(config, id, &config->routes[i], annotated && i == 0, out);
        }
        break;
    case SHAPE_NAMED:
        for (size_t i = 0; i < config->app_count; i++) {
            strbuf_printf(out, "\n[%s.%s]\n", section->name, config->apps[i].name.data);
            print_options(config, id, &config->apps[i], annotated && i == 0, out);
        }
        break;
    case SHAPE_INLINE:
        break; /* printed within its option */
    }
}

void config_print(const struct config *config, bool annotated, struct strbuf *out)
{
    strbuf_printf(out, "# The effective configuration%s%s\n", config->path.length > 0 ? " of " : "",
                  config->path.length > 0 ? config->path.data : "");
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        print_section(config, (enum option_section)i, annotated, out);
    }
}
