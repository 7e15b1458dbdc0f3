/* SPDX-License-Identifier: MIT */
/*
 * gatewayctl: sends one command to a running gatewayd and prints the answer. It knows no command: gatewayd does, so that the two
 * need not be of one version. The protocol is in admin/admin.h.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/run_directory.h"
#include "base/strbuf.h"

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1, /* gatewayd said no, or did not answer */
    EXIT_USAGE = 2,
    EXIT_UNREACHABLE = 3, /* no gatewayd there, or no right to ask it */
};

#define ANSWER_TIMEOUT_S 30

static const char usage_text[] =
    "usage: gatewayctl [-s SOCKET] [--json] COMMAND [ARGUMENT]\n"
    "\n"
    "  status               what the gateway does, in short\n"
    "  apps                 every app: ready workers, requests, queue, last error\n"
    "  workers              every worker: state, load, loop lag, memory\n"
    "  connections          every client connection\n"
    "  requests             every request under way: phase, age, bytes\n"
    "  metrics [PREFIX]     every metric whose name begins with PREFIX\n"
    "  loglevel [LEVEL]     show or change the level of the error log until the next start\n"
    "  version              the version that runs\n"
    "  help                 the commands that the running gatewayd knows\n"
    "\n"
    "  -s, --socket SOCKET  the admin socket ([admin] socket; here it would be %s)\n"
    "      --json           the answer as JSON\n"
    "  -V, --version        the version of gatewayctl\n"
    "  -h, --help           this text\n"
    "\n"
    "exit codes: 0 done; 1 gatewayd refused or did not answer; 2 usage; 3 gatewayd cannot be "
    "reached\n";

struct options {
    char socket[512];
    bool json;
    const char *command, *argument;
};

/* Says why a socket cannot be reached, and what to do. */
static void explain_connect(const char *path, int error)
{
    fprintf(stderr, "gatewayctl: %s: %s; ", path, strerror(error));
    switch (error) {
    case ENOENT:
        fputs("gatewayd does not run, or its [admin] socket is elsewhere: name it with -s\n",
              stderr);
        break;
    case ECONNREFUSED:
        fputs("the socket is a left-over: gatewayd does not run\n", stderr);
        break;
    case EACCES:
    case EPERM:
        fputs("run gatewayctl as root or as the user of gatewayd\n", stderr);
        break;
    default:
        fputs("name the admin socket of gatewayd with -s\n", stderr);
    }
}

/* A connected socket, or -1 after a complaint. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};

    if (strlen(path) >= sizeof(address.sun_path)) {
        fprintf(stderr, "gatewayctl: %s: the path is longer than %zu characters\n", path,
                sizeof(address.sun_path) - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        explain_connect(path, errno);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

/* Sends the command; what cannot be sent is told by the missing answer (a refusal may be waiting already). */
static void send_command(int fd, const struct options *options)
{
    struct strbuf line;
    size_t sent = 0;

    strbuf_init(&line);
    strbuf_printf(&line, "%s%s%s%s\n", options->command, options->argument ? " " : "",
                  options->argument ? options->argument : "", options->json ? " --json" : "");
    while (!line.failed && sent < line.length) {
        ssize_t length = send(fd, line.data + sent, line.length - sent, MSG_NOSIGNAL);
        if (length < 0 && errno == EINTR) {
            continue;
        }
        if (length < 0) {
            break;
        }
        sent += (size_t)length;
    }
    strbuf_done(&line);
}

/* The whole answer; false: it did not end in time (errno). */
static bool read_answer(int fd, struct strbuf *answer)
{
    char buffer[65536];

    for (;;) {
        ssize_t length = recv(fd, buffer, sizeof(buffer), 0);
        if (length < 0 && errno == EINTR) {
            continue;
        }
        if (length <= 0) {
            return length == 0 ||
                   errno == ECONNRESET; /* a refusal may come with a reset behind it */
        }
        strbuf_append(answer, buffer, (size_t)length);
    }
}

static int show(const struct strbuf *answer)
{
    const char *text = strbuf_text(answer);

    if (strncmp(text, "ok\n", 3) == 0) {
        size_t length = answer->length - 3;
        if (fwrite(text + 3, 1, length, stdout) != length || fflush(stdout) != 0) {
            fprintf(stderr, "gatewayctl: cannot write the answer: %s\n", strerror(errno));
            return EXIT_FAILED;
        }
        return EXIT_OK;
    }
    if (strncmp(text, "error: ", 7) == 0) {
        fprintf(stderr, "gatewayctl: %.*s\n", (int)strcspn(text + 7, "\n"), text + 7);
        return strstr(text, "may not ask") != NULL ? EXIT_UNREACHABLE : EXIT_FAILED;
    }
    fprintf(stderr, "gatewayctl: %s\n",
            answer->length == 0
                ? "gatewayd closed the connection without an answer; its log says why"
                : "this is no answer of gatewayd; is it its admin socket?");
    return EXIT_FAILED;
}

static int run(const struct options *options)
{
    struct strbuf answer;
    int code = EXIT_FAILED;

    int fd = connect_to(options->socket);
    if (fd < 0) {
        return EXIT_UNREACHABLE;
    }
    strbuf_init(&answer);
    send_command(fd, options);
    if (!read_answer(fd, &answer)) {
        fprintf(stderr, "gatewayctl: no answer: %s\n",
                errno == EAGAIN ? "gatewayd took longer than 30 s" : strerror(errno));
    } else if (answer.failed) {
        fputs("gatewayctl: out of memory\n", stderr);
    } else {
        code = show(&answer);
    }
    strbuf_done(&answer);
    close(fd);
    return code;
}

/* One word: a space or a line break within it would be read as more than that. */
static bool is_word(const char *text)
{
    return text[0] != '\0' && strpbrk(text, " \t\r\n") == NULL;
}

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, struct options *options)
{
    static const struct option long_options[] = {{"socket", required_argument, NULL, 's'},
                                                 {"json", no_argument, NULL, 'j'},
                                                 {"version", no_argument, NULL, 'V'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    int letter;

    while ((letter = getopt_long(argc, argv, "s:Vh", long_options, NULL)) != -1) {
        switch (letter) {
        case 's':
            snprintf(options->socket, sizeof(options->socket), "%s", optarg);
            break;
        case 'j':
            options->json = true;
            break;
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
    if (optind == argc || argc - optind > 2 || !is_word(argv[optind]) ||
        (optind + 1 < argc && !is_word(argv[optind + 1]))) {
        fprintf(stderr, "gatewayctl: %s; gatewayctl --help shows the commands\n",
                optind == argc ? "name a command, such as status"
                               : "write one command with at most one argument");
        return EXIT_USAGE;
    }
    options->command = argv[optind];
    options->argument = optind + 1 < argc ? argv[optind + 1] : NULL;
    return -1;
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
