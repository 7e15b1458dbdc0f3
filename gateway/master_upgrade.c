/* SPDX-License-Identifier: MIT */
/*
 * A new binary takes over. First it is tried: a child executes it, and it shows that it starts, knows the handover and takes the
 * configuration. Then the master executes it in place, and starts its server beside the old one. Until that server accepts clients, the
 * old one only needs to be told to go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "master_handover.h"
#include "notify.h"

/* How long the new binary may take to show itself, and its server to start. */
#define TRIAL_TIMEOUT (20 * CLOCK_NS_PER_S)
#define START_TIMEOUT (20 * CLOCK_NS_PER_S)
/* How long the workers are waited for before the new server accepts clients anyway. */
#define WORKERS_TIMEOUT (10 * CLOCK_NS_PER_S)
/* How long the old server may take to let go of the sockets. */
#define RETIRE_TIMEOUT (5 * CLOCK_NS_PER_S)
#define SEND_PATIENCE_MS 5000
#define DRAIN_GRACE (15 * CLOCK_NS_PER_S)

static bool send_to(int control, enum control_kind kind)
{
    struct control_message message = {.kind = kind, .fd = -1};

    return control >= 0 && control_send(control, &message, SEND_PATIENCE_MS) == ERROR_NONE;
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* --- the end, one way or the other ---------------------------------------------------------------------------------- */

/* The server before only finishes what it has. */
static void let_drain(struct master *master)
{
    if (master->server != 0) {
        uint64_t patience = master->config->gateway.drain_timeout + DRAIN_GRACE;
        REQUIRE(master->draining_count < MASTER_DRAINING_MAX);
        master->draining[master->draining_count++] = (struct master_child){
            master->server, master->control, master->quic, clock_now() + patience};
    }
    master->server = 0;
    master->control = -1;
    master->quic.fd = -1;
    master->ready = false;
}

void master_upgrade_fail(struct master *master, const char *why)
{
    struct master_upgrade *upgrade = &master->upgrade;
    char text[2304];

    if (upgrade->pid != 0) {
        kill(upgrade->pid, SIGKILL); /* reaped as any child */
    }
    close_one(&upgrade->control);
    close_one(&upgrade->output);
    master_close_quic(&upgrade->quic);
    if (upgrade->phase == UPGRADE_WORKERS) {
        (void)send_to(master->control, CONTROL_RESUME);
    } else if (upgrade->phase == UPGRADE_RETIRING) {
        let_drain(master); /* it has let go of everything already: another one is started */
    }
    if (upgrade->two) {
        endpoints_replace(&master->endpoints, &upgrade->old);
        master->endpoints = upgrade->old;
        master->stale = true;
        upgrade->two = false;
    }
    upgrade->phase = UPGRADE_NONE;
    upgrade->pid = 0;
    snprintf(text, sizeof(text), "the upgrade has failed, %s: %s",
             master->server != 0 ? "the server before goes on" : "another server is started", why);
    text[strcspn(text, "\n")] = '\0';
    log_error("master", "%s", text);
    master_answer(master, CONTROL_WISH_UPGRADE, true, upgrade->answers, text);
    notify_send("READY=1\nSTATUS=serving; an upgrade has failed");
    master_reload_pending(master);
}

static void describe_success(const struct master *master, char *text, size_t size)
{
    if (master->server != 0) {
        snprintf(text, size, "upgraded: server %d serves, server %d finishes what it has",
                 (int)master->upgrade.pid, (int)master->server);
    } else {
        snprintf(text, size, "upgraded: server %d serves, the one before has ended",
                 (int)master->upgrade.pid);
    }
}

static void tell_success(const struct master *master, int control)
{
    struct control_message told = {.kind = CONTROL_RESULT,
                                   .argument = control_result(CONTROL_WISH_UPGRADE, false),
                                   .number = master->upgrade.answers,
                                   .fd = -1};
    char text[160];

    describe_success(master, text, sizeof(text));
    told.text = slice_from(text);
    if (control_send(control, &told, SEND_PATIENCE_MS) != ERROR_NONE) {
        log_warning("master", "cannot reach a server: %s", strerror(errno));
    }
}

/* The new server accepts; the old one has let go of the sockets, or is gone. */
static void finish(struct master *master)
{
    struct master_upgrade *upgrade = &master->upgrade;

    (void)send_to(upgrade->control, CONTROL_ACCEPT);
    tell_success(master, upgrade->control);
    char text[160];
    describe_success(master, text, sizeof(text));
    log_info("master", "%s", text);
    let_drain(master);
    master->server = upgrade->pid;
    master->control = upgrade->control;
    master->quic = upgrade->quic;
    master->ready = true;
    master->started_at = clock_now();
    master->failures = 0;
    master->stale = false;
    endpoints_replace(&upgrade->old, &master->endpoints);
    upgrade->two = false;
    upgrade->pid = 0;
    upgrade->control = -1;
    upgrade->quic.fd = -1;
    upgrade->phase = UPGRADE_NONE;
    notify_send("READY=1\nSTATUS=serving");
    master_reload_pending(master);
}

/* The workers are back: whoever waits is told by the server that it asked, and that one lets go of the sockets before the new one
 * takes them, for a packet must not come to the server that does not know its connection. */
static void retire_old(struct master *master)
{
    struct master_upgrade *upgrade = &master->upgrade;

    upgrade->phase = UPGRADE_RETIRING;
    upgrade->deadline = clock_now() + RETIRE_TIMEOUT;
    if (master->server != 0) {
        tell_success(master, master->control);
    }
    if (master->server == 0 || !send_to(master->control, CONTROL_RETIRE)) {
        finish(master);
    }
}

/* --- the trial ------------------------------------------------------------------------------------------------------ */

/* The same command line with MASTER_HANDOVER_VARIABLE; returns only on failure. */
static void execute(const struct master *master, const char *purpose, int handover)
{
    char value[64];

    snprintf(value, sizeof(value), "%s:%d", purpose, handover);
    if (setenv(MASTER_HANDOVER_VARIABLE, value, 1) == 0) {
        master_handover_pass(master, handover, true);
        execv(master->source->program, master->source->argv);
    }
}

_Noreturn static void be_trial(const struct master *master, int handover, int output)
{
    if (dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0) {
        execute(master, "trial", handover);
        fprintf(stderr, "%s: %s\n", master->source->program, strerror(errno));
    }
    _exit(127);
}

/* Signals are blocked here, and a program that knows nothing of it would inherit that: the trial gets them back. */
static void unblock_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void master_upgrade_start(struct master *master, uint32_t wish)
{
    struct master_upgrade *upgrade = &master->upgrade;
    int output[2];

    bool under_way = upgrade->phase != UPGRADE_NONE && upgrade->phase != UPGRADE_RETIRING;
    if (under_way && !master->stopping && wish != 0) {
        upgrade->answers = wish > upgrade->answers ? wish : upgrade->answers;
        log_info("master", "another upgrade is under way: what becomes of it is the answer");
        return;
    }
    if (upgrade->phase != UPGRADE_NONE || master->reload.running || master->stopping ||
        !master->ready || master->draining_count == MASTER_DRAINING_MAX) {
        const char *why = master->stopping                 ? "the gateway is stopping"
                          : upgrade->phase != UPGRADE_NONE ? "another upgrade is under way"
                          : master->draining_count == MASTER_DRAINING_MAX
                              ? "the servers of earlier upgrades have not finished yet"
                              : "the server starts or takes another configuration over; try again";
        log_warning("master", "no upgrade: %s", why);
        master_answer(master, CONTROL_WISH_UPGRADE, true, wish, why);
        return;
    }
    upgrade->answers = wish > upgrade->answers ? wish : upgrade->answers;
    upgrade->said_length = 0;
    int handover = master_handover_write(master);
    if (handover < 0 || pipe2(output, O_CLOEXEC | O_NONBLOCK) != 0) {
        close_one(&handover);
        master_upgrade_fail(master, strerror(errno));
        return;
    }
    log_info("master", "upgrade: trying %s", master->source->program);
    notify_reloading();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        unblock_signals();
        be_trial(master, handover, output[1]);
    }
    close(handover);
    close(output[1]);
    upgrade->output = output[0];
    upgrade->phase = UPGRADE_TRIAL;
    upgrade->pid = child > 0 ? child : 0;
    upgrade->deadline = clock_now() + TRIAL_TIMEOUT;
    if (child < 0) {
        master_upgrade_fail(master, strerror(errno));
    }
}

