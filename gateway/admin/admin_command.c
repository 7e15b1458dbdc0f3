/* SPDX-License-Identifier: MIT */
/*
 * The commands of the admin socket, as a table, and the two ways to write one. Orders are carried out by the admin's sources.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "admin/admin_conn.h"
#include "base/log.h"
#include "ipc/frame.h"

struct command {
    const char *name, *arguments; /* arguments: their names in help */
    size_t least, most;           /* words that it takes */
    unsigned views;               /* rows it needs; 0: answers at once */
    admin_render_fn *render;      /* NULL: an order */
    const char *help;
};

static void error_line(struct admin_conn *conn, const char *format, ...) PRINTF_LIKE(2, 3);

/* --- answers -------------------------------------------------------------------------------------------------------- */

static void begin(struct admin_conn *conn)
{
    strbuf_append_text(&conn->answer, "ok\n");
}

static void end(struct admin_conn *conn)
{
    if (conn->answer.length > 0 && !conn->answer.failed &&
        conn->answer.data[conn->answer.length - 1] != '\n') {
        strbuf_append_char(&conn->answer, '\n');
    }
    admin_conn_answer(conn);
}

static void render_table(struct admin_conn *conn, const struct admin_table *table)
{
    begin(conn);
    if (conn->json) {
        admin_table_json(table, &conn->answer);
    } else {
        admin_table_print(table, &conn->answer);
    }
    end(conn);
}

static void render_apps(struct admin_conn *conn, const struct admin_table *tables)
{
    render_table(conn, &tables[ADMIN_APPS]);
}

static void render_workers(struct admin_conn *conn, const struct admin_table *tables)
{
    render_table(conn, &tables[ADMIN_WORKERS]);
}

static void render_connections(struct admin_conn *conn, const struct admin_table *tables)
{
    render_table(conn, &tables[ADMIN_CONNECTIONS]);
}

static void render_requests(struct admin_conn *conn, const struct admin_table *tables)
{
    render_table(conn, &tables[ADMIN_REQUESTS]);
}

static void render_status(struct admin_conn *conn, const struct admin_table *tables)
{
    begin(conn);
    admin_report_status(conn->admin, tables, conn->json, &conn->answer);
    end(conn);
}

static void render_metrics(struct admin_conn *conn, const struct admin_table *tables)
{
    (void)tables;
    begin(conn);
    admin_report_metrics(conn->words[0], conn->json, &conn->answer);
    end(conn);
}

static void render_version(struct admin_conn *conn, const struct admin_table *tables)
{
    (void)tables;
    begin(conn);
    strbuf_append_text(&conn->answer, conn->json ? "{\"version\":\"" GATEWAYD_VERSION "\"}"
                                                 : "gatewayd " GATEWAYD_VERSION);
    end(conn);
}

static const char *level_text(void)
{
    static const char *const names[LOG_LEVEL_COUNT] = {"debug", "info", "warning", "error"};
    return names[log_get_level()];
}

static void render_loglevel(struct admin_conn *conn, const struct admin_table *tables)
{
    enum log_level level;

    (void)tables;
    if (conn->words[0].length > 0) {
        if (!log_level_parse(conn->words[0], &level)) {
            error_line(conn, "there is no log level \"%.*s\"; write debug, info, warning or error",
                       SLICE_PRINT(conn->words[0]));
            return;
        }
        /* At the lower of both levels, so that the change itself is seen. */
        log_write(LOG_INFO, "admin", "log level changes from %s to %.*s", level_text(),
                  SLICE_PRINT(conn->words[0]));
        log_set_level(level);
    }
    begin(conn);
    strbuf_printf(&conn->answer, conn->json ? "{\"level\":\"%s\"}" : "%s", level_text());
    end(conn);
}

static void render_top(struct admin_conn *conn, const struct admin_table *tables)
{
    begin(conn);
    if (conn->json) {
        admin_table_json(&tables[ADMIN_WORKERS], &conn->answer);
    } else {
        admin_report_status(conn->admin, tables, false, &conn->answer);
        strbuf_append_char(&conn->answer, '\n');
        admin_table_print(&tables[ADMIN_WORKERS], &conn->answer);
    }
    end(conn);
}

