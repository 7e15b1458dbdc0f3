/* SPDX-License-Identifier: MIT */
/*
 * The server process: its loops, everything that runs in them, and its end. It is forked by the
 * master and does as the control socket says.
 */
#ifndef GATEWAY_SERVER_H
#define GATEWAY_SERVER_H

#include "endpoints.h"
#include "privileges.h"

struct config;
struct tls_context;
struct tls_keyring;

/* A server before this one, and where it takes datagrams of its connections (server_older.h). */
struct server_older {
    uint16_t generation;
    int fd;
};

/* What the master hands on; outlives the server. */
struct server_inputs {
    struct config *config;
    struct endpoints *endpoints;  /* the listeners' descriptors become the server's own */
    struct tls_context *tls;      /* NULL: no listener has TLS */
    struct tls_keyring *keyring;  /* NULL: likewise; the server's from now on */
    const char *const *overrides; /* -o of the command line */
    size_t override_count;
    unsigned number; /* of the configuration */
    bool standby;    /* beside an older server: accept nothing until told */
    const struct identity *identity;
    unsigned loops;
    const uint8_t
        *quic_secret; /* CIPHER_SECRET_SIZE bytes: the same for every server of the master */
    uint16_t quic_generation;        /* another one for each */
    int quic_inbox;                  /* datagrams from servers that follow; -1: none */
    struct server_older *quic_older; /* servers before this one that still run */
    unsigned quic_older_count;
    int control; /* owned by the caller */
};

/* EX_SOFTWARE of sysexits.h: a gauge of live objects was not back at zero, with
 * GATEWAYD_STRICT_EXIT=1. */
#define SERVER_EXIT_GAUGES 70

/* Serves until it is told to stop; returns the exit code of the process: 0, 1 (logged),
 * SERVER_EXIT_GAUGES. */
int server_run(const struct server_inputs *inputs);

#endif