void master_upgrade_read_trial(struct master *master)
{
    struct master_upgrade *upgrade = &master->upgrade;
    char beyond[1024];
    ssize_t got;

    do {
        size_t room = sizeof(upgrade->said) - 1 - upgrade->said_length;
        got = room > 0 ? read(upgrade->output, upgrade->said + upgrade->said_length, room)
                       : read(upgrade->output, beyond, sizeof(beyond));
        upgrade->said_length += room > 0 && got > 0 ? (size_t)got : 0;
    } while (got > 0);
    upgrade->said[upgrade->said_length] = '\0';
    if (got == 0) {
        close_one(&upgrade->output); /* its end comes by SIGCHLD */
    }
}

/* Replaces this program by the new one; on failure all is as before. */
static void execute_in_place(struct master *master)
{
    char why[256];
    int handover = master_handover_write(master);

    if (handover >= 0) {
        log_info("master", "upgrade: %s has shown that it can take over", master->source->program);
        execute(master, "takeover", handover);
        snprintf(why, sizeof(why), "%s: %s", master->source->program, strerror(errno));
        unsetenv(MASTER_HANDOVER_VARIABLE);
        master_handover_pass(master, handover, false);
        close(handover);
    } else {
        snprintf(why, sizeof(why), "the handover cannot be written: %s", strerror(errno));
    }
    master_upgrade_fail(master, why);
}

