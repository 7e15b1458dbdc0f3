/* SPDX-License-Identifier: MIT */
/*
 * SHA-1 (RFC 3174) of short texts and Base64 (RFC 4648), for Sec-WebSocket-Accept alone: there it proves that the server speaks
 * WebSocket and protects nothing. Hence it stands here: ws/ needs no cryptographic library, and nobody else may use it.
 */
#ifndef GATEWAY_WS_WS_SHA1_H
#define GATEWAY_WS_WS_SHA1_H

#include <stdint.h>

#include "base/slice.h"

#define WS_SHA1_SIZE 20
#define WS_BASE64_SIZE(length) (((length) + 2) / 3 * 4)

/* The digest of at most 119 bytes. */
void ws_sha1(struct slice text, uint8_t ret_digest[WS_SHA1_SIZE]);
/* Base64 with padding: WS_BASE64_SIZE(length) characters, no NUL. */
void ws_base64(const uint8_t *data, size_t length, char *ret_text);

#endif
