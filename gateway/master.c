/* SPDX-License-Identifier: MIT */
/*
 * The master: forks the server, starts it again when it dies, and passes on what signals ask for.
 * It works as PID 1 too: every child is reaped, and no signal keeps its default meaning.
 */
#include "master_handover.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "config/config.h"
#include "control.h"
#include "endpoints.h"
#include "net/cipher.h"
#include "net/tls_context.h"
#include "notify.h"
#include "privileges.h"
#include "server.h"
#include "signals.h"

/* A server that lived so long did not die of its start: the back-off begins anew. */
#define SERVER_SETTLED (60 * CLOCK_NS_PER_S)
/* What a server may take beyond its drain_timeout, or after "stop now", before it is killed. */
#define STOP_GRACE (15 * CLOCK_NS_PER_S)
/* How long the server may take to make room for a message: it may be waiting for its loops. */
#define SEND_PATIENCE_MS 5000

/* What went wrong before the logs are where the person looks. */
static void say_failure(const char *text)
{
    log_error("master", "%s", text);
    if (log_file_descriptor(LOG_SINK_ERROR) >= 0) {
        fprintf(stderr, "gatewayd: %s\n", text);
    }
}

/* --- the server --- */

static void server_is_ready(struct master *master)
{
    master->ready = true;
    if (!master->was_ready) {
        log_info("master", "serving: %zu listeners, %u loops, server pid %d",
                 master->endpoints.listener_count, master->loops, (int)master->server);
    } else {
        log_info("master", "serving again, server pid %d", (int)master->server);
    }
    master->was_ready = true;
    notify_send("READY=1\nSTATUS=serving");
}

static void stop(struct master *master);

static void hear(struct master *master, const struct control_message *message)
{
    switch (message->kind) {
    case CONTROL_READY:
        if (!master->ready) {
            server_is_ready(master);
        }
        break;
    case CONTROL_PLEASE_STOP:
        if (!master->stopping) {
            stop(master);
        }
        break;
    case CONTROL_RELOADED:
    case CONTROL_REFUSED:
        master_reload_answered(master, message);
        break;
    case CONTROL_WISH:
        if (message->argument == CONTROL_WISH_RELOAD) {
            log_info("master", "gatewayctl reload");
            master_reload_start(master, message->number);
        } else if (message->argument == CONTROL_WISH_UPGRADE) {
            log_info("master", "gatewayctl upgrade");
            master_upgrade_start(master, message->number);
        }
        break;
    case CONTROL_APP_STATE:
    case CONTROL_SAVED:
    case CONTROL_RETIRED:
        master_upgrade_saved(master, message);
        break;
    default:
        break;
    }
}

static void read_control(struct master *master)
{
    static char text[CONTROL_TEXT_MAX + 1]; /* the master is one thread */
    struct control_message message;

    while (master->control >= 0) {
        enum error error = control_receive(master->control, &message, text);
        if (error == ERROR_AGAIN) {
            return;
        }
        if (error != ERROR_NONE) {
            master_close_control(master); /* its death is told by SIGCHLD */
            return;
        }
        if (message.fd >= 0) {
            close(message.fd);
        }
        hear(master, &message);
    }
}

/* --- its end --- */

static void describe_end(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status)) {
        snprintf(text, size, "was killed by %s%s", signals_name(WTERMSIG(status)),
                 WCOREDUMP(status) ? " (core dumped)" : "");
    } else {
        snprintf(text, size, "ended with exit code %d", WEXITSTATUS(status));
    }
}

