/* SPDX-License-Identifier: MIT */
/* Starting servers, and speaking to the one that serves. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "master_state.h"
#include "server.h"

#define BACKOFF_FIRST CLOCK_NS_PER_S
#define BACKOFF_MAX (30 * CLOCK_NS_PER_S)
/* How long the server may take to make room for a message: it may be waiting for its loops. */
#define SEND_PATIENCE_MS 5000
/* Bytes, packets of some milliseconds: what the old server reads late is lost. */
#define DATAGRAM_PAIR_ROOM (1 << 20)

void master_close_control(struct master *master)
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

void master_order(struct master *master, enum control_kind kind)
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

void master_plan_restart(struct master *master)
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

/* What a server has no business with: while a copy of the master's end is open elsewhere, its death is not told. */
static void close_others(struct master *master)
{
    master_close_control(master);
    if (master->upgrade.control >= 0) {
        close(master->upgrade.control);
    }
    for (unsigned i = 0; i < master->draining_count; i++) {
        close(master->draining[i].control);
    }
    if (master->upgrade.two) { /* a socket that is listened on no more */
        endpoints_forget(&master->upgrade.old, &master->endpoints);
        master->upgrade.two = false;
    }
}

/* The servers whose connections may still get datagrams; how many. */
static unsigned list_older(const struct master *master, struct server_older *older)
{
    unsigned count = 0;

    if (master->quic.fd >= 0) {
        older[count++] = master->quic;
    }
    for (unsigned i = 0; i < master->draining_count; i++) {
        if (master->draining[i].quic.fd >= 0) {
            older[count++] = master->draining[i].quic;
        }
    }
    return count;
}

/* Runs as the child and returns the process's exit code. */
static int be_server(struct master *master, bool standby, int control, int inbox)
{
    struct server_older older[MASTER_DRAINING_MAX + 1];
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
        .standby = standby,
        .quic_inbox = inbox,
        .quic_older = older,
        .quic_older_count = list_older(master, older),
        .control = control,
    };

    close(master->signal_fd);
    close_others(master);
    if (master->endpoints.pid_file >= 0) {
        close(master->endpoints.pid_file); /* the lock is the master's alone */
    }
    int code = server_run(&inputs);
    close(control);
    return code;
}

/* By which servers that follow hand packets to this one; none: such packets are lost. */
static void make_datagram_pair(const struct master *master, int pair[2])
{
    const int room = DATAGRAM_PAIR_ROOM;

    if (master->endpoints.datagram_count == 0) {
        return;
    }
    if (control_pair(pair) != ERROR_NONE) {
        log_warning("master", "cannot make a socket for datagrams of an upgrade: %s",
                    strerror(errno));
        return;
    }
    /* The kernel gives as much of it as net.core.wmem_max lets it. */
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

int master_fork_server(struct master *master, bool standby, pid_t *ret_pid, int *ret_control,
                       struct server_older *ret_quic)
{
    int pair[2], datagrams[2] = {-1, -1};

    if (control_pair(pair) != ERROR_NONE) {
        log_error("master", "cannot make a socket for the server: %s", strerror(errno));
        return -1;
    }
    make_datagram_pair(master, datagrams);
    fflush(NULL);
    master->quic_generation++;
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        master_close_quic(&(struct server_older){.fd = datagrams[0]});
        return be_server(master, standby, pair[1], datagrams[1]);
    }
    close(pair[1]);
    master_close_quic(&(struct server_older){.fd = datagrams[1]});
    if (child < 0) {
        log_error("master", "cannot start the server: fork: %s", strerror(errno));
        close(pair[0]);
        master_close_quic(&(struct server_older){.fd = datagrams[0]});
        return -1;
    }
    *ret_pid = child;
    *ret_control = pair[0];
    *ret_quic = (struct server_older){master->quic_generation, datagrams[0]};
    return -1;
}

void master_close_quic(struct server_older *quic)
{
    if (quic->fd >= 0) {
        close(quic->fd);
        quic->fd = -1;
    }
}

/* After a failed upgrade the sockets are those of the configuration before. False: said why. */
static bool open_what_is_new(struct master *master)
{
    struct endpoints fresh;
    char text[640];

    if (!master->stale) {
        return true;
    }
    if (endpoints_renew(&fresh, &master->endpoints, false, master->config, master->loops,
                        &master->identity, text, sizeof(text)) != ERROR_NONE) {
        log_error("master", "%s", text);
        return false;
    }
    endpoints_replace(&master->endpoints, &fresh);
    master->endpoints = fresh;
    master->stale = false;
    return true;
}

/* Returns -1 in the master, the exit code in the child. */
int master_start_server(struct master *master)
{
    int code = -1;

    master->restart_at = 0;
    if (open_what_is_new(master)) {
        code = master_fork_server(master, false, &master->server, &master->control, &master->quic);
    }
    if (code < 0 && master->server == 0) {
        master_plan_restart(master);
    }
    master->ready = false;
    master->started_at = clock_now();
    return code;
}
