/* SPDX-License-Identifier: MIT */
/*
 * Our connection ids. 19 bytes: key id (3 bits) and noise, r, r xor loop, then one block of AES-128 over server (4), generation of the
 * process (2), loop (2) and a number of its own (8). Only the loop is in clear, masked, so that the kernel can steer by it (net/udp_bind.c); the rest
 * is encrypted, so that nobody else can make one, or learn from one. Knows no connection.
 */
#ifndef GATEWAY_H3_QUIC_CID_H
#define GATEWAY_H3_QUIC_CID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/cipher.h"

#define QUIC_CID_LENGTH 19u

/* Everything that is derived from the secret of the process family; one per loop, because a cipher serves one thread. */
struct quic_keys {
    struct cipher_block *cipher;
    uint8_t server[4];
    uint8_t reset[CIPHER_SECRET_SIZE]; /* stateless reset tokens */
    uint8_t token[CIPHER_SECRET_SIZE]; /* Retry and NEW_TOKEN */
};

/* What one of our connection ids says. */
struct quic_cid_place {
    uint16_t generation;
    uint16_t loop;
};

/* Derives the keys. The same secret gives the same keys: a replaced process reads the ids of the one before. ERROR_NO_MEMORY. */
enum error quic_keys_init(struct quic_keys *keys,
                          const uint8_t secret[CIPHER_SECRET_SIZE]) MUST_CHECK;
void quic_keys_done(struct quic_keys *keys);

/* A new id of the place. ERROR_NO_MEMORY: the cipher failed. */
enum error quic_cid_make(const struct quic_keys *keys, struct quic_cid_place place,
                         uint8_t out[QUIC_CID_LENGTH]) MUST_CHECK;
/* Whether the bytes are an id that a process with our keys made, and whose. */
bool quic_cid_read(const struct quic_keys *keys, const uint8_t *cid, size_t length,
                   struct quic_cid_place *ret_place) MUST_CHECK;

#endif
