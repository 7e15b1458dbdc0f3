/* SPDX-License-Identifier: MIT */
/*
 * Keyed hashing for tables whose keys a peer chooses (SipHash-1-3, Aumasson and Bernstein 2012),
 * and random bytes.
 */
#ifndef GATEWAY_BASE_HASH_H
#define GATEWAY_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The keyed hash of the bytes; the key is random and drawn once per process. Thread-safe. */
uint64_t hash_bytes(const void *data, size_t length);
/* The same under a key of the caller's (known-answer tests; hashes that must be equal in two
 * processes). */
uint64_t hash_bytes_keyed(const uint64_t key[2], const void *data, size_t length);
/* Fills `out` with random bytes from the kernel; ends the process when there are none to be had. */
void random_bytes(void *out, size_t length);
/* A cheap random number for tie-breaks and jitter (thread-local generator; not for secrets). */
uint32_t random_cheap(void);

#endif
