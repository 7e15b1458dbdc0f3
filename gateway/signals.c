/* SPDX-License-Identifier: MIT */
/* Signals by signalfd(2): no handler runs anywhere, so no code has to be safe against one. */
#include "signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/check.h"

int signals_open(const int *wanted, size_t count)
{
    static const int from_bugs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t blocked, told;

    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(from_bugs) / sizeof(*from_bugs); i++) {
        sigdelset(&blocked, from_bugs[i]);
    }
    sigemptyset(&told);
    for (size_t i = 0; i < count; i++) {
        sigaddset(&told, wanted[i]);
    }
    REQUIRE(pthread_sigmask(SIG_SETMASK, &blocked, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &told, SFD_NONBLOCK | SFD_CLOEXEC);
}

int signals_next(int fd)
{
    struct signalfd_siginfo info;
    ssize_t got;

    do {
        got = read(fd, &info, sizeof(info));
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

const char *signals_name(int number)
{
    static char text[32];
    const char *name = sigabbrev_np(number);

    if (name != NULL) {
        snprintf(text, sizeof(text), "SIG%s", name);
    } else {
        snprintf(text, sizeof(text), "signal %d", number);
    }
    return text;
}