static void render_generations(struct admin_conn *conn, const struct admin_table *tables)
{
    render_table(conn, &tables[ADMIN_GENERATIONS]);
}

static void render_reload(struct admin_conn *conn, const struct admin_table *tables)
{
    (void)tables;
    admin_wish_start(conn, ADMIN_WISH_RELOAD);
}

static void render_upgrade(struct admin_conn *conn, const struct admin_table *tables)
{
    const struct admin_sources *sources = &conn->admin->settings.sources;

    (void)tables;
    if (conn->word_count > 0) {
        admin_wish_start(conn, ADMIN_WISH_UPGRADE);
        return;
    }
    (void)sources->wish(sources->context, ADMIN_WISH_UPGRADE);
    begin(conn);
    strbuf_append_text(&conn->answer, conn->json
                                          ? "{\"text\":\"the upgrade begins\"}"
                                          : "the upgrade begins; status says what came of it");
    end(conn);
}

static void render_help(struct admin_conn *conn, const struct admin_table *tables);

#define BIT(view) (1u << (view))

static const struct command commands[] = {
    {"status", "", 0, 0, BIT(ADMIN_APPS) | BIT(ADMIN_GENERATIONS) | BIT(ADMIN_WORKERS),
     render_status, "what the gateway does, in short"},
    {"top", "", 0, 0, BIT(ADMIN_APPS) | BIT(ADMIN_WORKERS), render_top,
     "the figures and workers on one page"},
    {"apps", "", 0, 0, BIT(ADMIN_APPS), render_apps,
     "every app: state, generation, ready workers, requests, queue, last error"},
    {"generations", "", 0, 0, BIT(ADMIN_GENERATIONS), render_generations,
     "every generation of every app: state, workers, why it failed"},
    {"workers", "", 0, 0, BIT(ADMIN_WORKERS), render_workers,
     "every worker: state, load, loop lag, memory, last error"},
    {"connections", "", 0, 0, BIT(ADMIN_CONNECTIONS), render_connections,
     "every client connection"},
    {"requests", "", 0, 0, BIT(ADMIN_REQUESTS), render_requests,
     "every request under way: phase, age, bytes"},
    {"deploy", "APP GENERATION", 2, 2, 0, NULL,
     "ask for a generation: it serves as soon as it has proved itself"},
    {"outcome", "APP GENERATION", 2, 2, 0, NULL, "what became of that"},
    {"rollback", "APP", 1, 1, 0, NULL, "go back to the generation before, if it is still kept"},
    {"pause", "APP", 1, 1, 0, NULL, "hold the app's requests, at most for pause_timeout"},
    {"resume", "APP", 1, 1, 0, NULL, "let them go on"},
    {"drain", "[WORKER] [--force]", 0, 2, 0, NULL,
     "send a worker away when its requests are done (its pid, or id:N); without: stop the gateway"},
    {"metrics", "[PREFIX]", 0, 1, 0, render_metrics, "every metric whose name begins with PREFIX"},
    {"loglevel", "[LEVEL]", 0, 1, 0, render_loglevel,
     "show or change the level of the error log until the next start"},
    {"reload", "", 0, 0, 0, render_reload,
     "take the configuration and certificates over, or say why not"},
    {"upgrade", "[wait]", 0, 1, 0, render_upgrade,
     "execute the binary anew and hand everything over; with wait, say what came of it"},
    {"version", "", 0, 0, 0, render_version, "the version that runs"},
    {"help", "", 0, 0, 0, render_help, "this list"},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void render_help(struct admin_conn *conn, const struct admin_table *tables)
{
    (void)tables;
    begin(conn);
    strbuf_append_text(&conn->answer, conn->json ? "{" : "");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (conn->json) {
            strbuf_printf(&conn->answer, "%s\"%s\":\"%s\"", i > 0 ? "," : "", commands[i].name,
                          commands[i].help);
        } else {
            strbuf_printf(&conn->answer, "%-11s %-18s %s\n", commands[i].name,
                          commands[i].arguments, commands[i].help);
        }
    }
    strbuf_append_text(&conn->answer, conn->json ? "}" : "");
    end(conn);
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

static void error_line(struct admin_conn *conn, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    strbuf_append_text(&conn->answer, "error: ");
    admin_print_clean(text, &conn->answer);
    end(conn);
}

static void carry_out(struct admin_conn *conn)
{
    static const char *const verdicts[] = {
        [ADMIN_DONE] = "ok\n", [ADMIN_PENDING] = "pending\n", [ADMIN_FAILED] = "failed\n"};
    static const char *const names[] = {
        [ADMIN_DONE] = "done", [ADMIN_PENDING] = "pending", [ADMIN_FAILED] = "failed"};
    const struct admin_sources *sources = &conn->admin->settings.sources;
    struct strbuf text;

    strbuf_init(&text);
    enum admin_verdict verdict =
        sources->order(sources->context, conn->command, conn->words, conn->word_count, &text);
    if (verdict == ADMIN_REFUSED) {
        error_line(conn, "%s", strbuf_text(&text));
        strbuf_done(&text);
        return;
    }
    strbuf_append_text(&conn->answer, verdicts[verdict]);
    if (conn->json) {
        strbuf_printf(&conn->answer, "{\"outcome\":\"%s\",\"text\":\"", names[verdict]);
        strbuf_append_json(&conn->answer, (struct slice){strbuf_text(&text), text.length});
        strbuf_append_text(&conn->answer, "\"}");
    } else {
        strbuf_append_slice(&conn->answer, (struct slice){strbuf_text(&text), text.length});
    }
    conn->answer.failed |= text.failed;
    strbuf_done(&text);
    end(conn);
}

static void run(struct admin_conn *conn)
{
    const struct command *command = NULL;

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (slice_equal(conn->command, slice_from(commands[i].name))) {
            command = &commands[i];
        }
    }
    if (command == NULL) {
        error_line(conn, "there is no command \"%.*s\"; \"help\" lists the commands",
                   SLICE_PRINT(conn->command));
    } else if (conn->word_count > 0 && command->most == 0) {
        error_line(conn, "\"%s\" takes no argument", command->name);
    } else if (conn->word_count < command->least || conn->word_count > command->most) {
        error_line(conn, "write: %s %s", command->name, command->arguments);
    } else if (command->views != 0) {
        admin_gather_start(conn, command->views, command->render);
    } else if (command->render != NULL) {
        command->render(conn, NULL);
    } else {
        carry_out(conn);
    }
}

