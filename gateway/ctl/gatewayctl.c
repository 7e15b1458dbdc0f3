/* SPDX-License-Identifier: MIT */
/*
 * gatewayctl: sends one command to a running gatewayd and prints the answer. It knows hardly any command: gatewayd does, so that the
 * two need not be of one version. What it adds is waiting for a deployment, and the page of top.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/run_directory.h"
#include "ctl/ctl_ask.h"

#define WORDS_MAX 4
#define LINE_MAX_LENGTH 4096
#define ASK_AGAIN (200 * CLOCK_NS_PER_MS)

static const char usage_text[] =
    "usage: gatewayctl [-s SOCKET] [--json] COMMAND [ARGUMENTS]\n"
    "\n"
    "to see\n"
    "  status               what the gateway does, in short; why a generation failed\n"
    "  top [--interval S]   figures and workers on one page, refreshed in place every second; "
    "printed once\n"
    "                       where the output is no terminal\n"
    "  apps                 every app: state, generation, ready workers, requests, queue, last "
    "error\n"
    "  generations          every generation of every app: state, workers, why it failed\n"
    "  workers              every worker: state, load, loop lag, memory, last error\n"
    "  connections          every client connection\n"
    "  requests             every request under way: phase, age, bytes\n"
    "  metrics [PREFIX]     every metric whose name begins with PREFIX\n"
    "\n"
    "to order\n"
    "  deploy APP --generation G [--wait] [--timeout S]\n"
    "                       the generation is wanted: it serves when min_ready workers were ready "
    "for soak.\n"
    "                       With --wait until that is decided, at most S seconds (300)\n"
    "  rollback APP         back to the generation before, while it is kept (rollback_keep)\n"
    "  pause APP            its requests wait, at most for pause_timeout: to restart its only "
    "worker\n"
    "  resume APP           they go on\n"
    "  drain WORKER [--force]\n"
    "                       the worker (its pid, or id:N) finishes its requests and goes for good; "
    "the only\n"
    "                       ready one of its app with --force only\n"
    "  drain                the gateway stops when its requests are done, as by SIGTERM\n"
    "  loglevel [LEVEL]     show or change the level of the error log until the next start\n"
    "  reload               take the configuration and certificates over, or say why not\n"
    "  upgrade [--wait]     execute the binary of gatewayd anew and hand everything over to it; "
    "with "
    "--wait until\n"
    "                       the new one serves, or until it has failed and the old one goes on "
    "(exit "
    "code 1)\n"
    "\n"
    "  version              the version that runs\n"
    "  help                 the commands that the running gatewayd knows\n"
    "\n"
    "  -s, --socket SOCKET  the admin socket ([admin] socket; here it would be %s)\n"
    "      --json           the answer as JSON\n"
    "  -V, --version        the version of gatewayctl\n"
    "  -h, --help           this text\n"
    "\n"
    "exit codes: 0 done; 1 gatewayd refused or did not answer; 2 usage; 3 gatewayd cannot be "
    "reached;\n"
    "4 the generation failed, and the one before serves; 5 --timeout was over before it was "
    "decided\n";

struct options {
    char socket[512];
    bool json, wait, force;
    const char *generation; /* NULL: not given */
    const char *words[WORDS_MAX];
    size_t word_count;
    double timeout, interval; /* seconds; 0: not given */
};

/* --- waiting -------------------------------------------------------------------------------------------------------- */

static void pause_a_moment(void)
{
    struct timespec pause = {.tv_nsec = ASK_AGAIN};

    nanosleep(&pause, NULL);
}

/* Asks until it is decided. A gatewayd that is away meanwhile is being restarted or upgraded. */
static int wait_for(const struct options *options, const char *line)
{
    uint64_t seconds = options->timeout > 0 ? (uint64_t)(options->timeout * 1e3) : 300000;
    uint64_t end = clock_now() + seconds * CLOCK_NS_PER_MS;
    struct ctl_answer answer;

    for (;;) {
        ctl_ask(options->socket, line, true, &answer);
        bool again = answer.verdict == CTL_PENDING || answer.code == EXIT_UNREACHABLE;
        if (!again || clock_now() >= end) {
            break;
        }
        strbuf_done(&answer.text);
        pause_a_moment();
    }
    int code = ctl_show(&answer);
    if (answer.verdict == CTL_PENDING) {
        fputs("gatewayctl: --timeout is over before it was decided\n", stderr);
        code = EXIT_TIMED_OUT;
    } else if (answer.verdict == CTL_ERROR && code == EXIT_UNREACHABLE) {
        fputs("gatewayctl: gatewayd cannot be reached any more\n", stderr);
    }
    strbuf_done(&answer.text);
    return code;
}

/* --- commands ------------------------------------------------------------------------------------------------------- */

static int ask_once(const struct options *options, const char *line)
{
    struct ctl_answer answer;

    ctl_ask(options->socket, line, false, &answer);
    int code = ctl_show(&answer);
    strbuf_done(&answer.text);
    return code;
}

static int deploy(const struct options *options, const char *line)
{
    struct ctl_answer answer;
    char again[LINE_MAX_LENGTH + 8];

    if (!options->wait) {
        return ask_once(options, line);
    }
    ctl_ask(options->socket, line, false, &answer);
    int code = answer.code;
    strbuf_done(&answer.text);
    if (answer.verdict == CTL_ERROR) {
        return code;
    }
    snprintf(again, sizeof(again), "outcome%s", line + strlen("deploy"));
    return wait_for(options, again);
}

