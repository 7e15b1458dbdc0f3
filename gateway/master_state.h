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
    pid_t server;   /* 0: none runs */
    int control;    /* -1: none */
    bool ready;     /* it said so */
    bool was_ready; /* some server of this master did */
    uint64_t started_at;
    unsigned failures;   /* deaths in a row */
    uint64_t restart_at; /* 0: not waiting */
    uint64_t kill_at;    /* 0: not waiting */
    struct master_reload reload;
    /* the end */
    bool stopping, stopping_now;
    int exit_code;
};

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
/* CONTROL_RELOADED and CONTROL_REFUSED. */
void master_reload_answered(struct master *master, const struct control_message *message);
/* The server is gone, or has not answered in time (`why`): nothing is changed. */
void master_reload_lost(struct master *master, const char *why);

#endif
