/* SPDX-License-Identifier: MIT */
/*
 * The command line of gatewayd: reads the options and the configuration, then does the one thing
 * that was asked for. It owns the configuration for the life of the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "config/config.h"
#include "ipc/frame.h"
#include "master_handover.h"
#include "net/tls_context.h"
#include "tls_load.h"

#define EXIT_USAGE 2
#define OVERRIDES_MAX 256

enum task { TASK_RUN, TASK_CHECK, TASK_PRINT, TASK_PRINT_ANNOTATED, TASK_VERSION, TASK_HELP };

struct command_line {
    enum task task;
    const char *path; /* NULL: not given */
    const char *overrides[OVERRIDES_MAX];
    size_t override_count;
    char **argv;
    const char *program;
};

static const char help_text[] =
    "gatewayd, the gateway between HTTP clients and Python workers\n"
    "\n"
    "  gatewayd [-c FILE] [-o KEY=VALUE]...\n"
    "\n"
    "  -c, --config FILE      the configuration; without it ./gateway.toml, then\n"
    "                         /etc/gatewayd/gateway.toml\n"
    "  -o, --option KEY=VALUE sets one option over the file: -o log.level=debug,\n"
    "                         -o 'listen[0].bind=127.0.0.1:8080'; may be repeated\n"
    "  -t, --check-config     checks the configuration, certificates included, and exits\n"
    "      --print-config     prints the configuration in effect as TOML and exits\n"
    "                         (--print-config=annotated: with a comment for each option)\n"
    "      --version          prints the versions of the program and its protocols\n"
    "      --help             prints this\n"
    "\n"
    "Signals: SIGTERM and SIGINT stop after the requests under way (a second one: at once),\n"
    "SIGHUP takes the configuration and certificates over anew, SIGUSR1 opens the logs anew,\n"
    "SIGUSR2 executes the binary anew (an upgrade) and hands everything over to it.\n"
    "Exit codes: 0 stopped as told; 1 run-time failure; 2 usage or configuration.\n";

/* A closed standard descriptor would be given to the first socket, and log lines to a client. */
static void open_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
}

static bool usage(const char *what, const char *about)
{
    fprintf(stderr, "gatewayd: %s%s; gatewayd --help shows the options\n", what, about);
    return false;
}

static bool add_override(struct command_line *line, const char *text)
{
    if (strchr(text, '=') == NULL) {
        return usage("-o wants KEY=VALUE, not ", text);
    }
    if (line->override_count == OVERRIDES_MAX) {
        return usage("too many -o options; put them into the file", "");
    }
    line->overrides[line->override_count++] = text;
    return true;
}

static bool print_task(struct command_line *line, const char *style)
{
    if (style != NULL && strcmp(style, "annotated") != 0) {
        return usage("--print-config knows only =annotated, not =", style);
    }
    line->task = style != NULL ? TASK_PRINT_ANNOTATED : TASK_PRINT;
    return true;
}

/* False: what is wrong was said. */
static bool parse_command_line(int argc, char **argv, struct command_line *line)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"option", required_argument, NULL, 'o'},
        {"check-config", no_argument, NULL, 't'},
        {"print-config", optional_argument, NULL, 'p'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool fine = true;
    int letter;

    *line = (struct command_line){.task = TASK_RUN};
    opterr = 0;
    while (fine && (letter = getopt_long(argc, argv, ":c:o:th", options, NULL)) != -1) {
        switch (letter) {
        case 'c':
            line->path = optarg;
            break;
        case 'o':
            fine = add_override(line, optarg);
            break;
        case 't':
            line->task = TASK_CHECK;
            break;
        case 'p':
            fine = print_task(line, optarg);
            break;
        case 'V':
            line->task = TASK_VERSION;
            break;
        case 'h':
            line->task = TASK_HELP;
            break;
        case ':':
            fine = usage("a value is missing after ", argv[optind - 1]);
            break;
        default:
            fine = usage("unknown option ", argv[optind - 1]);
        }
    }
    if (fine && optind < argc) {
        return usage("unexpected argument ", argv[optind]);
    }
    return fine;
}

/* What this process was started for, in an upgrade. */
struct upgrade {
    bool trial, takeover;
    int handover; /* -1: none */
};

static struct upgrade read_upgrade(void)
{
    const char *value = getenv(MASTER_HANDOVER_VARIABLE);
    struct upgrade upgrade = {.handover = -1};
    unsigned long long fd;

