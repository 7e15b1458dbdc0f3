/* SPDX-License-Identifier: MIT */
/*
 * Types whose value is a list or a table of its own: protocols, networks, fields, user ids, certificates.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_set.h"
#include "config/config_extra.h"
#include "config/option.h"
#include "http/fields.h"

static void store_list(void *field, const void *items, size_t count)
{
    struct option_list list = {items, count};
    memcpy(field, &list, sizeof(list));
}

static struct option_list load_list(const void *field)
{
    struct option_list list;
    memcpy(&list, field, sizeof(list));
    return list;
}

/* --- protocols of a listener: three bools side by side ---------------------------------------------------------------- */

#define PROTOCOLS_HINT "write [\"h3\", \"h2\", \"http/1.1\"] or some of them"

static void read_protocols(struct option_reader *reader, const struct option *option,
                           const struct toml_node *node, void *field)
{
    bool *protocols = field; /* h1, h2, h3 */
    struct slice *items;
    size_t count;

    if (!option_strings(reader, option, node, &items, &count)) {
        return;
    }
    if (count == 0) {
        option_refuse(reader, option, node, "is empty; " PROTOCOLS_HINT);
    }
    for (size_t i = 0; i < count; i++) {
        const struct toml_node *place = toml_at(node, i);
        if (slice_equal(items[i], SLICE("http/1.1"))) {
            protocols[0] = true;
        } else if (slice_equal(items[i], SLICE("h2"))) {
            protocols[1] = true;
        } else if (slice_equal(items[i], SLICE("h3"))) {
            protocols[2] = true;
        } else {
            option_refuse(reader, option, place, "has \"%s\"; " PROTOCOLS_HINT, items[i].data);
        }
    }
}

static void print_protocols(const struct config *config, const struct option *option,
                            const void *field, struct strbuf *out)
{
    const bool *protocols = field;

    (void)config;
    (void)option;
    static const char *const names[] = {"http/1.1", "h2", "h3"};
    const char *separator = "";
    strbuf_append_char(out, '[');
    for (size_t i = 3; i-- > 0;) {
        if (protocols[i]) {
            strbuf_printf(out, "%s\"%s\"", separator, names[i]);
            separator = ", ";
        }
    }
    strbuf_append_char(out, ']');
}

/* --- what a trusted proxy may say ------------------------------------------------------------------------------------- */

static void read_proxy_use(struct option_reader *reader, const struct option *option,
                           const struct toml_node *node, void *field)
{
    struct proxy_headers_settings use;
    struct slice *items;
    size_t count;

    if (!option_strings(reader, option, node, &items, &count)) {
        return;
    }
    memcpy(&use, field, sizeof(use)); /* it has more than this option sets */
    use.use_for = use.use_proto = use.use_host = use.use_prefix = false;
    for (size_t i = 0; i < count; i++) {
        if (slice_equal(items[i], SLICE("for"))) {
            use.use_for = true;
        } else if (slice_equal(items[i], SLICE("proto"))) {
            use.use_proto = true;
        } else if (slice_equal(items[i], SLICE("host"))) {
            use.use_host = true;
        } else if (slice_equal(items[i], SLICE("prefix"))) {
            use.use_prefix = true;
        } else {
            option_refuse(reader, option, toml_at(node, i),
                          "has \"%s\"; write some of \"for\", \"proto\", \"host\", \"prefix\"",
                          items[i].data);
        }
    }
    memcpy(field, &use, sizeof(use));
}

static void print_proxy_use(const struct config *config, const struct option *option,
                            const void *field, struct strbuf *out)
{
    struct proxy_headers_settings use;
    const char *separator = "";

    (void)config;
    (void)option;
    memcpy(&use, field, sizeof(use));
    const struct {
        bool on;
        const char *name;
    } parts[] = {{use.use_for, "for"},
                 {use.use_proto, "proto"},
                 {use.use_host, "host"},
                 {use.use_prefix, "prefix"}};
    strbuf_append_char(out, '[');
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].on) {
            strbuf_printf(out, "%s\"%s\"", separator, parts[i].name);
            separator = ", ";
        }
    }
    strbuf_append_char(out, ']');
}

/* --- networks: kept as written too, for printing ------------------------------------------------------------------------ */

static void read_networks(struct option_reader *reader, const struct option *option,
                          const struct toml_node *node, void *field)
{
    struct slice *items;
    size_t count;

    if (!option_strings(reader, option, node, &items, &count)) {
        return;
    }
    struct addr_network *networks = option_alloc(reader, count, sizeof(*networks));
    if (networks == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (addr_network_parse(items[i], &networks[i]) != ERROR_NONE) {
            option_refuse(reader, option, toml_at(node, i),
                          "has \"%s\"; write an address (\"192.0.2.1\"), a network without bits "
                          "behind its prefix "
                          "(\"10.0.0.0/8\"), \"unix\" or \"*\"",
                          items[i].data);
            return;
        }
    }
    store_list(field, networks, count);
    config_extra_of(reader->config)->trusted_text = items;
}

