/* SPDX-License-Identifier: MIT */
/*
 * Types whose value is one string: names, paths, addresses, hosts.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_set.h"
#include "base/run_directory.h"
#include "config/bind.h"
#include "config/option.h"
#include "http/access_log.h"
#include "http/fields.h"

void option_print_text(struct slice text, struct strbuf *out)
{
    strbuf_append_char(out, '"');
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '"' || c == '\\') {
            strbuf_printf(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            strbuf_printf(out, "\\u%04x", c);
        } else if (c == '$' && i + 1 < text.length && text.data[i + 1] == '{') {
            strbuf_append_text(out, "$$"); /* expansion makes one of it again */
        } else {
            strbuf_append_char(out, (char)c);
        }
    }
    strbuf_append_char(out, '"');
}

static void print_string(const struct config *config, const struct option *option,
                         const void *field, struct strbuf *out)
{
    (void)config;
    (void)option;
    option_print_text(*(const struct slice *)field, out);
}

static void read_string(struct option_reader *reader, const struct option *option,
                        const struct toml_node *node, void *field)
{
    struct slice text;

    if (option_string(reader, option, node, &text)) {
        *(struct slice *)field = text;
    }
}

static void read_field_value(struct option_reader *reader, const struct option *option,
                             const struct toml_node *node, void *field)
{
    struct slice text;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (!field_value_valid(text)) {
        option_refuse(
            reader, option, node,
            "is no legal field value; leave out control characters and spaces at its ends");
        return;
    }
    *(struct slice *)field = text;
}

/* --- users ---------------------------------------------------------------------------------------------------------- */

/* Only root can become somebody: for others the name is not looked up. */
static void read_user(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    struct slice text;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (text.length > 0 && geteuid() == 0 && getpwnam(text.data) == NULL) {
        option_refuse(
            reader, option, node,
            "is \"%s\", and there is no such user; make it (useradd --system %s) or name another",
            text.data, text.data);
        return;
    }
    *(struct slice *)field = text;
}

static void read_group(struct option_reader *reader, const struct option *option,
                       const struct toml_node *node, void *field)
{
    struct slice text;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (text.length > 0 && getgrnam(text.data) == NULL) {
        option_refuse(
            reader, option, node,
            "is \"%s\", and there is no such group; make it (groupadd --system %s) or name another",
            text.data, text.data);
        return;
    }
    *(struct slice *)field = text;
}

/* --- paths ---------------------------------------------------------------------------------------------------------- */

static void read_path(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    struct slice text;

    if (option_string(reader, option, node, &text) &&
        option_path(reader, option, node, text, &text)) {
        *(struct slice *)field = text;
    }
}

/* A file that must be there and readable: found out now, not at the first handshake. */
static void read_file(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    struct slice text = {NULL, 0};
    struct stat status;

    read_path(reader, option, node, &text);
    *(struct slice *)field = text;
    if (text.length == 0) {
        return;
    }
    int fd = file_set_open(reader->files, text.data, O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        option_refuse(
            reader, option, node, "is %s, which cannot be read: %s; %s", text.data, strerror(errno),
            errno == EACCES ? "let this user read it, or start as root"
                            : "relative paths start at the directory of the configuration");
        return;
    }
    if (fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
        option_refuse(reader, option, node, "is %s, which is no file; name a PEM file", text.data);
    }
    close(fd);
}

static void read_sink(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    struct slice text, directory;
    struct stat status;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (text.length == 0 || slice_equal(text, SLICE("-")) || slice_equal(text, SLICE("syslog"))) {
        *(struct slice *)field = text;
        return;
    }
    if (!option_path(reader, option, node, text, &text)) {
        return;
    }
    size_t length = (size_t)(strrchr(text.data, '/') - text.data);
    directory = arena_copy(reader->arena, (struct slice){text.data, length > 0 ? length : 1});
    if (directory.data == NULL) {
        reader->no_memory = true;
    } else if (file_set_sealed(reader->files)) {
        *(struct slice *)field = text; /* its directory may be out of reach */
    } else if (stat(directory.data, &status) != 0 || !S_ISDIR(status.st_mode)) {
        option_refuse(reader, option, node, "is %s, but there is no directory %s; make it",
                      text.data, directory.data);
    } else if (stat(text.data, &status) == 0 && S_ISDIR(status.st_mode)) {
        option_refuse(reader, option, node, "is %s, which is a directory; name a file in it",
                      text.data);
    } else {
        *(struct slice *)field = text;
    }
}

static void read_app_socket(struct option_reader *reader, const struct option *option,
                            const struct toml_node *node, void *field)
{
    char directory[256];

    /* The default depends on the app's name: the table's text only shows its form. */
    if (!reader->is_default) {
        read_path(reader, option, node, field);
        return;
    }
    run_directory(directory, sizeof(directory));
    *(struct slice *)field = arena_format(reader->arena, "%s/%.*s.sock",
                                          file_set_note(reader->files, "run directory", directory),
                                          SLICE_PRINT(reader->app_name));
    reader->no_memory |= ((struct slice *)field)->data == NULL;
}