static void server_ended(struct master *master, int status)
{
    char text[96];
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    bool retiring = master->upgrade.phase == UPGRADE_RETIRING;
    /* A SIGHUP that waits for the upgrade's end waits on; a server that is started anew reads the files anyway. */
    bool again = master->reload.again && (retiring || master->upgrade.two);

    master->server = 0;
    master->ready = false;
    master->kill_at = 0;
    master_close_control(master);
    master_close_quic(&master->quic);
    describe_end(status, text, sizeof(text));
    master_reload_lost(master, "the server died while it took the configuration over");
    memset(&master->reload, 0, sizeof(master->reload)); /* its operators are gone with it */
    master->reload.again = again;
    if (master->stopping) {
        if (!clean) {
            log_error("master", "the server %s while it was stopping", text);
            master->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
        }
        return;
    }
    if (retiring && clean) { /* it had nothing to finish, and was faster than its message */
        master_upgrade_expired(master);
        return;
    }
    log_error("master", "the server %s", text);
    if (!master->was_ready) {
        /* It never came up: trying again would hide the error from whoever starts us. */
        master->stopping = true;
        master->exit_code = EXIT_FAILURE;
        return;
    }
    if (retiring) {
        master_upgrade_expired(master);
        return;
    }
    if (master->upgrade.two) {
        master_upgrade_bereaved(master); /* the new one takes its place as soon as it can */
        return;
    }
    if (clock_now() - master->started_at >= SERVER_SETTLED) {
        master->failures = 0;
    }
    master_plan_restart(master);
}

static bool drained_ended(struct master *master, pid_t pid, const char *how, bool clean)
{
    for (unsigned i = 0; i < master->draining_count; i++) {
        struct master_child *child = &master->draining[i];
        if (child->pid == pid) {
            log_at(clean ? LOG_INFO : LOG_WARNING, "master", "the server before (%d) %s", (int)pid,
                   how);
            close(child->control);
            master_close_quic(&child->quic);
            *child = master->draining[--master->draining_count];
            return true;
        }
    }
    return false;
}

static void reap(struct master *master)
{
    char how[96];
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        describe_end(status, how, sizeof(how));
        if (pid == master->server) {
            server_ended(master, status);
        } else if (!drained_ended(master, pid, how, clean)) {
            (void)master_upgrade_ended(master, pid, how, clean);
        }
    }
}

/* --- signals --- */

static void stop(struct master *master)
{
    if (!master->stopping) {
        uint64_t patience = master->config->gateway.drain_timeout + STOP_GRACE;
        master->stopping = true;
        if (master->upgrade.phase != UPGRADE_NONE) {
            master_upgrade_fail(master, "the gateway is stopping");
        }
        master->restart_at = 0;
        master->kill_at = clock_now() + patience;
        notify_send("STOPPING=1\nSTATUS=draining");
        /* While a copy is open here the kernel would go on taking clients for nobody. */
        endpoints_close_listeners(&master->endpoints);
        master_order(master, CONTROL_STOP);
    } else if (!master->stopping_now) {
        log_info("master", "told to stop a second time: connections are cut");
        master->stopping_now = true;
        master->kill_at = clock_now() + STOP_GRACE;
        master_order(master, CONTROL_STOP_NOW);
        for (unsigned i = 0; i < master->draining_count; i++) {
            struct control_message now = {.kind = CONTROL_STOP_NOW, .fd = -1};
            if (control_send(master->draining[i].control, &now, SEND_PATIENCE_MS) != ERROR_NONE) {
                log_warning("master", "cannot reach the server before: %s", strerror(errno));
            }
            master->draining[i].kill_at = master->kill_at;
        }
    }
}

/* The server may not be allowed to open the files itself: it gets the descriptors. */
void master_reopen_logs(struct master *master)
{
    log_reopen();
    for (int i = 0; i < LOG_SINK_COUNT; i++) {
        struct control_message message = {
            .kind = CONTROL_LOG, .argument = i, .fd = log_file_descriptor((enum log_sink)i)};
        if (message.fd >= 0) {
            (void)master_send(master, &message);
        }
    }
}