static void trial_ended(struct master *master, const char *how, bool clean)
{
    struct master_upgrade *upgrade = &master->upgrade;
    char why[2304];

    if (upgrade->output >= 0) {
        master_upgrade_read_trial(master);
        close_one(&upgrade->output);
    }
    upgrade->pid = 0;
    if (clean && strcmp(upgrade->said, MASTER_HANDOVER_TOKEN) == 0) {
        execute_in_place(master);
        return;
    }
    snprintf(why, sizeof(why), "%s %s%s%s", master->source->program,
             clean ? "is no gatewayd that can take over" : how,
             upgrade->said_length > 0 ? ": " : "", upgrade->said);
    master_upgrade_fail(master, why);
}

int master_try(struct config *config, const struct master_source *source)
{
    struct master master = {.config = config, .source = source, .control = -1, .quic = {.fd = -1}};
    struct endpoints fresh;
    const char *log_text = NULL;
    char text[640];

    if (master_handover_read_take(&master, source->handover) != ERROR_NONE) {
        fputs("what the running gatewayd hands over cannot be read\n", stderr);
        return EXIT_FAILURE;
    }
    if (log_open(&config->log, &log_text) != ERROR_NONE) {
        fprintf(stderr, "%s\n", log_text);
        return EXIT_FAILURE;
    }
    if (identity_find(config->gateway.user, &master.identity) != ERROR_NONE) {
        fputs("gateway.user: there is no such user on this machine\n", stderr);
        return EXIT_FAILURE;
    }
    if (endpoints_renew(&fresh, &master.endpoints, false, config, master.loops, &master.identity,
                        text, sizeof(text)) != ERROR_NONE) {
        fprintf(stderr, "%s\n", text);
        return EXIT_FAILURE;
    }
    endpoints_replace(&fresh, &master.endpoints);
    endpoints_done(&master.endpoints, false);
    return fputs(MASTER_HANDOVER_TOKEN, stdout) >= 0 && fflush(stdout) == 0 ? EXIT_SUCCESS
                                                                            : EXIT_FAILURE;
}

/* --- two servers ---------------------------------------------------------------------------------------------------- */

int master_upgrade_go_on(struct master *master)
{
    struct master_upgrade *upgrade = &master->upgrade;
    struct endpoints fresh;
    char text[640];

    log_info("master",
             "upgrade: this is gatewayd " GATEWAYD_VERSION ", server %d goes on meanwhile",
             (int)master->server);
    upgrade->phase = UPGRADE_STARTING;
    if (endpoints_renew(&fresh, &master->endpoints, false, master->config, master->loops,
                        &master->identity, text, sizeof(text)) != ERROR_NONE) {
        master->stale = true;
        master_upgrade_fail(master, text);
        return -1;
    }
    upgrade->old = master->endpoints;
    upgrade->two = true;
    master->endpoints = fresh;
    master->number++;
    upgrade->deadline = clock_now() + START_TIMEOUT;
    int code = master_fork_server(master, true, &upgrade->pid, &upgrade->control, &upgrade->quic);
    if (code < 0 && upgrade->pid == 0) {
        master_upgrade_fail(master, "the new server cannot be started");
    }
    return code;
}

