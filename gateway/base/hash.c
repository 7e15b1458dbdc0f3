/* SPDX-License-Identifier: MIT */
/*
 * SipHash-1-3 under a key of the process, and random bytes from getrandom(2). It owns the key and
 * each thread's cheap generator.
 */
#include "base/hash.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"

static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;
static uint64_t hash_key[2];

static void hash_draw_key(void)
{
    random_bytes(hash_key, sizeof(hash_key));
}

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/* Up to 8 bytes, little-endian, whatever the machine. */
static uint64_t sip_word(const uint8_t *data, size_t length)
{
    uint64_t word = 0;

    for (size_t i = 0; i < length; i++) {
        word |= (uint64_t)data[i] << (8 * i);
    }
    return word;
}

uint64_t hash_bytes_keyed(const uint64_t key[2], const void *data, size_t length)
{
    const uint8_t *bytes = data;
    uint64_t v[4] = {
        key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573),
    };
    size_t whole = length & ~(size_t)7;

    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = sip_word(bytes + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)(length & 0xff) << 56;
    if (length > whole) {
        last |= sip_word(bytes + whole, length - whole);
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_bytes(const void *data, size_t length)
{
    pthread_once(&hash_key_once, hash_draw_key);
    return hash_bytes_keyed(hash_key, data, length);
}

void random_bytes(void *out, size_t length)
{
    uint8_t *bytes = out;

    while (length > 0) {
        ssize_t got = getrandom(bytes, length, 0);
        /* Without random numbers no key and no token would be safe: there is no going on. */
        REQUIRE(got > 0 || errno == EINTR);
        if (got > 0) {
            bytes += got;
            length -= (size_t)got;
        }
    }
}

uint32_t random_cheap(void)
{
    static _Thread_local uint64_t state;

    while (state == 0) {
        random_bytes(&state, sizeof(state));
    }
    /* xorshift64* (Vigna 2016): the high half is the good one. */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * UINT64_C(0x2545F4914F6CDD1D)) >> 32);
}
