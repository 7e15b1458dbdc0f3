/* SPDX-License-Identifier: MIT */
/*
 * The two primitives that QUIC needs beside TLS: keys derived from one secret, and one block of AES for connection ids. Knows nothing of
 * what the keys are for.
 */
#ifndef GATEWAY_NET_CIPHER_H
#define GATEWAY_NET_CIPHER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CIPHER_SECRET_SIZE 32u
#define CIPHER_BLOCK_SIZE 16u

/* HKDF with SHA-256 (RFC 5869): `size` bytes for the purpose that `label` names. ERROR_NO_MEMORY. */
enum error cipher_derive(const uint8_t secret[CIPHER_SECRET_SIZE], const char *label, uint8_t *out,
                         size_t size) MUST_CHECK;

struct cipher_block;

/* AES-128 under one key, for one thread at a time. NULL: memory is out. */
struct cipher_block *cipher_block_new(const uint8_t key[16]) MUST_CHECK;
void cipher_block_free(struct cipher_block *cipher);
/* One block; `out` may be `in`. ERROR_NO_MEMORY: the library failed. */
enum error cipher_block_encrypt(struct cipher_block *cipher, const uint8_t in[CIPHER_BLOCK_SIZE],
                                uint8_t out[CIPHER_BLOCK_SIZE]) MUST_CHECK;
enum error cipher_block_decrypt(struct cipher_block *cipher, const uint8_t in[CIPHER_BLOCK_SIZE],
                                uint8_t out[CIPHER_BLOCK_SIZE]) MUST_CHECK;

#endif