static void call_workers(struct master *master)
{
    struct master_upgrade *upgrade = &master->upgrade;

    upgrade->phase = UPGRADE_WORKERS;
    upgrade->deadline = clock_now() + WORKERS_TIMEOUT;
    if (!send_to(upgrade->control, CONTROL_ACCEPT_WORKERS)) {
        master_upgrade_fail(master, "the new server does not listen");
        return;
    }
    if (master->server != 0) {
        (void)send_to(master->control, CONTROL_RECONNECT);
    }
}

void master_upgrade_saved(struct master *master, const struct control_message *message)
{
    struct master_upgrade *upgrade = &master->upgrade;

    if (upgrade->phase == UPGRADE_RETIRING && message->kind == CONTROL_RETIRED) {
        finish(master);
    }
    if (upgrade->phase != UPGRADE_SAVING) {
        return;
    }
    if (message->kind == CONTROL_SAVED) {
        call_workers(master);
    } else if (control_send(upgrade->control, message, SEND_PATIENCE_MS) != ERROR_NONE) {
        master_upgrade_fail(master, "the new server does not listen");
    }
}

static void new_server_is_ready(struct master *master)
{
    struct master_upgrade *upgrade = &master->upgrade;

    if (upgrade->phase != UPGRADE_STARTING) {
        return;
    }
    log_info("master", "upgrade: server %d stands by", (int)upgrade->pid);
    upgrade->phase = UPGRADE_SAVING;
    if (master->server == 0 || !send_to(master->control, CONTROL_SAVE)) {
        call_workers(master); /* the old one died meanwhile */
    }
}

void master_upgrade_bereaved(struct master *master)
{
    if (master->upgrade.phase == UPGRADE_SAVING) {
        call_workers(master); /* what it knew is lost with it */
    }
}

void master_upgrade_hear(struct master *master)
{
    static char text[CONTROL_TEXT_MAX + 1];
    struct master_upgrade *upgrade = &master->upgrade;
    struct control_message message;

    while (upgrade->control >= 0) {
        enum error error = control_receive(upgrade->control, &message, text);
        if (error == ERROR_AGAIN) {
            return;
        }
        if (error != ERROR_NONE) {
            close_one(&upgrade->control); /* its death is told by SIGCHLD */
            return;
        }
        close_one(&message.fd);
        if (message.kind == CONTROL_READY) {
            new_server_is_ready(master);
        } else if (message.kind == CONTROL_WORKERS && upgrade->phase == UPGRADE_WORKERS) {
            retire_old(master);
        }
    }
}

void master_upgrade_expired(struct master *master)
{
    switch (master->upgrade.phase) {
    case UPGRADE_TRIAL:
        master_upgrade_fail(master,
                            "the new binary did not show within 20 s that it can take over");
        break;
    case UPGRADE_WORKERS:
        log_warning("master", "upgrade: not every app has a worker again after 10 s");
        retire_old(master);
        break;
    case UPGRADE_RETIRING:
        finish(master);
        break;
    case UPGRADE_SAVING:
        master_upgrade_fail(master, "the server before did not say within 20 s what it knows");
        break;
    default:
        master_upgrade_fail(master, "the new server did not start within 20 s");
    }
}

bool master_upgrade_ended(struct master *master, pid_t pid, const char *how, bool clean)
{
    struct master_upgrade *upgrade = &master->upgrade;
    char why[160];

    if (pid != upgrade->pid || pid == 0) {
        return false;
    }
    if (upgrade->phase == UPGRADE_TRIAL) {
        trial_ended(master, how, clean);
        return true;
    }
    upgrade->pid = 0;
    snprintf(why, sizeof(why), "the new server %s", how);
    master_upgrade_fail(master, why);
    return true;
}
