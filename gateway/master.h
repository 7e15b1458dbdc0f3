/* SPDX-License-Identifier: MIT */
/*
 * The master process: a single thread without protocol code that binds, starts and watches the
 * server, and speaks with the operator and the service manager.
 */
#ifndef GATEWAY_MASTER_H
#define GATEWAY_MASTER_H

#include <stddef.h>

struct config;
struct tls_context;
struct tls_keyring;

/* Where the configuration came from, to read it again. */
struct master_source {
    const char *path; /* NULL: none */
    const char *const *overrides;
    size_t override_count;
};

/* Runs until it is told to stop; returns the exit code of the process (the forked server returns
 * through it too). `tls` and `keyring` are NULL when no listener has TLS. Takes all three over, also on failure. */
int master_run(struct config *config, struct tls_context *tls, struct tls_keyring *keyring,
               const struct master_source *source);

#endif
