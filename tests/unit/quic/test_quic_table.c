/* SPDX-License-Identifier: MIT */
/* Connection ids: what they say, who can make them, and whose they are. */
#include "check.h"

#include "base/hash.h"
#include "base/mem.h"
#include "h3/quic_cid.h"
#include "h3/quic_table.h"

static const uint8_t secret[CIPHER_SECRET_SIZE] = "a secret that the master made";
static const uint8_t other_secret[CIPHER_SECRET_SIZE] = "another secret of another master";

static struct quic_keys keys_of(const uint8_t *from)
{
    struct quic_keys keys;
    REQUIRE(quic_keys_init(&keys, from) == ERROR_NONE);
    return keys;
}

TEST(a_cid_tells_its_place_to_whoever_has_the_keys)
{
    struct quic_keys keys = keys_of(secret), again = keys_of(secret);
    for (unsigned loop = 0; loop < 64; loop++) {
        struct quic_cid_place place = {(uint16_t)(loop * 1021), (uint16_t)loop}, read = {0};
        uint8_t cid[QUIC_CID_LENGTH];
        CHECK_EQ_INT(quic_cid_make(&keys, place, cid), ERROR_NONE);
        CHECK(quic_cid_read(&again, cid, sizeof(cid), &read));
        CHECK_EQ_INT(read.generation, place.generation);
        CHECK_EQ_INT(read.loop, loop);
        /* What the kernel steers by. */
        CHECK_EQ_INT(cid[1] ^ cid[2], loop);
        CHECK_EQ_INT(cid[0] >> 5, 0);
    }
    quic_keys_done(&keys);
    quic_keys_done(&again);
}

TEST(nobody_else_reads_or_makes_one)
{
    struct quic_keys keys = keys_of(secret), others = keys_of(other_secret);
    struct quic_cid_place place = {1, 2}, read;
    uint8_t cid[QUIC_CID_LENGTH], changed[QUIC_CID_LENGTH];
    CHECK_EQ_INT(quic_cid_make(&keys, place, cid), ERROR_NONE);
    CHECK(!quic_cid_read(&others, cid, sizeof(cid), &read));
    CHECK(!quic_cid_read(&keys, cid, sizeof(cid) - 1, &read));
    for (size_t at = 0; at < sizeof(cid); at++) {
        memcpy(changed, cid, sizeof(cid));
        changed[at] ^= 0x80;
        CHECK(!quic_cid_read(&keys, changed, sizeof(changed), &read));
    }
    for (int i = 0; i < 10000; i++) {
        random_bytes(changed, sizeof(changed));
        CHECK(!quic_cid_read(&keys, changed, sizeof(changed), &read));
    }
    quic_keys_done(&keys);
    quic_keys_done(&others);
}

TEST(no_two_cids_are_equal)
{
    struct quic_keys keys = keys_of(secret);
    struct quic_cid_place place = {7, 3};
    uint8_t first[QUIC_CID_LENGTH], second[QUIC_CID_LENGTH];
    CHECK_EQ_INT(quic_cid_make(&keys, place, first), ERROR_NONE);
    CHECK_EQ_INT(quic_cid_make(&keys, place, second), ERROR_NONE);
    CHECK(memcmp(first + 3, second + 3, 16) != 0);
    quic_keys_done(&keys);
}

TEST(the_table_finds_what_was_added_and_nothing_else)
{
    enum { COUNT = 5000 };
    static struct quic_owner owners[COUNT];
    struct quic_table table;
    uint64_t live = mem_live();
    CHECK_EQ_INT(quic_table_init(&table), ERROR_NONE);
    for (uint64_t i = 0; i < COUNT; i++) {
        quic_owner_init(&owners[i], QUIC_OWNER_CONN);
        CHECK_EQ_INT(quic_table_add(&table, &owners[i], &i, sizeof(i)), ERROR_NONE);
        CHECK_EQ_INT(quic_table_add(&table, &owners[0], &i, sizeof(i)), ERROR_INVALID);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK(quic_table_find(&table, &i, sizeof(i)) == &owners[i]);
        CHECK(quic_table_find(&table, &i, sizeof(i) - 1) == NULL);
        if (i % 2 == 0) {
            quic_table_remove(&table, &owners[i + 1], &i, sizeof(i)); /* not its own */
            CHECK(quic_table_find(&table, &i, sizeof(i)) == &owners[i]);
            quic_table_remove(&table, &owners[i], &i, sizeof(i));
            CHECK(quic_table_find(&table, &i, sizeof(i)) == NULL);
        }
    }
    CHECK(quic_table_find(&table, owners, 0) == NULL);
    CHECK(quic_table_find(&table, owners, QUIC_ROUTE_MAX + 1) == NULL);
    for (uint64_t i = 1; i < COUNT; i += 2) {
        quic_table_drop(&table, &owners[i]);
    }
    CHECK_EQ_INT(table.length, 0);
    quic_table_done(&table);
    CHECK_EQ_INT(mem_live(), live);
}

TEST(a_closed_connection_hands_its_ids_on)
{
    struct quic_owner conn, wait;
    struct quic_table table;
    CHECK_EQ_INT(quic_table_init(&table), ERROR_NONE);
    quic_owner_init(&conn, QUIC_OWNER_CONN);
    quic_owner_init(&wait, QUIC_OWNER_CLOSE_WAIT);
    CHECK_EQ_INT(quic_table_add(&table, &conn, "one", 3), ERROR_NONE);
    CHECK_EQ_INT(quic_table_add(&table, &conn, "two", 3), ERROR_NONE);
    quic_owner_move(&conn, &wait);
    CHECK(quic_table_find(&table, "one", 3) == &wait && quic_table_find(&table, "two", 3) == &wait);
    quic_table_drop(&table, &conn); /* has none any more */
    CHECK_EQ_INT(table.length, 2);
    quic_table_drop(&table, &wait);
    quic_table_done(&table);
}

CHECK_MAIN