/* COMMAND [WORD...] [--json], in any order of the flag. */
static void run_words(struct admin_conn *conn, struct slice line)
{
    struct slice rest = line;

    while (rest.data != NULL) {
        struct slice word = slice_cut(rest, ' ', &rest);
        if (word.length == 0) {
            continue;
        }
        if (slice_equal(word, SLICE("--json"))) {
            conn->json = true;
        } else if (conn->command.length == 0) {
            conn->command = word;
        } else if (conn->word_count < ADMIN_WORDS_MAX) {
            conn->words[conn->word_count++] = word;
        } else {
            error_line(conn, "\"%.*s\" is too much; write COMMAND [WORD...] [--json]",
                       SLICE_PRINT(word));
            return;
        }
    }
    run(conn);
}

static void skip_space(struct slice *text)
{
    while (text->length > 0 && (text->data[0] == ' ' || text->data[0] == '\t')) {
        text->data++;
        text->length--;
    }
}

static bool take(struct slice *text, struct slice expected)
{
    skip_space(text);
    if (!slice_starts_with(*text, expected)) {
        return false;
    }
    text->data += expected.length;
    text->length -= expected.length;
    return true;
}

/* A JSON string without escapes: no command or argument needs one. */
static bool take_string(struct slice *text, struct slice *ret_string)
{
    if (!take(text, SLICE("\""))) {
        return false;
    }
    size_t length = 0;
    while (length < text->length && text->data[length] != '"' && text->data[length] != '\\') {
        length++;
    }
    *ret_string = (struct slice){text->data, length};
    text->data += length;
    text->length -= length;
    return take(text, SLICE("\""));
}