static void on_signal(struct master *master, int number)
{
    switch (number) {
    case SIGTERM:
    case SIGINT:
        log_info("master", "%s: stopping", signals_name(number));
        stop(master);
        break;
    case SIGHUP:
        log_info("master", "SIGHUP: reading the configuration again");
        master_reload_start(master, 0);
        break;
    case SIGUSR1:
        master_reopen_logs(master);
        log_info("master", "logs opened anew");
        break;
    case SIGUSR2:
        log_info("master", "SIGUSR2: upgrade");
        master_upgrade_start(master, 0);
        break;
    case SIGCHLD:
        reap(master);
        break;
    default:
        break;
    }
}

/* --- the loop --- */

static uint64_t next_deadline(const struct master *master)
{
    uint64_t at = UINT64_MAX;

    if (master->restart_at != 0) {
        at = master->restart_at;
    }
    if (master->kill_at != 0 && master->kill_at < at) {
        at = master->kill_at;
    }
    if (master->reload.running && master->reload.deadline < at) {
        at = master->reload.deadline;
    }
    if (master->upgrade.phase != UPGRADE_NONE && master->upgrade.deadline < at) {
        at = master->upgrade.deadline;
    }
    for (unsigned i = 0; i < master->draining_count; i++) {
        at = master->draining[i].kill_at < at ? master->draining[i].kill_at : at;
    }
    return at;
}

static int timeout_ms(uint64_t at)
{
    uint64_t now = clock_now();

    if (at == UINT64_MAX) {
        return -1;
    }
    if (at <= now) {
        return 0;
    }
    uint64_t ms = (at - now) / CLOCK_NS_PER_MS + 1;
    return ms > 60000 ? 60000 : (int)ms;
}

/* What a server that drains says is of no interest. */
static void ignore(int control)
{
    static char text[CONTROL_TEXT_MAX + 1];
    struct control_message message;

    while (control_receive(control, &message, text) == ERROR_NONE) {
        if (message.fd >= 0) {
            close(message.fd);
        }
    }
}

static void wait_for_news(struct master *master)
{
    struct pollfd watched[4 + MASTER_DRAINING_MAX] = {
        {.fd = master->signal_fd, .events = POLLIN},
        {.fd = master->control, .events = POLLIN},
        {.fd = master->upgrade.control, .events = POLLIN},
        {.fd = master->upgrade.output, .events = POLLIN},
    };
    unsigned count = master->draining_count;
    int number;

    for (unsigned i = 0; i < count; i++) {
        watched[4 + i] = (struct pollfd){.fd = master->draining[i].control, .events = POLLIN};
    }
    (void)poll(watched, 4 + count, timeout_ms(next_deadline(master)));
    for (unsigned i = 0; i < count; i++) {
        if ((watched[4 + i].revents & POLLIN) != 0) {
            ignore(watched[4 + i].fd);
        }
    }
    if (watched[1].revents != 0 && master->control >= 0) {
        read_control(master);
    }
    if (watched[2].revents != 0 && master->upgrade.control >= 0) {
        master_upgrade_hear(master);
    }
    if (watched[3].revents != 0 && master->upgrade.output >= 0) {
        master_upgrade_read_trial(master);
    }
    while ((number = signals_next(master->signal_fd)) != 0) {
        on_signal(master, number);
    }
}

/* Whoever had long enough to stop is killed. */
static void kill_late(struct master *master, uint64_t now)
{
    if (master->kill_at != 0 && now >= master->kill_at && master->server != 0) {
        log_error("master", "the server does not stop: it is killed");
        kill(master->server, SIGKILL);
        master->kill_at = 0;
    }
    for (unsigned i = 0; i < master->draining_count; i++) {
        struct master_child *child = &master->draining[i];
        if (now >= child->kill_at) {
            log_error("master", "the server before (%d) does not stop: it is killed",
                      (int)child->pid);
            kill(child->pid, SIGKILL);
            child->kill_at = UINT64_MAX;
        }
    }
}

