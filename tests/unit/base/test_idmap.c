/* SPDX-License-Identifier: MIT */
/* base/idmap.c against a plain array, and a walk over every failing allocation. */
#include "check.h"

#include "base/hash.h"
#include "base/idmap.h"
#include "base/mem.h"

static int things[512];

TEST(idmap_empty)
{
    struct idmap map;
    size_t cursor = 0;

    idmap_init(&map);
    CHECK(idmap_get(&map, 0) == NULL);
    CHECK(idmap_remove(&map, 1) == NULL);
    CHECK(idmap_next(&map, &cursor) == NULL);
    idmap_done(&map);
}

TEST(idmap_puts_gets_removes)
{
    uint64_t live = mem_live();
    struct idmap map;

    idmap_init(&map);
    CHECK_EQ_INT(idmap_put(&map, 0, &things[0]), ERROR_NONE);
    CHECK_EQ_INT(idmap_put(&map, UINT64_MAX, &things[1]), ERROR_NONE);
    CHECK(idmap_get(&map, 0) == &things[0]);
    CHECK(idmap_get(&map, UINT64_MAX) == &things[1]);
    CHECK(idmap_get(&map, 1) == NULL);
    CHECK(idmap_remove(&map, 0) == &things[0]);
    CHECK(idmap_remove(&map, 0) == NULL);
    CHECK_EQ_INT(map.length, 1);
    idmap_done(&map);
    CHECK_EQ_INT(mem_live(), live);
}

/* Ids that rise by 1 and by 4 (stream ids of h1 links and of HTTP/3) and ids far apart. */
static uint64_t id_of(size_t index)
{
    return index < 200 ? index : index < 400 ? index * 4 + 1 : UINT64_C(0x9E3779B97F4A7C15) * index;
}

TEST(idmap_agrees_with_an_array)
{
    struct idmap map;
    bool present[512] = {false};
    size_t count = 0;

    idmap_init(&map);
    for (int step = 0; step < 50000; step++) {
        size_t i = random_cheap() % 512;
        if (present[i] && random_cheap() % 3 != 0) {
            CHECK(idmap_remove(&map, id_of(i)) == &things[i]);
            present[i] = false;
            count--;
        } else if (!present[i]) {
            CHECK_EQ_INT(idmap_put(&map, id_of(i), &things[i]), ERROR_NONE);
            present[i] = true;
            count++;
        }
        size_t probe = random_cheap() % 512;
        CHECK(idmap_get(&map, id_of(probe)) == (present[probe] ? &things[probe] : NULL));
        CHECK_EQ_INT(map.length, count);
    }
    size_t cursor = 0, seen = 0;
    int *thing;
    while ((thing = idmap_next(&map, &cursor)) != NULL) {
        CHECK(present[thing - things]);
        present[thing - things] = false;
        seen++;
    }
    CHECK_EQ_INT(seen, count);
    idmap_done(&map);
}

TEST(idmap_stays_small_over_many_ids)
{
    struct idmap map;

    idmap_init(&map);
    for (uint64_t id = 0; id < 100000; id++) {
        CHECK_EQ_INT(idmap_put(&map, id, &things[id % 512]), ERROR_NONE);
        if (id >= 4) {
            CHECK(idmap_remove(&map, id - 4) == &things[(id - 4) % 512]);
        }
    }
    CHECK_EQ_INT(map.capacity, 8);
    idmap_done(&map);
}

TEST(idmap_survives_each_failing_allocation)
{
    uint64_t live = mem_live();
    bool complete = false;

    for (uint64_t n = 1; !complete; n++) {
        struct idmap map;
        size_t put = 0;
        idmap_init(&map);
        mem_fail_nth(n, 0);
        for (size_t i = 0; i < 40; i++) {
            put += idmap_put(&map, i, &things[i]) == ERROR_NONE;
        }
        mem_fail_nth(0, 0);
        complete = put == 40;
        CHECK(put >= 39);
        CHECK_EQ_INT(map.length, put);
        idmap_done(&map);
        CHECK_EQ_INT(mem_live(), live);
        CHECK(n < 20);
    }
}

CHECK_MAIN
