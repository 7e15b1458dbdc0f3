/* SPDX-License-Identifier: MIT */
/*
 * Words from the table: wrapped comments, the annotated example and the Markdown reference.
 */
#include "config/describe.h"

#include "config/option.h"
#include "http/access_log.h"

#define COMMENT_WIDTH 118

/* Appends text as comment lines, broken at spaces. */
static void append_comment(struct slice text, struct strbuf *out)
{
    while (text.length > 0) {
        size_t length = text.length;
        if (length > COMMENT_WIDTH) {
            length = COMMENT_WIDTH;
            while (length > 1 && text.data[length] != ' ') {
                length--;
            }
        }
        strbuf_printf(out, "# %.*s\n", (int)length, text.data);
        text.data += length;
        text.length -= length;
        while (text.length > 0 && text.data[0] == ' ') {
            text.data++;
            text.length--;
        }
    }
}

/* What a reload does not change says so. */
static void append_fix(const struct option *option, struct strbuf *out)
{
    const char *fix = option_fix(option);

    if (fix != NULL) {
        strbuf_printf(out, " Not by a reload: by %s.", fix);
    }
}

static void append_range(const struct option *option, struct strbuf *out)
{
    struct strbuf range;

    strbuf_init(&range);
    option_describe(option, &range);
    /* Only numbers and words need more than their sentence says. */
    if (option->type->expected[0] == '\0') {
        strbuf_printf(out, " [%s]", strbuf_text(&range));
    }
    strbuf_done(&range);
}

void describe_option_comment(const struct option *option, struct strbuf *out)
{
    struct strbuf text;

    strbuf_init(&text);
    strbuf_append_text(&text, option->doc);
    append_fix(option, &text);
    append_range(option, &text);
    if (option->breach[0] != '\0') {
        strbuf_printf(&text, " On breach: %s%s%s.", option->breach,
                      option->counter[0] != '\0' ? "; metric " : "", option->counter);
    }
    append_comment((struct slice){strbuf_text(&text), text.length}, out);
    strbuf_done(&text);
}

/* --- conf/gateway.toml ---------------------------------------------------------------------------------------------- */

/* A value for options that have no default, and for the app of the example. */
static const char *example_value(const struct option *option)
{
    if (option->type == &option_type_BIND) {
        return "\"127.0.0.1:8080\"";
    }
    if (option->type == &option_type_APP_SOCKET) {
        return "\"${RUN_DIRECTORY}/main.sock\"";
    }
    return option->initial != NULL ? option->initial : "\"\"";
}

/* The options of inline tables, as comments in front of the option that holds them. */
static void describe_entries(enum option_section section, struct strbuf *out)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        if (option->section == section) {
            struct strbuf text;
            strbuf_init(&text);
            strbuf_printf(&text, "  %s: %s", option->key, option->doc);
            append_comment((struct slice){strbuf_text(&text), text.length}, out);
            strbuf_done(&text);
        }
    }
}

static void example_options(enum option_section section, const char *comment, struct strbuf *out)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        if (option->section == section) {
            describe_option_comment(option, out);
            if (option->type == &option_type_CERTIFICATES) {
                describe_entries(SECTION_certificate, out);
            }
            strbuf_printf(out, "%s%s = %s\n", comment, option->key, example_value(option));
        }
    }
}

static void example_section(enum option_section id, struct strbuf *out)
{
    const struct section *section = &option_sections[id];

    if (section->shape == SHAPE_INLINE) {
        return;
    }
    strbuf_append_char(out, '\n');
    append_comment(slice_from(section->doc), out);
    switch (id) {
    case SECTION_app:
        strbuf_append_text(out, "[apps.main]\n");
        example_options(id, "", out);
        break;
    case SECTION_listen:
        strbuf_append_text(out, "[[listen]]\n");
        example_options(id, "", out);
        strbuf_append_text(out, "\n# [[listen]]\n# bind = \"*:8443\"\n# tls = true\n");
        break;
    case SECTION_route:
        strbuf_append_text(out, "# [[route]]\n");
        example_options(id, "# ", out);
        break;
    default:
        strbuf_printf(out, "[%s]\n", section->name);
        example_options(id, "", out);
    }
}

static const char example_intro[] =
    "# gateway.toml with every option at its default. GENERATED; gatewayd -t checks a file,\n"
    "# gatewayd --print-config shows what is in effect. Durations: \"250ms\" \"30s\" \"5m\" "
    "\"1h\".\n"
    "# Sizes: 65536 \"64KiB\" \"16MiB\". Relative paths start at the directory of this file.\n"
    "# ${NAME} in a string is an environment variable ($${ is the text \"${\"), and\n"
    "# ${RUN_DIRECTORY} is /run/gatewayd for root, else $XDG_RUNTIME_DIR/gatewayd.\n";

void describe_example(struct strbuf *out)
{
    strbuf_append_text(out, example_intro);
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        example_section((enum option_section)i, out);
    }
}

/* --- docs/CONFIGURATION.md ------------------------------------------------------------------------------------------ */

