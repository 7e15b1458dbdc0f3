/* SPDX-License-Identifier: MIT */
/*
 * gatewayctl top: the same page again and again, in place. Every line is written over the one before, so that nothing flickers; what
 * does not fit the window is left out. A gatewayd that goes away is waited for: it may be restarting.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl/ctl_ask.h"

#define SCREEN_ENTER "\033[?1049h\033[?25l" /* the other screen, no cursor */
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_HOME "\033[H"
#define LINE_REST "\033[K" /* clears the rest of the line */
#define SCREEN_REST "\033[J"

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

static void window(unsigned *ret_rows, unsigned *ret_columns)
{
    struct winsize size;

    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    *ret_rows = known ? size.ws_row : 24;
    *ret_columns = known ? size.ws_col : 80;
}

/* As much of the text as the window has room for. */
static void paint(const char *text)
{
    unsigned rows, columns;
    struct strbuf page;

    window(&rows, &columns);
    strbuf_init(&page);
    strbuf_append_text(&page, SCREEN_HOME);
    for (unsigned row = 1; row < rows && *text != '\0'; row++) {
        size_t length = strcspn(text, "\n");
        strbuf_append(&page, text, length < columns ? length : columns);
        strbuf_append_text(&page, LINE_REST "\n");
        text += length + (text[length] == '\n');
    }
    strbuf_append_text(&page, SCREEN_REST);
    if (!page.failed) {
        fwrite(page.data, 1, page.length, stdout);
        fflush(stdout);
    }
    strbuf_done(&page);
}

static void refresh(const char *socket)
{
    struct ctl_answer answer;

    ctl_ask(socket, "top", true, &answer);
    paint(answer.verdict == CTL_OK ? strbuf_text(&answer.text)
          : answer.code == EXIT_UNREACHABLE
              ? "gatewayd cannot be reached; it may be restarting. Ctrl-C ends this.\n"
              : "gatewayd does not answer. Ctrl-C ends this.\n");
    strbuf_done(&answer.text);
}

int ctl_top(const char *socket, bool json, unsigned interval_ms)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct ctl_answer answer;

    ctl_ask(socket, json ? "top --json" : "top", false, &answer);
    if (answer.verdict != CTL_OK || json || !isatty(STDOUT_FILENO)) {
        int code = ctl_show(&answer);
        strbuf_done(&answer.text);
        return code;
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    fputs(SCREEN_ENTER, stdout);
    paint(strbuf_text(&answer.text));
    strbuf_done(&answer.text);
    while (!ended && (poll(NULL, 0, (int)interval_ms) == 0 || errno == EINTR)) {
        if (!ended) {
            refresh(socket);
        }
    }
    fputs(SCREEN_LEAVE, stdout);
    fflush(stdout);
    return EXIT_OK;
}
