/* SPDX-License-Identifier: MIT */
/*
 * Walks the sections of a document: tables, arrays of tables and named tables, each read by the rows of schema.def.
 */
#include "config/config_extra.h"
#include "config/option.h"

static void set_prefix(struct option_reader *reader, struct slice prefix)
{
    reader->no_memory |= prefix.data == NULL;
    reader->prefix = prefix.data != NULL ? prefix : SLICE("");
}

/* Sections that are of no use to anybody: mistyped, of a later version, or of the wrong shape. */
static void refuse_unknown_sections(struct option_reader *reader, const struct toml_node *tree)
{
    for (const struct toml_node *child = tree->first; child != NULL; child = child->next) {
        const struct section *section = option_find_section(child->key);
        const char *later = option_find_later(child->key, SLICE(""));
        const char *near = option_suggest_section(child->key);
        if (section == NULL && later != NULL) {
            report_key(&reader->report, child, "[%.*s]: %s; leave the section out",
                       SLICE_PRINT(child->key), later);
        } else if (section == NULL && near != NULL) {
            report_key(&reader->report, child, "there is no section \"%.*s\"; did you mean \"%s\"?",
                       SLICE_PRINT(child->key), near);
        } else if (section == NULL) {
            report_key(&reader->report, child,
                       "there is no section \"%.*s\"; docs/CONFIGURATION.md lists the sections",
                       SLICE_PRINT(child->key));
        } else if (section->shape == SHAPE_TABLES && child->kind != TOML_KIND_ARRAY) {
            report_key(&reader->report, child,
                       "%s is %s; write [[%s]] with double brackets, once for each", section->name,
                       toml_kind_text(child->kind), section->name);
        } else if (section->shape == SHAPE_TABLE && child->kind != TOML_KIND_TABLE) {
            report_key(&reader->report, child, "%s is %s; write [%s] once", section->name,
                       toml_kind_text(child->kind), section->name);
        }
    }
}

static void read_tables(struct option_reader *reader, const struct toml_node *tree)
{
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (option_sections[i].shape == SHAPE_TABLE) {
            const struct toml_node *node = toml_find(tree, slice_from(option_sections[i].name));
            if (node != NULL && node->kind != TOML_KIND_TABLE) {
                node = NULL; /* complained about already */
            }
            set_prefix(reader, slice_from(option_sections[i].name));
            option_read_section(reader, (enum option_section)i, node, reader->config);
        }
    }
}

/* The elements of an array of tables as an array of structs in the arena. */
static void *read_array(struct option_reader *reader, const struct toml_node *tree,
                        enum option_section section, size_t size, size_t *ret_count)
{
    const char *name = option_sections[section].name;
    const struct toml_node *array = toml_find(tree, slice_from(name));
    size_t count = 0;

    if (array != NULL && array->kind != TOML_KIND_ARRAY) {
        array = NULL;
    }
    char *items = option_alloc(reader, array ? array->count : 0, size);
    if (items == NULL) {
        return NULL;
    }
    for (const struct toml_node *node = array ? array->first : NULL; node != NULL;
         node = node->next) {
        set_prefix(reader, arena_format(reader->arena, "%s[%zu]", name, count));
        option_read_section(reader, section, node, items + count * size);
        count++;
    }
    *ret_count = count;
    return items;
}

/* Letters, digits, '-' and '_': the name becomes a file name and a metric's label. */
static bool app_name_valid(struct slice name)
{
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_')) {
            return false;
        }
    }
    return name.length > 0 && name.length <= 64;
}

static void read_app(struct option_reader *reader, const struct toml_node *node,
                     struct app_settings *app)
{
    if (!app_name_valid(node->key)) {
        report_key(&reader->report, node,
                   "apps.%.*s: the name of an app has at most 64 letters, digits, '-' and '_'; "
                   "choose another",
                   SLICE_PRINT(node->key));
    }
    app->name = reader->app_name = node->key;
    set_prefix(reader, arena_format(reader->arena, "apps.%.*s", SLICE_PRINT(node->key)));
    option_read_section(reader, SECTION_app, node, app);
    if (app->state_file.length == 0) {
        struct slice stem = app->socket;
        if (stem.length > 5 && memcmp(stem.data + stem.length - 5, ".sock", 5) == 0) {
            stem.length -= 5;
        }
        app->state_file = arena_format(reader->arena, "%.*s.state", SLICE_PRINT(stem));
        reader->no_memory |= app->state_file.data == NULL;
    }
}

static void read_apps(struct option_reader *reader, const struct toml_node *tree)
{
    const struct toml_node *table = toml_find(tree, SLICE("apps"));
    struct config *config = reader->config;

    if (table != NULL && table->kind != TOML_KIND_TABLE) {
        report_key(&reader->report, table, "apps is %s; write [apps.NAME] once for each app",
                   toml_kind_text(table->kind));
        table = NULL;
    }
    struct app_settings *apps = option_alloc(reader, table ? table->count : 0, sizeof(*apps));
    if (apps == NULL) {
        return;
    }
    for (const struct toml_node *node = table ? table->first : NULL; node != NULL;
         node = node->next) {
        if (node->kind != TOML_KIND_TABLE) {
            report_key(&reader->report, node,
                       "apps.%.*s is %s; options of an app stand in [apps.NAME], [apps.main] say",
                       SLICE_PRINT(node->key), toml_kind_text(node->kind));
            continue;
        }
        read_app(reader, node, &apps[config->app_count++]);
    }
    config->apps = apps;
}

void config_read_sections(struct option_reader *reader, const struct toml_node *tree)
{
    struct config *config = reader->config;

    refuse_unknown_sections(reader, tree);
    read_tables(reader, tree);
    config->listeners = read_array(reader, tree, SECTION_listen, sizeof(struct listener_settings),
                                   &config->listener_count);
    read_apps(reader, tree);
    config->routes = read_array(reader, tree, SECTION_route, sizeof(struct route_settings),
                                &config->route_count);
}
