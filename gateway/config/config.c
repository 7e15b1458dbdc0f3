/* SPDX-License-Identifier: MIT */
/*
 * Loading a configuration, its life, and what follows from "auto". The work on single options is option*.c's, on sections
 * config_sections.c's, on contradictions config_check.c's.
 */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_set.h"
#include "base/mem.h"
#include "config/config_extra.h"
#include "config/option.h"
#include "config/resources.h"
#include "config/toml_reader.h"

#define CONFIG_MAGIC UINT32_C(0x434F4E46)
#define CONFIG_ARENA_BLOCK 16384
#define CONNECTIONS_MAX 10000000u /* the upper end of gateway.max_connections */

/* --- life ----------------------------------------------------------------------------------------------------------- */

static struct config *config_new(void)
{
    struct config *config = mem_calloc(1, sizeof(*config));

    if (config == NULL) {
        return NULL;
    }
    config->magic = CONFIG_MAGIC;
    atomic_init(&config->references, 1);
    arena_init(&config->arena, CONFIG_ARENA_BLOCK);
    config->extra = arena_calloc(&config->arena, 1, sizeof(*config->extra));
    if (config->extra == NULL) {
        config_unref(config);
        return NULL;
    }
    return config;
}

struct config *config_ref(struct config *config)
{
    REQUIRE_OBJECT(config, CONFIG_MAGIC);
    atomic_fetch_add_explicit(&config->references, 1, memory_order_relaxed);
    return config;
}

void config_unref(struct config *config)
{
    if (config == NULL) {
        return;
    }
    REQUIRE_OBJECT(config, CONFIG_MAGIC);
    if (atomic_fetch_sub_explicit(&config->references, 1, memory_order_acq_rel) > 1) {
        return;
    }
    config->magic = MAGIC_FREED;
    arena_done(&config->arena);
    mem_free(config);
}

struct config_extra *config_extra_of(struct config *config)
{
    return (struct config_extra *)(uintptr_t)config->extra;
}

/* --- loading -------------------------------------------------------------------------------------------------------- */

/* The defaults of all options as a document of its own, so that they are read just as what a person writes. */
static enum error read_defaults(struct arena *arena, struct toml_node **ret_defaults)
{
    struct strbuf text;
    struct toml_fault fault;
    enum error error = ERROR_NO_MEMORY;

    strbuf_init(&text);
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        strbuf_printf(&text, "[%s]\n", option_sections[i].id);
        for (size_t j = 0; j < option_count; j++) {
            const struct option *option = &option_table[j];
            if (option->section == (enum option_section)i && option->initial != NULL) {
                strbuf_printf(&text, "%s = %s\n", option->key, option->initial);
            }
        }
    }
    if (!text.failed) {
        error = toml_read(arena, (struct slice){text.data, text.length}, ret_defaults, &fault);
        REQUIRE(error != ERROR_INVALID);
    }
    strbuf_done(&text);
    return error;
}

static enum error apply_overrides(struct option_reader *reader, struct toml_node *tree,
                                  const char *const *overrides, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[256];
        struct slice copy = arena_copy(reader->arena, slice_from(overrides[i]));
        enum error error = copy.data != NULL
                               ? toml_override(reader->arena, tree, copy.data, text, sizeof(text))
                               : ERROR_NO_MEMORY;
        if (error == ERROR_NO_MEMORY) {
            return error;
        }
        if (error != ERROR_NONE) {
            struct toml_node node = {.from_override = copy.data};
            report_value(&reader->report, &node, "%s", text);
        }
    }
    return ERROR_NONE;
}

/* Everything after the parser; complaints are in the report afterwards. */
static enum error fill(struct option_reader *reader, struct slice text,
                       const char *const *overrides, size_t override_count)
{
    struct toml_node *tree;
    struct toml_fault fault;

    enum error error = read_defaults(reader->arena, &reader->defaults);
    if (error != ERROR_NONE) {
        return error;
    }
    error = toml_read(reader->arena, text, &tree, &fault);
    if (error == ERROR_INVALID) {
        bool bare = strstr(fault.text, "could not determine value type") != NULL;
        report_line(&reader->report, fault.line, fault.column, "this is no TOML: %s%s", fault.text,
                    bare ? "; a string needs quotes" : "");
        return ERROR_NONE;
    }
    if (error == ERROR_NONE) {
        error = apply_overrides(reader, tree, overrides, override_count);
    }
    if (error != ERROR_NONE) {
        return error;
    }
    config_extra_of(reader->config)->tree = tree;
    config_read_sections(reader, tree);
    if (!reader->no_memory) {
        config_check(reader, tree);
    }
    return reader->no_memory ? ERROR_NO_MEMORY : ERROR_NONE;
}

/* Where a configuration comes from. */
struct source {
    struct file_set *files; /* NULL: the file system as it is */
    struct slice text;
    const char *name, *directory;
    bool is_file;
    const char *const *overrides;
    size_t override_count;
};

static enum error load(const struct source *source, struct config **ret_config,
                       struct strbuf *errors)
{
    struct config *config = config_new();

