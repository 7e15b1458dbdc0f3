/* SPDX-License-Identifier: MIT */
/* base/hash.c: SipHash-1-3 against known answers, and the random sources. */
#include "check.h"

#include "base/hash.h"

/* Key 00..0f, message 00, 01, ... of each length: answers of a second implementation, written
 * from the paper and checked with the paper's own SipHash-2-4 example. */
static const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
static const struct {
    size_t length;
    uint64_t hash;
} known[] = {
    {0, UINT64_C(0xabac0158050fc4dc)},  {1, UINT64_C(0xc9f49bf37d57ca93)},
    {7, UINT64_C(0xd3927d989bb11140)},  {8, UINT64_C(0x369095118d299a8e)},
    {9, UINT64_C(0x25a48eb36c063de4)},  {15, UINT64_C(0xd320d86d2a519956)},
    {16, UINT64_C(0xcc4fdd1a7d908b66)}, {31, UINT64_C(0x2370dd1f8c21d1bc)},
    {63, UINT64_C(0x9d199062b7bbb3a8)},
};

TEST(hash_matches_known_answers)
{
    uint8_t message[64];

    for (size_t i = 0; i < sizeof(message); i++) {
        message[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        CHECK(hash_bytes_keyed(key, message, known[i].length) == known[i].hash);
    }
}

TEST(hash_is_stable_and_depends_on_every_byte)
{
    char text[40] = "the quick brown fox jumps over the dog";
    uint64_t before = hash_bytes(text, sizeof(text));

    CHECK(hash_bytes(text, sizeof(text)) == before);
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] ^= 1;
        CHECK(hash_bytes(text, sizeof(text)) != before);
        text[i] ^= 1;
    }
    CHECK(hash_bytes(text, sizeof(text) - 1) != before);
}

TEST(random_bytes_fill_everything)
{
    uint8_t seen[300] = {0};

    /* a byte that stays 0 in 64 draws would be chance 2^-512 */
    for (int draw = 0; draw < 64; draw++) {
        uint8_t bytes[300];
        random_bytes(bytes, sizeof(bytes));
        for (size_t i = 0; i < sizeof(bytes); i++) {
            seen[i] |= bytes[i];
        }
    }
    for (size_t i = 0; i < sizeof(seen); i++) {
        CHECK(seen[i] != 0);
    }
}

TEST(random_cheap_is_spread)
{
    unsigned buckets[16] = {0};

    for (int i = 0; i < 16000; i++) {
        buckets[random_cheap() % 16]++;
    }
    for (int i = 0; i < 16; i++) {
        CHECK(buckets[i] > 700 && buckets[i] < 1300);
    }
}

CHECK_MAIN