static bool take_words(struct slice *text, struct admin_conn *conn)
{
    if (!take(text, SLICE("["))) {
        return false;
    }
    while (conn->word_count < ADMIN_WORDS_MAX &&
           take_string(text, &conn->words[conn->word_count])) {
        conn->word_count++;
        if (!take(text, SLICE(","))) {
            break;
        }
    }
    return take(text, SLICE("]"));
}

static bool take_member(struct slice *text, struct admin_conn *conn)
{
    struct slice key;

    if (!take_string(text, &key) || !take(text, SLICE(":"))) {
        return false;
    }
    if (slice_equal(key, SLICE("command"))) {
        return take_string(text, &conn->command);
    }
    if (slice_equal(key, SLICE("argument")) && conn->word_count < ADMIN_WORDS_MAX) {
        return take_string(text, &conn->words[conn->word_count++]);
    }
    if (slice_equal(key, SLICE("arguments"))) {
        return take_words(text, conn);
    }
    if (slice_equal(key, SLICE("json"))) {
        conn->json = take(text, SLICE("true"));
        return conn->json || take(text, SLICE("false"));
    }
    return false;
}

/* {"command":"...","arguments":["..."],"json":true}; the answer is JSON unless it says false. "argument":"..." is one of them. */
static void run_json(struct admin_conn *conn, struct slice line)
{
    struct slice text = line;
    bool good = take(&text, SLICE("{"));

    conn->json = true;
    while (good) {
        good = take_member(&text, conn);
        if (!good || !take(&text, SLICE(","))) {
            break;
        }
    }
    if (good && take(&text, SLICE("}")) && text.length == 0) {
        run(conn);
    } else {
        error_line(conn,
                   "malformed; write {\"command\":\"status\"} with \"arguments\":[\"...\"] and "
                   "\"json\":false as needed");
    }
}

/* A worker that was given this socket instead of its app's says HELLO (SPEC R23): it is told in its own words. UNKNOWN_APP makes it
 * print the sentence and end (R82). */
static bool answer_worker(struct admin_conn *conn)
{
    static const char hello[12] = {FRAME_HELLO};
    struct slice text =
        SLICE("this is the socket of gatewayctl (admin.socket); a worker connects to "
              "the socket of its app (apps.NAME.socket)");
    struct frame frame = {.type = FRAME_CHANNEL_ERROR,
                          .code = FRAME_ERROR_UNKNOWN_APP,
                          .length = (uint32_t)text.length};
    uint8_t header[FRAME_HEADER_SIZE];

    if (conn->request_length < FRAME_HEADER_SIZE ||
        memcmp(conn->request + 4, hello, sizeof(hello)) != 0) {
        return false;
    }
    log_warning("admin", "a worker said HELLO to admin.socket; it belongs to the socket of an app");
    frame_encode(header, &frame);
    strbuf_append(&conn->answer, header, sizeof(header));
    strbuf_append_slice(&conn->answer, text);
    admin_conn_answer(conn);
    return true;
}

bool admin_command_read(struct admin_conn *conn)
{
    struct slice rest;
    if (answer_worker(conn)) {
        return true;
    }
    struct slice line = slice_cut((struct slice){conn->request, conn->request_length}, '\n', &rest);

    if (rest.data == NULL) {
        return false;
    }
    if (line.length > 0 && line.data[line.length - 1] == '\r') {
        line.length--;
    }
    line = slice_trim(line);
    if (slice_starts_with(line, SLICE("{"))) {
        run_json(conn, line);
    } else {
        run_words(conn, line);
    }
    return true;
}