static void print_networks(const struct config *config, const struct option *option,
                           const void *field, struct strbuf *out)
{
    size_t count = load_list(field).count;

    (void)option;
    strbuf_append_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        strbuf_append_text(out, i > 0 ? ", " : "");
        option_print_text(config->extra->trusted_text[i], out);
    }
    strbuf_append_char(out, ']');
}

/* --- response fields ---------------------------------------------------------------------------------------------------- */

static struct slice lower_copy(struct option_reader *reader, struct slice text)
{
    struct slice copy = arena_copy(reader->arena, text);
    char *bytes = (char *)(uintptr_t)copy.data;

    for (size_t i = 0; i < copy.length; i++) {
        bytes[i] = (char)(bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] + 32 : bytes[i]);
    }
    reader->no_memory |= copy.data == NULL;
    return copy;
}

/* Why a name may not be among the added fields, or NULL. */
static const char *field_problem(struct slice name)
{
    if (!field_name_valid(name)) {
        return "is no legal field name";
    }
    if (field_is_connection_specific(name) || slice_equal(name, SLICE("content-length"))) {
        return "belongs to one message or connection and cannot be added to all";
    }
    if (slice_equal(name, SLICE("server")) || slice_equal(name, SLICE("date"))) {
        return "has options of its own: http.server_header, http.server_name and http.date_header";
    }
    return NULL;
}

static bool read_one_field(struct option_reader *reader, const struct option *option,
                           const struct toml_node *child, struct field *ret_field)
{
    struct option value = *option;

    ret_field->name = lower_copy(reader, child->key);
    const char *problem = reader->no_memory ? NULL : field_problem(ret_field->name);
    if (problem != NULL) {
        option_refuse(reader, option, child, "has the field \"%.*s\", which %s; leave it out",
                      SLICE_PRINT(child->key), problem);
        return false;
    }
    value.most = 8192;
    if (!option_string(reader, &value, child, &ret_field->value)) {
        return false;
    }
    if (!field_value_valid(ret_field->value)) {
        option_refuse(reader, option, child,
                      "has an illegal value for \"%.*s\"; leave out control characters and spaces "
                      "at its ends",
                      SLICE_PRINT(child->key));
        return false;
    }
    return true;
}

static void read_fields(struct option_reader *reader, const struct option *option,
                        const struct toml_node *node, void *field)
{
    size_t count = 0;

    if (node->kind != TOML_KIND_TABLE) {
        option_refuse(reader, option, node, "is %s; write %s", toml_kind_text(node->kind),
                      option->type->expected);
        return;
    }
    struct field *fields = option_alloc(reader, node->count, sizeof(*fields));
    if (fields == NULL) {
        return;
    }
    for (const struct toml_node *child = node->first; child != NULL; child = child->next) {
        if (!read_one_field(reader, option, child, &fields[count])) {
            return;
        }
        count++;
    }
    store_list(field, fields, count);
}

static void print_fields(const struct config *config, const struct option *option,
                         const void *field, struct strbuf *out)
{
    struct option_list list = load_list(field);
    const struct field *fields = list.items;

    (void)config;
    (void)option;
    strbuf_append_text(out, "{");
    for (size_t i = 0; i < list.count; i++) {
        strbuf_append_text(out, i > 0 ? ", " : " ");
        option_print_text(fields[i].name, out);
        strbuf_append_text(out, " = ");
        option_print_text(fields[i].value, out);
    }
    strbuf_append_text(out, list.count > 0 ? " }" : "}");
}

/* --- user ids ------------------------------------------------------------------------------------------------------------- */

static void read_uids(struct option_reader *reader, const struct option *option,
                      const struct toml_node *node, void *field)
{
    size_t count = 0;

    if (node->kind != TOML_KIND_ARRAY) {
        option_refuse(reader, option, node, "is %s; write %s", toml_kind_text(node->kind),
                      option->type->expected);
        return;
    }
    uid_t *uids = option_alloc(reader, node->count, sizeof(*uids));
    if (uids == NULL) {
        return;
    }
    for (const struct toml_node *child = node->first; child != NULL; child = child->next) {
        /* The largest uid_t means "none" to the kernel. */
        if (child->kind != TOML_KIND_INTEGER || child->integer < 0 ||
            child->integer >= UINT32_MAX) {
            option_refuse(reader, option, child, "has an element that is no user id; write %s",
                          option->type->expected);
            return;
        }
        uids[count++] = (uid_t)child->integer;
    }
    store_list(field, uids, count);
}