    if (value == NULL) {
        return upgrade;
    }
    const char *colon = strchr(value, ':');
    if (colon != NULL && slice_to_uint(slice_from(colon + 1), INT_MAX, &fd)) {
        upgrade.trial = strncmp(value, "trial:", 6) == 0;
        upgrade.takeover = strncmp(value, "takeover:", 9) == 0;
        upgrade.handover = (int)fd;
    }
    unsetenv(MASTER_HANDOVER_VARIABLE);
    return upgrade;
}

/* Takes the configuration over. */
static int run_or_check(const struct command_line *line, const struct upgrade *upgrade,
                        struct config *config, const char *path)
{
    struct master_source source = {path,       line->overrides, line->override_count,
                                   line->argv, line->program,   upgrade->handover};
    struct tls_keyring *keyring = NULL;
    struct tls_context *tls = NULL;
    char text[1024];

    enum error error = tls_load(config, NULL, &keyring, &tls, text, sizeof(text));
    if (error == ERROR_NONE && line->task == TASK_RUN && !upgrade->trial) {
        return master_run(config, tls, keyring, &source);
    }
    int code = error == ERROR_NONE        ? EXIT_SUCCESS
               : error == ERROR_NO_MEMORY ? EXIT_FAILURE
                                          : EXIT_USAGE;
    if (error != ERROR_NONE) {
        fprintf(stderr, "%s\n", text);
    } else if (upgrade->trial) {
        code = master_try(config, &source);
    } else {
        printf("%s: the configuration is valid\n", path != NULL ? path : "-o");
    }
    tls_context_unref(tls);
    tls_keyring_free(keyring);
    config_unref(config);
    return code;
}

static int print(const struct config *config, bool annotated)
{
    struct strbuf out;

    strbuf_init(&out);
    config_print(config, annotated, &out);
    bool written = !out.failed && fputs(strbuf_text(&out), stdout) >= 0 && fflush(stdout) == 0;
    strbuf_done(&out);
    if (!written) {
        fprintf(stderr, "gatewayd: cannot print the configuration: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static int with_config(const struct command_line *line, const struct upgrade *upgrade)
{
    const char *path = line->path != NULL ? line->path : config_default_path();
    struct config *config = NULL;
    struct strbuf errors;

    if (path == NULL && line->override_count == 0) {
        fprintf(stderr, "gatewayd: there is no ./gateway.toml and no /etc/gatewayd/gateway.toml: "
                        "name the file with -c\n");
        return EXIT_USAGE;
    }
    strbuf_init(&errors);
    enum error error = config_load(path, line->overrides, line->override_count, &config, &errors);
    if (error != ERROR_NONE) {
        fputs(error == ERROR_NO_MEMORY ? "gatewayd: out of memory\n" : strbuf_text(&errors),
              stderr);
        strbuf_done(&errors);
        return error == ERROR_NO_MEMORY ? EXIT_FAILURE : EXIT_USAGE;
    }
    strbuf_done(&errors);
    if (line->task != TASK_PRINT && line->task != TASK_PRINT_ANNOTATED) {
        return run_or_check(line, upgrade, config, path);
    }
    int code = print(config, line->task == TASK_PRINT_ANNOTATED);
    config_unref(config);
    return code;
}

/* A master that was replaced by this program has left a server behind, and the configuration was tried a moment ago: whatever is wrong
 * with it now, somebody will mend it, and until then that server goes on. */
static int take_over(const struct command_line *line, const struct upgrade *upgrade)
{
    for (;;) {
        int code = with_config(line, upgrade);
        if (code != EXIT_USAGE) {
            return code;
        }
        fputs("gatewayd: the upgrade waits for a valid configuration\n", stderr);
        (void)poll(NULL, 0, 1000);
    }
}

/* Where this binary lies, which is where an upgrade puts another one. */
static void find_program(char *path, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", path, size - 1);

    path[length > 0 ? length : 0] = '\0';
}

int main(int argc, char **argv)
{
    struct command_line line;
    char program[PATH_MAX];

    open_standard_descriptors();
    if (!parse_command_line(argc, argv, &line)) {
        return EXIT_USAGE;
    }
    find_program(program, sizeof(program));
    line.argv = argv;
    line.program = program;
    struct upgrade upgrade = read_upgrade();
    switch (line.task) {
    case TASK_HELP:
        fputs(help_text, stdout);
        return EXIT_SUCCESS;
    case TASK_VERSION:
        printf("gatewayd " GATEWAYD_VERSION
               "\nworker protocol %d\nHTTP/1.0 HTTP/1.1 HTTP/2\nTLS 1.2 1.3\n",
               FRAME_PROTOCOL_VERSION);
        return EXIT_SUCCESS;
    default:
        if (upgrade.takeover && line.task == TASK_RUN) {
            return take_over(&line, &upgrade);
        }
        return with_config(&line, &upgrade);
    }
}
