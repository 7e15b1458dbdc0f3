/* SPDX-License-Identifier: MIT */
/* Connecting, asking, and what a refusal means. It must not know commands. */
#include "ctl/ctl_ask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_TIMEOUT_S 90 /* an upgrade may take most of it */

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
static int connect_to(const char *path, bool quiet)
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
        if (!quiet) {
            explain_connect(path, errno);
        }
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

/* Sends the line; what cannot be sent is told by the missing answer (a refusal may be waiting already). */
static void send_line(int fd, const char *text)
{
    struct strbuf line;
    size_t sent = 0;

    strbuf_init(&line);
    strbuf_printf(&line, "%s\n", text);
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

/* Takes the first line off; false: this is no answer. */
static bool take_verdict(struct ctl_answer *answer)
{
    static const struct {
        const char *line;
        enum ctl_verdict verdict;
    } verdicts[] = {{"ok\n", CTL_OK}, {"pending\n", CTL_PENDING}, {"failed\n", CTL_FAILED}};

    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
        size_t length = strlen(verdicts[i].line);
        if (strncmp(strbuf_text(&answer->text), verdicts[i].line, length) == 0) {
            answer->verdict = verdicts[i].verdict;
            answer->text.length -= length;
            memmove(answer->text.data, answer->text.data + length, answer->text.length + 1);
            return true;
        }
    }
    return false;
}

static void judge(struct ctl_answer *answer)
{
    const char *text = strbuf_text(&answer->text);

    if (take_verdict(answer)) {
        answer->code = EXIT_OK;
    } else if (strncmp(text, "error: ", 7) == 0) {
        bool ended = answer->text.data[answer->text.length - 1] == '\n';
        fprintf(stderr, "gatewayctl: %s%s", text + 7, ended ? "" : "\n");
        answer->code = strstr(text, "may not ask") != NULL ? EXIT_UNREACHABLE : EXIT_FAILED;
    } else {
        fprintf(stderr, "gatewayctl: %s\n",
                answer->text.length == 0
                    ? "gatewayd closed the connection without an answer; its log says why"
                    : "this is no answer of gatewayd; is it its admin socket?");
    }
}

void ctl_ask(const char *socket, const char *line, bool quiet, struct ctl_answer *answer)
{
    *answer = (struct ctl_answer){.verdict = CTL_ERROR, .code = EXIT_FAILED};
    strbuf_init(&answer->text);
    int fd = connect_to(socket, quiet);
    if (fd < 0) {
        answer->code = EXIT_UNREACHABLE;
        return;
    }
    send_line(fd, line);
    if (!read_answer(fd, &answer->text)) {
        fprintf(stderr, "gatewayctl: no answer: %s\n",
                errno == EAGAIN ? "gatewayd took longer than 90 s" : strerror(errno));
    } else if (answer->text.failed) {
        fputs("gatewayctl: out of memory\n", stderr);
    } else {
        judge(answer);
    }
    close(fd);
}

int ctl_show(const struct ctl_answer *answer)
{
    size_t length = answer->text.length;

    if (answer->verdict == CTL_ERROR) {
        return answer->code;
    }
    if (fwrite(strbuf_text(&answer->text), 1, length, stdout) != length || fflush(stdout) != 0) {
        fprintf(stderr, "gatewayctl: cannot write the answer: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    return answer->verdict == CTL_FAILED ? EXIT_DEPLOY_FAILED : EXIT_OK;
}
