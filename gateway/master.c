/* SPDX-License-Identifier: MIT */
/*
 * The master: forks the server, starts it again when it dies, and passes on what signals ask for.
 * It works as PID 1 too: every child is reaped, and no signal keeps its default meaning.
 */
#include "master_state.h"

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
#define BACKOFF_FIRST CLOCK_NS_PER_S
#define BACKOFF_MAX (30 * CLOCK_NS_PER_S)
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

static void close_control(struct master *master)
{
    if (master->control >= 0) {
        close(master->control);
        master->control = -1;
    }
}

bool master_send(struct master *master, const struct control_message *message)
{
    if (master->control < 0) {
        return false;
    }
    if (control_send(master->control, message, SEND_PATIENCE_MS) != ERROR_NONE) {
        log_warning("master", "cannot reach the server: %s", strerror(errno));
        return false;
    }
    return true;
}

static void order(struct master *master, enum control_kind kind)
{
    (void)master_send(master, &(struct control_message){.kind = kind, .fd = -1});
}

void master_answer(struct master *master, enum control_wish wish, bool failed, uint32_t number,
                   const char *text)
{
    struct control_message message = {.kind = CONTROL_RESULT,
                                      .argument = control_result(wish, failed),
                                      .number = number,
                                      .fd = -1,
                                      .text = slice_from(text)};

    (void)master_send(master, &message);
}

static void plan_restart(struct master *master)
{
    uint64_t wait = master->failures == 0 ? 0 : BACKOFF_FIRST;

    for (unsigned i = 1; i < master->failures && wait < BACKOFF_MAX; i++) {
        wait *= 2;
    }
    wait = wait < BACKOFF_MAX ? wait : BACKOFF_MAX;
    master->failures++;
    master->restart_at = clock_now() + wait;
    if (wait > 0) {
        log_info("master", "the server is started again in %" PRIu64 " s", wait / CLOCK_NS_PER_S);
    }
}

/* Runs as the child and returns the process's exit code. */
static int be_server(struct master *master, int control)
{
    struct server_inputs inputs = {
        .config = master->config,
        .endpoints = &master->endpoints,
        .tls = master->tls,
        .keyring = master->keyring,
        .overrides = master->source->overrides,
        .override_count = master->source->override_count,
        .number = master->number,
        .identity = &master->identity,
        .loops = master->loops,
        .quic_secret = master->quic_secret,
        .quic_generation = master->quic_generation,
        .control = control,
    };

    close(master->signal_fd);
    if (master->endpoints.pid_file >= 0) {
        close(master->endpoints.pid_file); /* the lock is the master's alone */
    }
    int code = server_run(&inputs);
    close(control);
    return code;
}

/* Returns -1 in the master, the exit code in the child. */
static int start_server(struct master *master)
{
    int pair[2];

    master->restart_at = 0;
    if (control_pair(pair) != ERROR_NONE) {
        log_error("master", "cannot make a socket for the server: %s", strerror(errno));
        plan_restart(master);
        return -1;
    }
    fflush(NULL);
    master->quic_generation++;
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        return be_server(master, pair[1]);
    }
    close(pair[1]);
    if (child < 0) {
        log_error("master", "cannot start the server: fork: %s", strerror(errno));
        close(pair[0]);
        plan_restart(master);
        return -1;
    }
    master->server = child;
    master->control = pair[0];
    master->ready = false;
    master->started_at = clock_now();
    return -1;
}

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
        }
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
            close_control(master); /* its death is told by SIGCHLD */
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

    master->server = 0;
    master->ready = false;
    master->kill_at = 0;
    close_control(master);
    describe_end(status, text, sizeof(text));
    master_reload_lost(master, "the server died while it took the configuration over");
    memset(&master->reload, 0, sizeof(master->reload)); /* its operators are gone with it */
    if (master->stopping) {
        if (!clean) {
            log_error("master", "the server %s while it was stopping", text);
            master->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
        }
        return;
    }
    log_error("master", "the server %s", text);
    if (!master->was_ready) {
        /* It never came up: trying again would hide the error from whoever starts us. */
        master->stopping = true;
        master->exit_code = EXIT_FAILURE;
        return;
    }
    if (clock_now() - master->started_at >= SERVER_SETTLED) {
        master->failures = 0;
    }
    plan_restart(master);
}

static void reap(struct master *master)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == master->server) {
            server_ended(master, status);
        }
    }
}

/* --- signals --- */

static void stop(struct master *master)
{
    if (!master->stopping) {
        uint64_t patience = master->config->gateway.drain_timeout + STOP_GRACE;
        master->stopping = true;
        master->restart_at = 0;
        master->kill_at = clock_now() + patience;
        notify_send("STOPPING=1\nSTATUS=draining");
        /* While a copy is open here the kernel would go on taking clients for nobody. */
        endpoints_close_listeners(&master->endpoints);
        order(master, CONTROL_STOP);
    } else if (!master->stopping_now) {
        log_info("master", "told to stop a second time: connections are cut");
        master->stopping_now = true;
        master->kill_at = clock_now() + STOP_GRACE;
        order(master, CONTROL_STOP_NOW);
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
        log_warning("master", "SIGUSR2: a running gateway cannot be replaced by a new binary yet; "
                              "restart to upgrade");
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

static void wait_for_news(struct master *master)
{
    struct pollfd watched[] = {
        {.fd = master->signal_fd, .events = POLLIN},
        {.fd = master->control, .events = POLLIN},
    };
    int number;

    (void)poll(watched, 2, timeout_ms(next_deadline(master)));
    if (watched[1].revents != 0 && master->control >= 0) {
        read_control(master);
    }
    while ((number = signals_next(master->signal_fd)) != 0) {
        on_signal(master, number);
    }
}

/* Returns -1 in the master when all is over, the exit code in a server that it forked. */
static int supervise(struct master *master)
{
    int code = start_server(master);

    while (code < 0 && !(master->stopping && master->server == 0)) {
        wait_for_news(master);
        uint64_t now = clock_now();
        if (master->kill_at != 0 && now >= master->kill_at && master->server != 0) {
            log_error("master", "the server does not stop: it is killed");
            kill(master->server, SIGKILL);
            master->kill_at = 0;
        }
        if (master->reload.running && now >= master->reload.deadline) {
            master_reload_lost(master, "the server does not answer");
        }
        if (master->restart_at != 0 && now >= master->restart_at && !master->stopping) {
            code = start_server(master);
        }
    }
    return code;
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
                            .control = -1};

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
        close_control(&master);
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