    if (config == NULL) {
        return ERROR_NO_MEMORY;
    }
    struct slice name_copy = arena_copy(&config->arena, slice_from(source->name));
    struct option_reader reader = {.config = config,
                                   .files = source->files,
                                   .arena = &config->arena,
                                   .report = {.out = errors, .file = name_copy.data},
                                   .directory = source->directory,
                                   .prefix = SLICE("")};
    enum error error = ERROR_NO_MEMORY;
    if (name_copy.data != NULL) {
        config_extra_of(config)->file = name_copy.data;
        error = fill(&reader, source->text, source->overrides, source->override_count);
    }
    if (error == ERROR_NONE && source->is_file) {
        const char *base = strrchr(source->name, '/');
        config->path = arena_format(&config->arena, "%s/%s", source->directory,
                                    base ? base + 1 : source->name);
        error = config->path.data != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    }
    report_end(&reader.report);
    if (error == ERROR_NONE && reader.report.count > 0) {
        error = errors->failed ? ERROR_NO_MEMORY : ERROR_INVALID;
    }
    if (error != ERROR_NONE) {
        config_unref(config);
        return error;
    }
    *ret_config = config;
    return ERROR_NONE;
}

enum error config_load_text(struct slice text, const char *name, const char *directory,
                            const char *const *overrides, size_t override_count,
                            struct config **ret_config, struct strbuf *errors)
{
    const struct source source = {.text = text,
                                  .name = name,
                                  .directory = directory,
                                  .overrides = overrides,
                                  .override_count = override_count};
    return load(&source, ret_config, errors);
}

/* The whole file; complains to `errors` in a line of its own. */
static enum error read_file(struct file_set *files, const char *path, struct strbuf *text,
                            struct strbuf *errors)
{
    char buffer[16384];
    struct stat status;
    ssize_t length = -1;

    int fd = file_set_open(files, path, O_NOCTTY);
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        close(fd);
        fd = -1;
        errno = EISDIR;
    }
    if (fd >= 0) {
        while ((length = read(fd, buffer, sizeof(buffer))) > 0 && text->length <= CONFIG_FILE_MAX) {
            strbuf_append(text, buffer, (size_t)length);
        }
        int saved = errno;
        close(fd);
        errno = saved;
    }
    if (length < 0) {
        strbuf_printf(errors, "%s: cannot read it: %s; name the configuration with -c FILE\n", path,
                      strerror(errno));
        return ERROR_INVALID;
    }
    if (text->length > CONFIG_FILE_MAX) {
        strbuf_printf(errors, "%s: it is larger than 1 MiB; is it a gateway.toml?\n", path);
        return ERROR_INVALID;
    }
    return text->failed ? ERROR_NO_MEMORY : ERROR_NONE;
}

enum error config_load_files(struct file_set *files, const char *path, const char *const *overrides,
                             size_t override_count, struct config **ret_config,
                             struct strbuf *errors)
{
    char directory[PATH_MAX], resolved[PATH_MAX];
    struct strbuf text;
    struct source source = {.files = files,
                            .text = SLICE(""),
                            .name = "gateway.toml",
                            .directory = directory,
                            .overrides = overrides,
                            .override_count = override_count};

    if (path == NULL) {
        if (getcwd(directory, sizeof(directory)) == NULL) {
            snprintf(directory, sizeof(directory), "/");
        }
        return load(&source, ret_config, errors);
    }
    strbuf_init(&text);
    enum error error = read_file(files, path, &text, errors);
    if (error == ERROR_NONE) {
        /* A path relative to the file stays where it is when the file is a link: to the link's directory. */
        snprintf(resolved, sizeof(resolved), "%s", path);
        char *slash = strrchr(resolved, '/');
        snprintf(slash ? slash + 1 : resolved, 2, ".");
        if (!file_set_resolve(files, resolved, directory)) {
            strbuf_printf(errors, "%s: cannot find its directory: %s\n", path, strerror(errno));
            error = ERROR_INVALID;
        }
    }
    if (error == ERROR_NONE) {
        source.text = (struct slice){text.data, text.length};
        source.name = path;
        source.is_file = true;
        error = load(&source, ret_config, errors);
    }
    strbuf_done(&text);
    return error;
}

enum error config_load(const char *path, const char *const *overrides, size_t override_count,
                       struct config **ret_config, struct strbuf *errors)
{
    return config_load_files(NULL, path, overrides, override_count, ret_config, errors);
}

const char *config_default_path(void)
{
    static const char *const candidates[] = {"gateway.toml", "/etc/gatewayd/gateway.toml"};

    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
        if (access(candidates[i], F_OK) == 0) {
            return candidates[i];
        }
    }
    return NULL;
}

/* --- asking --------------------------------------------------------------------------------------------------------- */

void config_place(const struct config *config, const char *option, char *out, size_t size)
{
    report_place(config->extra->file, toml_walk(config->extra->tree, slice_from(option)), out,
                 size);
}

unsigned config_threads(const struct config *config)
{
    unsigned cpus = resources_cpus() / 4;

    if (config->gateway.threads > 0) {
        return config->gateway.threads;
    }
    return cpus < 1 ? 1 : cpus > 4 ? 4 : cpus;
}

unsigned config_max_connections(const struct config *config)
{
    uint64_t limit = resources_descriptors();

    if (config->gateway.max_connections > 0) {
        return config->gateway.max_connections;
    }
    if (limit <= UINT64_C(2) * RESOURCES_DESCRIPTORS_RESERVED) {
        return RESOURCES_DESCRIPTORS_RESERVED; /* too few for anything: start, and meet EMFILE */
    }
    limit -= RESOURCES_DESCRIPTORS_RESERVED;
    return limit > CONNECTIONS_MAX ? CONNECTIONS_MAX : (unsigned)limit;
}

uint64_t config_buffer_memory(const struct config *config)
{
    return config->gateway.buffer_memory > 0 ? config->gateway.buffer_memory
                                             : resources_memory() / 4;
}
