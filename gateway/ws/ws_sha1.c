/* SPDX-License-Identifier: MIT */
/* Two blocks at most, on the stack. Pure functions. */
#include "ws/ws_sha1.h"

#include <string.h>

#include "base/check.h"

#define BLOCK 64

static uint32_t rotate(uint32_t word, unsigned bits)
{
    return word << bits | word >> (32 - bits);
}

/* RFC 3174 section 6.1. */
static void digest_block(uint32_t hash[5], const uint8_t block[BLOCK])
{
    uint32_t words[80];
    for (size_t t = 0; t < 16; t++) {
        words[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 |
                   (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
    }
    for (size_t t = 16; t < 80; t++) {
        words[t] = rotate(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16], 1);
    }
    uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4];
    for (size_t t = 0; t < 80; t++) {
        uint32_t f = t < 20              ? ((b & c) | (~b & d)) + 0x5a827999
                     : t >= 40 && t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                     : t < 40            ? (b ^ c ^ d) + 0x6ed9eba1
                                         : (b ^ c ^ d) + 0xca62c1d6;
        uint32_t next = rotate(a, 5) + f + e + words[t];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    hash[0] += a;
    hash[1] += b;
    hash[2] += c;
    hash[3] += d;
    hash[4] += e;
}

void ws_sha1(struct slice text, uint8_t ret_digest[WS_SHA1_SIZE])
{
    uint32_t hash[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t blocks[2 * BLOCK] = {0};
    REQUIRE(text.length <= 2 * BLOCK - 9);
    memcpy(blocks, text.data, text.length);
    blocks[text.length] = 0x80;
    size_t total = text.length <= BLOCK - 9 ? BLOCK : 2 * BLOCK;
    uint64_t bits = (uint64_t)text.length * 8;
    for (size_t i = 0; i < 8; i++) {
        blocks[total - 1 - i] = (uint8_t)(bits >> (8 * i));
    }
    for (size_t at = 0; at < total; at += BLOCK) {
        digest_block(hash, blocks + at);
    }
    for (size_t i = 0; i < WS_SHA1_SIZE; i++) {
        ret_digest[i] = (uint8_t)(hash[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void ws_base64(const uint8_t *data, size_t length, char *ret_text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16;
        bits |= i + 1 < length ? (uint32_t)data[i + 1] << 8 : 0;
        bits |= i + 2 < length ? data[i + 2] : 0;
        *ret_text++ = alphabet[bits >> 18];
        *ret_text++ = alphabet[bits >> 12 & 63];
        *ret_text++ = i + 1 < length ? alphabet[bits >> 6 & 63] : '=';
        *ret_text++ = i + 2 < length ? alphabet[bits & 63] : '=';
    }
}
