/* SPDX-License-Identifier: MIT */
/*
 * One question to a running gatewayd and its answer. The protocol is in admin/admin.h.
 */
#ifndef GATEWAY_CTL_CTL_ASK_H
#define GATEWAY_CTL_CTL_ASK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/strbuf.h"

/* Exit codes of gatewayctl. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1, /* gatewayd said no, or did not answer */
    EXIT_USAGE = 2,
    EXIT_UNREACHABLE = 3, /* no gatewayd there, or no right to ask it */
    EXIT_DEPLOY_FAILED = 4,
    EXIT_TIMED_OUT = 5 /* --timeout */
};

/* The first line of an answer. */
enum ctl_verdict { CTL_OK, CTL_PENDING, CTL_FAILED, CTL_ERROR };

struct ctl_answer {
    enum ctl_verdict verdict;
    int code; /* for CTL_ERROR: the exit code; why has been said on stderr, unless quiet */
    struct strbuf text; /* what follows the first line */
};

/* Sends a line (without its end) and takes the whole answer. `quiet`: says nothing when gatewayd cannot be reached. The text is the
 * caller's, by strbuf_done. */
void ctl_ask(const char *socket, const char *line, bool quiet, struct ctl_answer *answer);
/* Prints an answer's text; returns the exit code. */
int ctl_show(const struct ctl_answer *answer);

/* Asks for `top` again and again and shows it in place, until a signal; once where stdout is no terminal. Returns the exit code. */
int ctl_top(const char *socket, bool json, unsigned interval_ms);

#endif
