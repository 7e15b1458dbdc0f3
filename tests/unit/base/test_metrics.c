/* SPDX-License-Identifier: MIT */
/* base/metrics.c: shards of several threads, and the table. */
#include "check.h"

#include <pthread.h>

#include "base/metrics.h"

static void *count_up(void *unused)
{
    if (metrics_register_thread() != ERROR_NONE || metrics_register_thread() != ERROR_NONE) {
        return NULL;
    }
    for (int i = 0; i < 10000; i++) {
        METRIC_INCREMENT(loop_turns);
    }
    METRIC_DECREMENT(conns);
    return unused;
}

TEST(metrics_sum_over_threads)
{
    pthread_t threads[4];
    int64_t turns = metrics_sum(METRIC_loop_turns);

    METRIC_INCREMENT(loop_turns); /* before registration: the fallback */
    metric_add(METRIC_conns, 4);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    }
    (void)metrics_sum(METRIC_loop_turns); /* reading while they count */
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ_INT(metrics_sum(METRIC_loop_turns), turns + 40001);
    CHECK_EQ_INT(metrics_sum(METRIC_conns), 0);
}

TEST(metrics_table_is_complete)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        const char *name = metrics_name((enum metric)i);
        CHECK(name != NULL && strlen(name) > 0);
        CHECK_EQ_INT(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
        CHECK(strlen(metrics_help((enum metric)i)) > 5);
        for (int j = 0; j < i; j++) {
            CHECK(strcmp(name, metrics_name((enum metric)j)) != 0);
        }
    }
    CHECK_EQ_STR(metrics_name(METRIC_conns), "conns");
    CHECK_EQ_INT(metrics_kind(METRIC_conns), METRIC_KIND_LIVE);
    CHECK_EQ_INT(metrics_kind(METRIC_loop_turns), METRIC_KIND_COUNTER);
}

CHECK_MAIN