/* Returns -1 in the master when all is over, the exit code in a server that it forked. */
static int supervise(struct master *master)
{
    reap(master); /* the signal of a death just before the exec may be lost with it */
    int code = master->server != 0 ? master_upgrade_go_on(master) : master_start_server(master);

    while (code < 0 && !(master->stopping && master->server == 0 && master->draining_count == 0)) {
        wait_for_news(master);
        uint64_t now = clock_now();
        kill_late(master, now);
        if (master->reload.running && now >= master->reload.deadline) {
            master_reload_lost(master, "the server does not answer");
        }
        if (master->upgrade.phase != UPGRADE_NONE && now >= master->upgrade.deadline) {
            master_upgrade_expired(master);
        }
        bool none = master->server == 0 && !master->stopping && master->restart_at == 0 &&
                    master->upgrade.phase == UPGRADE_NONE;
        if (none || (master->restart_at != 0 && now >= master->restart_at && !master->stopping)) {
            code = master_start_server(master);
        }
    }
    return code;
}

/* What the master before has left: its form was tried before it was left to us. */
static enum error take_over(struct master *master)
{
    enum error error = master_handover_read_take(master, master->source->handover);

    if (error != ERROR_NONE) {
        say_failure("what the gatewayd before has handed over cannot be read");
        return error;
    }
    master->ready = master->was_ready = true;
    master->stale = true; /* the sockets are those of the configuration before */
    master->started_at = clock_now();
    return ERROR_NONE;
}

static enum error open_everything(struct master *master)
{
    const struct config *config = master->config;
    const char *log_text = NULL;
    char text[640];

    if (log_open(&config->log, &log_text) != ERROR_NONE) {
        fprintf(stderr, "gatewayd: %s\n", log_text);
        return ERROR_IO;
    }
    privileges_raise_descriptors();
    if (identity_find(config->gateway.user, &master->identity) != ERROR_NONE) {
        snprintf(text, sizeof(text), "gateway.user: there is no user \"%.*s\" on this machine",
                 SLICE_PRINT(config->gateway.user));
        say_failure(text);
        return ERROR_NOT_FOUND;
    }
    if (geteuid() == 0 && !master->identity.change) {
        log_warning("master", "running as root: set gateway.user to an ordinary user");
    }
    if (master->source->handover >= 0) {
        return take_over(master);
    }
    enum error error = endpoints_open(&master->endpoints, config, master->loops, &master->identity,
                                      text, sizeof(text));
    if (error != ERROR_NONE) {
        say_failure(text);
    }
    return error;
}

static void forget(struct master *master, bool owner)
{
    endpoints_done(&master->endpoints, owner);
    tls_context_unref(master->tls);
    config_unref(master->config);
    if (owner) { /* else the server's */
        tls_keyring_free(master->keyring);
    }
}

int master_run(struct config *config, struct tls_context *tls, struct tls_keyring *keyring,
               const struct master_source *source)
{
    static const int wanted[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    struct master master = {.config = config,
                            .source = source,
                            .tls = tls,
                            .keyring = keyring,
                            .number = 1,
                            .loops = config_threads(config),
                            .signal_fd = -1,
                            .control = -1,
                            .quic = {.fd = -1},
                            .upgrade = {.control = -1, .output = -1, .quic = {.fd = -1}}};

    random_bytes(master.quic_secret, sizeof(master.quic_secret));
    if (open_everything(&master) != ERROR_NONE) {
        forget(&master, true);
        return EXIT_FAILURE;
    }
    master.signal_fd = signals_open(wanted, sizeof(wanted) / sizeof(*wanted));
    if (master.signal_fd < 0) {
        say_failure("cannot watch for signals");
        forget(&master, true);
        return EXIT_FAILURE;
    }
    int code = supervise(&master);
    if (code >= 0) {
        /* We are the server: files and pid file belong to the master. */
        forget(&master, false);
        return code;
    }
    forget(&master, true);
    close(master.signal_fd);
    if (master.exit_code == 0) {
        log_info("master", "stopped");
    }
    return master.exit_code;
}