/* Table cells must not hold a bar, and code must not hold a back-tick. */
static void append_cell(const char *text, struct strbuf *out)
{
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            strbuf_append_text(out, "\\|");
        } else if (*text == '*') {
            strbuf_append_text(out, "\\*");
        } else {
            strbuf_append_char(out, *text);
        }
    }
}

static void reference_option(const struct option *option, struct strbuf *out)
{
    struct strbuf range;

    strbuf_init(&range);
    option_describe(option, &range);
    strbuf_printf(out, "| `%s` | %s%s%s | ", option->key, option->initial ? "`" : "",
                  option->initial ? option->initial : "required", option->initial ? "`" : "");
    append_cell(option->doc, out);
    append_fix(option, out);
    strbuf_append_text(out, " | ");
    append_cell(strbuf_text(&range), out);
    strbuf_append_text(out, " | ");
    append_cell(option->breach, out);
    strbuf_append_text(out, " | ");
    if (option->counter[0] != '\0') {
        strbuf_printf(out, "`%s`", option->counter);
    }
    strbuf_append_text(out, " |\n");
    strbuf_done(&range);
}

static void reference_heading(const struct section *section, struct strbuf *out)
{
    strbuf_append_text(out, "\n## ");
    switch (section->shape) {
    case SHAPE_TABLE:
        strbuf_printf(out, "`[%s]`", section->name);
        break;
    case SHAPE_TABLES:
        strbuf_printf(out, "`[[%s]]`", section->name);
        break;
    case SHAPE_NAMED:
        strbuf_printf(out, "`[%s.NAME]`", section->name);
        break;
    case SHAPE_INLINE:
        strbuf_printf(out, "Entries of `%s`", section->name);
        break;
    }
    strbuf_printf(out, "\n\n%s\n\n", section->doc);
    strbuf_append_text(
        out,
        "| option | default | meaning | value | on breach | metric |\n|---|---|---|---|---|---|\n");
}

static void reference_atoms(struct strbuf *out)
{
    const char *name, *meaning;

    strbuf_append_text(out, "\n## Atoms of `log.access_format`\n\n"
                            "`%(name)s` in a format string; `%%` is a percent sign. Whatever a "
                            "client or an app chose is escaped: control\n"
                            "characters, bytes from 0x7f, quotes and backslashes become `\\xNN`. "
                            "`-` stands for nothing.\n\n"
                            "| atom | value |\n|---|---|\n");
    for (size_t i = 0; (name = access_log_atom(i, &meaning)) != NULL; i++) {
        strbuf_printf(out, "| `%s` | %s |\n", name, meaning);
    }
}

static const char reference_intro[] =
    "<!-- GENERATED from gateway/config/schema.def by make generate; do not edit. -->\n"
    "# Configuration\n"
    "\n"
    "`gatewayd -c gateway.toml` reads one TOML file; without `-c` it is `./gateway.toml`, then\n"
    "`/etc/gatewayd/gateway.toml`. `-o section.key=value` sets an option from the command\n"
    "line and may be given many times: `-o log.level=debug`, `-o apps.main.queue_max=10`,\n"
    "`-o 'listen[0].bind=*:8080'`. The command line wins over the file, the file over the\n"
    "defaults. `gatewayd -t` checks everything and tells all mistakes at once, each as\n"
    "`file:line:column: what; what would be right`; `gatewayd --print-config` shows what is\n"
    "in effect.\n"
    "\n"
    "- Durations are strings with a unit: `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"` (also `us`).\n"
    "- Sizes are bytes or strings with a unit: `65536`, `\"64KiB\"`, `\"16MiB\"`, `\"1GiB\"`.\n"
    "- A limit that can be switched off is switched off by the word `\"off\"`, never by 0.\n"
    "- Relative paths start at the directory of the file.\n"
    "- `${NAME}` in a string is the environment variable; it must be set. `$${` is the text\n"
    "  `${`. `${RUN_DIRECTORY}` is `/run/gatewayd` for root, else `$XDG_RUNTIME_DIR/gatewayd`,\n"
    "  else `/run/user/UID/gatewayd`.\n"
    "- Contradictions are refused: `ipc.window` or `ipc.link_queue` below `ipc.max_frame`;\n"
    "  `limits.header_block` + `limits.target` + 8 KiB above `ipc.max_frame`; more connections\n"
    "  than descriptors; two things at one address; a route that never matches.\n";

void describe_reference(struct strbuf *out)
{
    strbuf_append_text(out, reference_intro);
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        reference_heading(&option_sections[i], out);
        for (size_t j = 0; j < option_count; j++) {
            if (option_table[j].section == (enum option_section)i) {
                reference_option(&option_table[j], out);
            }
        }
    }
    reference_atoms(out);
    strbuf_append_text(out,
                       "\n## Not in this version\n\nRefused with a sentence, never ignored:\n\n");
    for (size_t i = 0; i < option_later_count; i++) {
        const struct option_later *later = &option_later_table[i];
        strbuf_printf(out, "- `%s%s%s`: %s.\n", later->section, later->key[0] ? "." : "",
                      later->key, later->sentence);
    }
}
