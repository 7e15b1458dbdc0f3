/* SPDX-License-Identifier: MIT */
/*
 * The master from inside, for master*.c: what it has open, the server that it watches, and what is under way.
 */
#ifndef GATEWAY_MASTER_STATE_H
#define GATEWAY_MASTER_STATE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/log.h"
#include "control.h"
#include "endpoints.h"
#include "master.h"
#include "net/cipher.h"
#include "privileges.h"
#include "server.h"

struct file_set;
struct tls_keyring;

/* A reload: made here, sent to the server, taken over when it says so. */
struct master_reload {
    bool running;                  /* the server has it and has not answered */
    bool again;                    /* another one was asked for meanwhile */
    uint32_t answers, answer_next; /* wishes that the running one, the next one answers */
    uint64_t deadline;
    struct config *config;
    struct tls_context *tls;
    struct endpoints endpoints;
    struct file_set *files;
};

/* A server that was replaced and drains. */
struct master_child {
    pid_t pid;
    int control;
    struct server_older quic; /* where it takes datagrams; fd -1: nowhere */
    uint64_t kill_at;
};
#define MASTER_DRAINING_MAX 4

enum master_upgrade_phase {
    UPGRADE_NONE,
    UPGRADE_TRIAL,    /* the new binary shows that it starts and takes the configuration */
    UPGRADE_STARTING, /* executed; the new server starts beside the old one */
    UPGRADE_SAVING,   /* the old one says what the new one is to know */
    UPGRADE_WORKERS,  /* the workers dial the new one */
    UPGRADE_RETIRING  /* the old one lets go of the sockets */
};

struct master_upgrade {
    enum master_upgrade_phase phase;
    pid_t pid;                /* of the trial or the new server; 0: none */
    int control;              /* the new server's; -1: none */
    struct server_older quic; /* likewise; fd -1: none */
    int output;               /* the trial's; -1: none */
    char said[2048];          /* by the trial */
    size_t said_length;
    uint64_t deadline;
    uint32_t answers;     /* the last wish that it answers */
    struct endpoints old; /* what the old server had, while there are two */
    bool two;
};

struct master {
    struct config *config; /* owned, as tls and keyring */
    struct tls_context *tls;
    struct tls_keyring *keyring;
    const struct master_source *source;
    unsigned number; /* of the configuration, from 1 */
    struct endpoints endpoints;
    struct identity identity;
    unsigned loops;
    int signal_fd;
    uint8_t quic_secret[CIPHER_SECRET_SIZE]; /* keys of connection ids, tokens and resets */
    uint16_t quic_generation;                /* of the server that runs, or ran last */
    /* the server */
    pid_t server;             /* 0: none runs */
    int control;              /* -1: none */
    struct server_older quic; /* where it takes datagrams; fd -1: nowhere */
    bool ready;               /* it said so */
    bool was_ready;           /* some server of this master did */
    uint64_t started_at;
    unsigned failures;   /* deaths in a row */
    uint64_t restart_at; /* 0: not waiting */
    uint64_t kill_at;    /* 0: not waiting */
    struct master_reload reload;
    struct master_upgrade upgrade;
    struct master_child draining[MASTER_DRAINING_MAX];
    unsigned draining_count;
    bool stale; /* the configuration is newer than what the server and endpoints were made of */
    /* the end */
    bool stopping, stopping_now;
    int exit_code;
};

/* Starts the server for the present configuration: -1 in the master (a failure is logged, and tried again), the exit code in the
 * server. */
int master_start_server(struct master *master);
/* Has it started again, later the more often that was. */
void master_plan_restart(struct master *master);
void master_close_control(struct master *master);
void master_close_quic(struct server_older *quic);
/* Sends an order without more. */
void master_order(struct master *master, enum control_kind kind);
/* Sends to the server; false: it cannot be reached, which is logged. */
bool master_send(struct master *master, const struct control_message *message);
/* Tells operators, by the server, what became of their wishes up to `number`. */
void master_answer(struct master *master, enum control_wish wish, bool failed, uint32_t number,
                   const char *text);
/* Logs a text of many lines, each as one. */
void master_log_lines(enum log_level level, const char *text);
/* Opens the logs anew and gives the server its descriptors. */
void master_reopen_logs(struct master *master);

/* Reads the configuration again and has the server take it over; `wish`: the number of an operator's wish, 0: a signal. */
void master_reload_start(struct master *master, uint32_t wish);
/* What was asked for during an upgrade, now that it is over. */
void master_reload_pending(struct master *master);
/* CONTROL_RELOADED and CONTROL_REFUSED. */
void master_reload_answered(struct master *master, const struct control_message *message);
/* The server is gone, or has not answered in time (`why`): nothing is changed. */
void master_reload_lost(struct master *master, const char *why);

/* --- an upgrade (master_upgrade.c) */

/* Begins: SIGUSR2, or an operator's wish of this number. */
void master_upgrade_start(struct master *master, uint32_t wish);
/* After exec: the old server runs, the endpoints are its own. Returns -1 in the master, the exit code in the new server. */
int master_upgrade_go_on(struct master *master);
/* The trial's output; the new server's messages; the deadline. */
void master_upgrade_read_trial(struct master *master);
void master_upgrade_hear(struct master *master);
void master_upgrade_expired(struct master *master);
/* A child has ended; true: it was of the upgrade. */
bool master_upgrade_ended(struct master *master, pid_t pid, const char *how, bool clean);
/* The old server has died. */
void master_upgrade_bereaved(struct master *master);
/* CONTROL_SAVED, CONTROL_APP_STATE and CONTROL_RETIRED of the old server. */
void master_upgrade_saved(struct master *master, const struct control_message *message);
/* Ends it without a new server. */
void master_upgrade_fail(struct master *master, const char *why);
/* Has a server for the present configuration started: -1 in the master, the exit code in the server. */
int master_fork_server(struct master *master, bool standby, pid_t *ret_pid, int *ret_control,
                       struct server_older *ret_quic);

#endif