/* --- addresses ------------------------------------------------------------------------------------------------------ */

static void read_bind(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    struct slice text, path;
    struct bind_place place;
    const char *problem;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (slice_starts_with(text, SLICE("unix:")) && text.length > 5 && text.data[5] != '/') {
        if (!option_path(reader, option, node, (struct slice){text.data + 5, text.length - 5},
                         &path)) {
            return;
        }
        text = arena_format(reader->arena, "unix:%s", path.data);
        if (text.data == NULL) {
            reader->no_memory = true;
            return;
        }
    }
    if (text.length == 0 || bind_parse(text, &place, &problem)) {
        *(struct slice *)field = text;
        return;
    }
    option_refuse(reader, option, node, "is \"%s\", which %s; write %s", text.data, problem,
                  BIND_EXPECTED);
}

/* --- hosts and routes ----------------------------------------------------------------------------------------------- */

/* Lower-cases in place; false when it is no host name or "*." before one. */
static bool clean_host(struct slice host)
{
    struct slice name = host;
    char *text = (char *)(uintptr_t)host.data; /* a fresh copy in the arena */

    for (size_t i = 0; i < host.length; i++) {
        text[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
    }
    if (slice_starts_with(name, SLICE("*."))) {
        name = (struct slice){name.data + 2, name.length - 2};
    }
    bool literal = name.length > 0 && name.data[0] == '[';
    if (name.length == 0 || memchr(name.data, '*', name.length) != NULL ||
        (!literal && memchr(name.data, ':', name.length) != NULL)) {
        return false;
    }
    return authority_valid(name) && (!literal || name.data[name.length - 1] == ']');
}

static void read_host(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    struct slice text;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (text.length > 0 && !clean_host(text)) {
        option_refuse(reader, option, node,
                      "is \"%s\"; write a host name without scheme and port, such as "
                      "\"example.com\" or \"*.example.com\"",
                      text.data);
        return;
    }
    *(struct slice *)field = text;
}

static void read_hosts(struct option_reader *reader, const struct option *option,
                       const struct toml_node *node, void *field)
{
    struct slice *items;
    size_t count;

    if (!option_strings(reader, option, node, &items, &count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!clean_host(items[i])) {
            option_refuse(reader, option, toml_at(node, i),
                          "has \"%s\"; write host names without scheme and port, such as "
                          "\"example.com\" or \"*.example.com\"",
                          items[i].data);
            return;
        }
    }
    struct option_list list = {items, count};
    memcpy(field, &list, sizeof(list));
}

/* scheme://host[:port], as browsers write it (RFC 6454 6.2). */
static bool clean_origin(struct slice origin)
{
    const char *colon = origin.length == 0 ? NULL : memchr(origin.data, ':', origin.length);
    size_t scheme = colon != NULL ? (size_t)(colon - origin.data) : 0;
    struct slice rest = {origin.data + scheme, origin.length - scheme};
    return scheme > 0 && slice_starts_with(rest, SLICE("://")) &&
           authority_valid((struct slice){rest.data + 3, rest.length - 3});
}

static void read_origins(struct option_reader *reader, const struct option *option,
                         const struct toml_node *node, void *field)
{
    struct slice *items;
    size_t count;

    if (!option_strings(reader, option, node, &items, &count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!clean_origin(items[i])) {
            option_refuse(reader, option, toml_at(node, i),
                          "has \"%s\"; write scheme, host and port without a path, such as "
                          "\"https://example.com\" or \"http://localhost:3000\"",
                          items[i].data);
            return;
        }
    }
    struct option_list list = {items, count};
    memcpy(field, &list, sizeof(list));
}

static void print_strings(const struct config *config, const struct option *option,
                          const void *field, struct strbuf *out)
{
    struct option_list list;

    (void)config;
    (void)option;
    memcpy(&list, field, sizeof(list));
    strbuf_append_char(out, '[');
    for (size_t i = 0; i < list.count; i++) {
        strbuf_append_text(out, i > 0 ? ", " : "");
        option_print_text(((const struct slice *)list.items)[i], out);
    }
    strbuf_append_char(out, ']');
}

/* Whether a path has an empty segment (not counting the end), "." or "..". */
static bool has_odd_segment(struct slice path)
{
    struct slice rest = slice_skip(path, 1);

    while (rest.length > 0) {
        struct slice name = slice_cut(rest, '/', &rest);
        if (name.length == 0 || slice_equal(name, SLICE(".")) || slice_equal(name, SLICE(".."))) {
            return true;
        }
    }
    return false;
}

static void read_path_prefix(struct option_reader *reader, const struct option *option,
                             const struct toml_node *node, void *field)
{
    struct slice text;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    if (text.data[0] != '/' || strpbrk(text.data, "?#") != NULL) {
        option_refuse(
            reader, option, node,
            "is \"%s\"; write the beginning of a path, such as \"/api/\", without ? and #",
            text.data);
        return;
    }
    if (has_odd_segment(text)) { /* paths of requests are compared without them (app/router.c) */
        option_refuse(
            reader, option, node,
            "is \"%s\", which no path can begin with; leave out empty segments, \".\" and "
            "\"..\"",
            text.data);
        return;
    }
    *(struct slice *)field = text;
}

static void read_warmup(struct option_reader *reader, const struct option *option,
                        const struct toml_node *node, void *field)
{
    struct slice text;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    bool plain = text.length == 0 || text.data[0] == '/';
    for (size_t i = 0; i < text.length; i++) {
        plain &= text.data[i] > ' ' && text.data[i] < 0x7f && text.data[i] != '#';
    }
    if (!plain) {
        option_refuse(reader, option, node,
                      "is \"%s\"; write a path that begins with '/', such as \"/health\"",
                      text.data);
        return;
    }
    *(struct slice *)field = text;
}

/* Stored as its index: apps are read before routes. */
static void read_app_name(struct option_reader *reader, const struct option *option,
                          const struct toml_node *node, void *field)
{
    const struct config *config = reader->config;
    const char *near = NULL;
    size_t distance = SIZE_MAX, found = SIZE_MAX;
    struct slice text;

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    for (size_t i = 0; i < config->app_count; i++) {
        if (slice_equal(config->apps[i].name, text) ||
            (text.length == 0 && config->app_count == 1)) {
            found = i;
        }
        option_nearest(text, config->apps[i].name.data, &near, &distance);
    }
    if (found != SIZE_MAX) {
        memcpy(field, &found, sizeof(found));
    } else if (text.length == 0) {
        option_refuse(reader, option, node, "is missing; name one of the %zu apps",
                      config->app_count);
    } else if (near != NULL) {
        option_refuse(reader, option, node,
                      "is \"%s\", and there is no [apps.%s]; did you mean \"%s\"?", text.data,
                      text.data, near);
    } else {
        option_refuse(reader, option, node,
                      "is \"%s\", and there is no [apps.%s]; add it or name another app", text.data,
                      text.data);
    }
}

static void print_app_name(const struct config *config, const struct option *option,
                           const void *field, struct strbuf *out)
{
    size_t index;

    (void)option;
    memcpy(&index, field, sizeof(index));
    option_print_text(index < config->app_count ? config->apps[index].name : SLICE(""), out);
}

/* --- the access log's format ---------------------------------------------------------------------------------------- */

static void read_access_format(struct option_reader *reader, const struct option *option,
                               const struct toml_node *node, void *field)
{
    struct access_log *log;
    struct slice text;
    char error[512];

    if (!option_string(reader, option, node, &text)) {
        return;
    }
    switch (access_log_new(text, &log, error, sizeof(error))) {
    case ERROR_NONE:
        access_log_free(log);
        *(struct slice *)field = text;
        break;
    case ERROR_NO_MEMORY:
        reader->no_memory = true;
        break;
    default:
        option_refuse(reader, option, node, "is malformed: %s", error);
    }
}

const struct option_type option_type_STRING = {read_string, print_string, "a string", NULL};
const struct option_type option_type_FIELD_VALUE = {read_field_value, print_string,
                                                    "the value of a field as a string", NULL};
const struct option_type option_type_USER = {read_user, print_string, "the name of a user", NULL};
const struct option_type option_type_GROUP = {read_group, print_string, "the name of a group",
                                              NULL};
const struct option_type option_type_ACCESS_FORMAT = {
    read_access_format, print_string, "\"combined\", \"json\" or a format string", NULL};
const struct option_type option_type_PATH = {read_path, print_string, "a path", NULL};
const struct option_type option_type_FILE = {read_file, print_string, "the path of a PEM file",
                                             NULL};
const struct option_type option_type_SINK = {read_sink, print_string, "\"-\", \"syslog\" or a path",
                                             NULL};
const struct option_type option_type_APP_SOCKET = {read_app_socket, print_string, "a path", NULL};
const struct option_type option_type_BIND = {read_bind, print_string, BIND_EXPECTED, NULL};
const struct option_type option_type_ADDRESS = {read_bind, print_string, BIND_EXPECTED, NULL};
const struct option_type option_type_HOST = {read_host, print_string, "a host name", NULL};
const struct option_type option_type_ORIGINS = {read_origins, print_strings, "an array of origins",
                                                NULL};
const struct option_type option_type_HOSTS = {read_hosts, print_strings, "an array of host names",
                                              NULL};
const struct option_type option_type_PATH_PREFIX = {
    read_path_prefix, print_string, "the beginning of a path, such as \"/api/\"", NULL};
const struct option_type option_type_WARMUP = {read_warmup, print_string,
                                               "a path such as \"/health\", or empty", NULL};
const struct option_type option_type_APP_NAME = {read_app_name, print_app_name,
                                                 "the name of an app", NULL};