static void print_uids(const struct config *config, const struct option *option, const void *field,
                       struct strbuf *out)
{
    struct option_list list = load_list(field);
    const uid_t *uids = list.items;

    (void)config;
    (void)option;
    strbuf_append_char(out, '[');
    for (size_t i = 0; i < list.count; i++) {
        strbuf_printf(out, "%s%u", i > 0 ? ", " : "", (unsigned)uids[i]);
    }
    strbuf_append_char(out, ']');
}

/* --- certificates --------------------------------------------------------------------------------------------------------- */

/* The first line of the password file. */
static void read_password(struct option_reader *reader, const struct option *option,
                          const struct toml_node *node,
                          struct tls_certificate_settings *certificate)
{
    char text[1024];
    struct stat status;

    if (certificate->password_file.length == 0) {
        return;
    }
    int fd = file_set_open(reader->files, certificate->password_file.data, O_NONBLOCK);
    bool is_file = fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    ssize_t length = is_file ? read(fd, text, sizeof(text)) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (length < 0) {
        return; /* the option itself has complained */
    }
    struct slice rest;
    struct slice line = slice_cut((struct slice){text, (size_t)length}, '\n', &rest);
    if (line.length > 0 && line.data[line.length - 1] == '\r') {
        line.length--;
    }
    if (line.length == 0 || (rest.data == NULL && (size_t)length == sizeof(text))) {
        option_refuse(reader, option, toml_find(node, SLICE("password_file")),
                      "has a password_file whose first line is %s; write the key's password there",
                      line.length == 0 ? "empty" : "too long");
        return;
    }
    certificate->key_password = arena_copy(reader->arena, line);
    explicit_bzero(text, sizeof(text));
    reader->no_memory |= certificate->key_password.data == NULL;
}

static void read_certificates(struct option_reader *reader, const struct option *option,
                              const struct toml_node *node, void *field)
{
    struct slice prefix = reader->prefix;
    const struct toml_node *table = reader->table;
    bool is_default = reader->is_default;
    size_t count = 0;

    if (node->kind != TOML_KIND_ARRAY) {
        option_refuse(reader, option, node, "is %s; write %s", toml_kind_text(node->kind),
                      option->type->expected);
        return;
    }
    struct tls_certificate_settings *certificates =
        option_alloc(reader, node->count, sizeof(*certificates));
    if (certificates == NULL) {
        return;
    }
    for (const struct toml_node *child = node->first; child != NULL; child = child->next) {
        reader->prefix = arena_format(reader->arena, "tls.certificates[%zu]", count);
        reader->no_memory |= reader->prefix.data == NULL;
        option_read_section(reader, SECTION_certificate, child, &certificates[count]);
        reader->prefix = prefix;
        read_password(reader, option, child, &certificates[count]);
        count++;
    }
    reader->table = table;
    reader->is_default = is_default;
    store_list(field, certificates, count);
}

static void print_certificates(const struct config *config, const struct option *option,
                               const void *field, struct strbuf *out)
{
    struct option_list list = load_list(field);
    const struct tls_certificate_settings *certificates = list.items;

    (void)option;
    strbuf_append_char(out, '[');
    for (size_t i = 0; i < list.count; i++) {
        const char *separator = "";
        strbuf_printf(out, "%s{ ", i > 0 ? ", " : "");
        for (size_t j = 0; j < option_count; j++) {
            const struct option *part = &option_table[j];
            if (part->section == SECTION_certificate) {
                strbuf_printf(out, "%s%s = ", separator, part->key);
                part->type->print(config, part, (const char *)&certificates[i] + part->offset, out);
                separator = ", ";
            }
        }
        strbuf_append_text(out, " }");
    }
    strbuf_append_char(out, ']');
}

const struct option_type option_type_PROTOCOLS = {read_protocols, print_protocols,
                                                  "an array of protocols: [\"http/1.1\"]", NULL};
const struct option_type option_type_PROXY_USE = {
    read_proxy_use, print_proxy_use, "an array of \"for\", \"proto\", \"host\", \"prefix\"", NULL};
const struct option_type option_type_NETWORKS = {read_networks, print_networks,
                                                 "an array of addresses and networks", NULL};
const struct option_type option_type_FIELDS = {
    read_fields, print_fields, "a table of fields: { x-frame-options = \"DENY\" }", NULL};
const struct option_type option_type_UIDS = {read_uids, print_uids, "an array of user ids: [1000]",
                                             NULL};
const struct option_type option_type_CERTIFICATES = {
    read_certificates, print_certificates,
    "an array of certificates: [{ cert = \"cert.pem\", key = \"key.pem\" }]", NULL};
