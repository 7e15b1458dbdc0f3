/* SPDX-License-Identifier: MIT */
/*
 * Session ticket keys: a ring that is read without locks by every loop and written once in a key's life, by whichever loop
 * first finds the newest key too old. A sequence number (odd while a writer is at work) tells readers to read again; all
 * shared words are atomics, so a torn read is thrown away and never a data race. Owns the keys and wipes them.
 */
#include "net/tls_keyring.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/metrics.h"

#define KEY_WORDS (sizeof(struct tls_ticket_key) / sizeof(uint64_t))
_Static_assert(sizeof(struct tls_ticket_key) % sizeof(uint64_t) == 0, "keys are whole words");

struct tls_keyring {
    uint64_t key_life_ns;
    uint64_t kept;
    _Atomic uint64_t sequence;
    _Atomic uint64_t made;    /* keys ever made; the newest lies at (made - 1) % kept */
    _Atomic uint64_t words[]; /* kept * KEY_WORDS */
};

struct tls_keyring *tls_keyring_new(uint64_t key_life_ns, unsigned keys_kept)
{
    REQUIRE(key_life_ns > 0 && keys_kept > 0);
    struct tls_keyring *keyring =
        mem_calloc(1, sizeof(*keyring) + keys_kept * KEY_WORDS * sizeof(keyring->words[0]));
    if (keyring != NULL) {
        keyring->key_life_ns = key_life_ns;
        keyring->kept = keys_kept;
    }
    return keyring;
}

void tls_keyring_free(struct tls_keyring *keyring)
{
    if (keyring != NULL) {
        OPENSSL_cleanse((void *)(uintptr_t)keyring->words,
                        keyring->kept * KEY_WORDS * sizeof(keyring->words[0]));
        mem_free(keyring);
    }
}

/* Reads one word so that the sequence read after it is the younger one. */
static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

/* Copies the key that is `age` keys older than the newest; false when there is none. */
static bool copy_out(const struct tls_keyring *keyring, uint64_t age,
                     struct tls_ticket_key *ret_key, uint64_t *ret_sequence)
{
    for (;;) {
        uint64_t before = load(&keyring->sequence);
        if (before & 1) {
            continue; /* a writer copies a few words */
        }
        uint64_t made = load(&keyring->made);
        bool there = age < made && age < keyring->kept;
        if (there) {
            uint64_t slot = (made - 1 - age) % keyring->kept;
            uint64_t copy[KEY_WORDS];
            for (size_t i = 0; i < KEY_WORDS; i++) {
                copy[i] = load(&keyring->words[slot * KEY_WORDS + i]);
            }
            memcpy(ret_key, copy, sizeof(*ret_key));
            OPENSSL_cleanse(copy, sizeof(copy));
        }
        if (atomic_load_explicit(&keyring->sequence, memory_order_relaxed) == before) {
            *ret_sequence = before;
            return there;
        }
    }
}

/* Adds a key if nobody else did since `sequence`. */
static void rotate(struct tls_keyring *keyring, uint64_t now, uint64_t sequence)
{
    struct tls_ticket_key key;
    random_bytes(&key, sizeof(key));
    key.made_at = now;
    uint64_t copy[KEY_WORDS];
    memcpy(copy, &key, sizeof(copy));
    if (atomic_compare_exchange_strong_explicit(&keyring->sequence, &sequence, sequence + 1,
                                                memory_order_acquire, memory_order_relaxed)) {
        uint64_t made = atomic_load_explicit(&keyring->made, memory_order_relaxed);
        uint64_t slot = made % keyring->kept;
        for (size_t i = 0; i < KEY_WORDS; i++) {
            atomic_store_explicit(&keyring->words[slot * KEY_WORDS + i], copy[i],
                                  memory_order_release);
        }
        atomic_store_explicit(&keyring->made, made + 1, memory_order_release);
        atomic_store_explicit(&keyring->sequence, sequence + 2, memory_order_release);
        METRIC_INCREMENT(tls_ticket_keys);
    }
    OPENSSL_cleanse(&key, sizeof(key));
    OPENSSL_cleanse(copy, sizeof(copy));
}

static bool older_than(const struct tls_ticket_key *key, uint64_t now, uint64_t life)
{
    return now > key->made_at && now - key->made_at >= life;
}

void tls_keyring_current(struct tls_keyring *keyring, uint64_t now, struct tls_ticket_key *ret_key)
{
    uint64_t sequence = 0;
    while (!copy_out(keyring, 0, ret_key, &sequence) ||
           older_than(ret_key, now, keyring->key_life_ns)) {
        rotate(keyring, now, sequence);
    }
}

bool tls_keyring_find(struct tls_keyring *keyring, uint64_t now,
                      const uint8_t name[TLS_TICKET_NAME_SIZE], struct tls_ticket_key *ret_key,
                      bool *ret_renew)
{
    uint64_t sequence = 0;
    for (uint64_t age = 0; copy_out(keyring, age, ret_key, &sequence); age++) {
        if (memcmp(ret_key->name, name, TLS_TICKET_NAME_SIZE) != 0) {
            continue;
        }
        if (older_than(ret_key, now, keyring->key_life_ns * keyring->kept)) {
            break;
        }
        *ret_renew = age > 0 || older_than(ret_key, now, keyring->key_life_ns);
        return true;
    }
    OPENSSL_cleanse(ret_key, sizeof(*ret_key));
    return false;
}