static int run(const struct options *options)
{
    char line[LINE_MAX_LENGTH];
    int length = snprintf(line, sizeof(line), "%s", options->words[0]);

    if (strcmp(options->words[0], "top") == 0) {
        double interval = options->interval > 0 ? options->interval : 1;
        return ctl_top(options->socket, options->json, (unsigned)(interval * 1e3));
    }
    for (size_t i = 1; i < options->word_count; i++) {
        length += snprintf(line + length, sizeof(line) - (size_t)length, " %s", options->words[i]);
    }
    length +=
        snprintf(line + length, sizeof(line) - (size_t)length, "%s%s%s%s",
                 options->generation ? " " : "", options->generation ? options->generation : "",
                 options->force ? " --force" : "", options->json ? " --json" : "");
    if (options->wait && strcmp(options->words[0], "upgrade") == 0) {
        snprintf(line + length, sizeof(line) - (size_t)length, " wait");
    }
    return strcmp(options->words[0], "deploy") == 0 ? deploy(options, line)
                                                    : ask_once(options, line);
}

/* --- the command line ----------------------------------------------------------------------------------------------- */

enum {
    OPTION_JSON = 256,
    OPTION_GENERATION,
    OPTION_WAIT,
    OPTION_TIMEOUT,
    OPTION_FORCE,
    OPTION_INTERVAL
};

static int usage_error(const char *text)
{
    fprintf(stderr, "gatewayctl: %s; gatewayctl --help shows the commands\n", text);
    return EXIT_USAGE;
}

/* One word: a space or a line break within it would be read as more than that. */
static bool is_word(const char *text)
{
    return text[0] != '\0' && strlen(text) < 512 && strpbrk(text, " \t\r\n") == NULL;
}

static bool take_seconds(const char *text, double *ret_seconds)
{
    char *end;

    *ret_seconds = strtod(text, &end);
    return end != text && (*end == '\0' || strcmp(end, "s") == 0) && *ret_seconds > 0 &&
           *ret_seconds <= 86400;
}

/* -1: go on; else the exit code. */
static int take_option(int letter, struct options *options)
{
    switch (letter) {
    case 's':
        snprintf(options->socket, sizeof(options->socket), "%s", optarg);
        return -1;
    case OPTION_JSON:
        options->json = true;
        return -1;
    case OPTION_GENERATION:
        options->generation = optarg;
        return is_word(optarg) ? -1 : usage_error("--generation is one word");
    case OPTION_WAIT:
        options->wait = true;
        return -1;
    case OPTION_FORCE:
        options->force = true;
        return -1;
    case OPTION_TIMEOUT:
        return take_seconds(optarg, &options->timeout) ? -1 : usage_error("--timeout is seconds");
    case OPTION_INTERVAL:
        return take_seconds(optarg, &options->interval) ? -1 : usage_error("--interval is seconds");
    case 'V':
        puts("gatewayctl " GATEWAYD_VERSION);
        return EXIT_OK;
    case 'h':
        printf(usage_text, options->socket);
        return EXIT_OK;
    default:
        fputs("gatewayctl --help shows the options\n", stderr);
        return EXIT_USAGE;
    }
}

/* -1: go on; else the exit code. */
static int check(const struct options *options)
{
    bool deploys = strcmp(options->words[0], "deploy") == 0;

    if (deploys && (options->word_count != 2 || options->generation == NULL)) {
        return usage_error("write: deploy APP --generation G [--wait] [--timeout S]");
    }
    bool waits = deploys || strcmp(options->words[0], "upgrade") == 0;
    if (!waits && options->wait) {
        return usage_error("--wait belongs to deploy and upgrade");
    }
    if (!deploys && (options->generation != NULL || options->timeout > 0)) {
        return usage_error("--generation and --timeout belong to deploy");
    }
    if (options->force && strcmp(options->words[0], "drain") != 0) {
        return usage_error("--force belongs to drain");
    }
    if (options->interval > 0 && strcmp(options->words[0], "top") != 0) {
        return usage_error("--interval belongs to top");
    }
    return -1;
}

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, struct options *options)
{
    static const struct option long_options[] = {
        {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, OPTION_JSON},
        {"generation", required_argument, NULL, OPTION_GENERATION},
        {"wait", no_argument, NULL, OPTION_WAIT},
        {"timeout", required_argument, NULL, OPTION_TIMEOUT},
        {"force", no_argument, NULL, OPTION_FORCE},
        {"interval", required_argument, NULL, OPTION_INTERVAL},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    int letter;

    while ((letter = getopt_long(argc, argv, "s:Vh", long_options, NULL)) != -1) {
        int code = take_option(letter, options);
        if (code >= 0) {
            return code;
        }
    }
    if (optind == argc) {
        return usage_error("name a command, such as status");
    }
    for (; optind < argc; optind++) {
        if (options->word_count == WORDS_MAX || !is_word(argv[optind])) {
            return usage_error("write one command with at most three words behind it");
        }
        options->words[options->word_count++] = argv[optind];
    }
    return check(options);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    char directory[256];

    run_directory(directory, sizeof(directory));
    snprintf(options.socket, sizeof(options.socket), "%s/admin.sock", directory);
    int code = parse(argc, argv, &options);
    return code >= 0 ? code : run(&options);
}
