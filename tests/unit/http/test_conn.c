/* SPDX-License-Identifier: MIT */
/* http/conn.c: the group of a loop's connections, their ids, drain, pressure, end, Date; http/pressure.c: the ladder. */
#include "check.h"

#include <time.h>

#include "http_fixture.h"

static struct http_fixture f;

TEST(connections_have_ids_of_their_own_and_leave_the_group)
{
    http_fixture_init(&f);
    uint64_t first = f.conn.id;
    CHECK(first > 0);
    CHECK(conn_list_first(&f.group.conns) == &f.conn);
    conn_done(&f.conn);
    CHECK_EQ_INT(f.closes, 1);
    CHECK(conn_list_empty(&f.group.conns));
    struct conn_identity identity = {.client_host = SLICE("192.0.2.1"), .secure = true};
    conn_init(&f.conn, &f.group, f.conn.ops, "h2", &identity);
    CHECK_EQ_INT(f.conn.id, first + 1);
    CHECK(slice_equal(f.conn.identity.client_host, SLICE("192.0.2.1")));
    CHECK_EQ_STR(f.conn.protocol, "h2");
    http_fixture_done(&f);
}

TEST(a_drain_reaches_every_connection)
{
    http_fixture_init(&f);
    conn_group_drain(&f.group, false);
    CHECK(f.group.draining);
    CHECK_EQ_INT(f.drains, 1);
    CHECK_EQ_INT(f.idle_drains, 0);
    conn_group_drain(&f.group, true); /* the connection leaves the list while it is walked */
    CHECK_EQ_INT(f.idle_drains, 1);
    CHECK(conn_list_empty(&f.group.conns));
    http_fixture_done(&f);
}

TEST(pressure_closes_idle_connections_from_its_rung_on)
{
    http_fixture_init(&f);
    conn_group_set_pressure(&f.group, PRESSURE_REFUSE);
    CHECK_EQ_INT(f.drains, 0);
    conn_group_set_pressure(&f.group, PRESSURE_CLOSE_IDLE);
    CHECK_EQ_INT(f.idle_drains, 1);
    CHECK_EQ_INT(f.group.pressure, PRESSURE_CLOSE_IDLE);
    CHECK(!f.group.draining);
    http_fixture_done(&f);
}

TEST(the_end_of_the_group_ends_each_connection)
{
    http_fixture_init(&f);
    conn_group_destroy_all(&f.group);
    CHECK_EQ_INT(f.destroys, 1);
    CHECK_EQ_INT(f.closes, 1);
    http_fixture_done(&f);
}

/* The same text by the C library, whose locale is "C" here. */
static void library_date(char out[64])
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    gmtime_r(&now.tv_sec, &tm);
    CHECK(strftime(out, 64, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 29);
}

TEST(date_is_an_imf_fixdate_of_now_and_cached)
{
    char before[64], after[64];
    http_fixture_init(&f);
    do { /* again when the second changed in between */
        library_date(before);
        struct slice date = conn_group_date(&f.group);
        CHECK_EQ_INT(date.length, 29);
        library_date(after);
        if (strcmp(before, after) == 0) {
            CHECK_EQ_MEM(date.data, before, 29);
            CHECK_EQ_INT(f.group.date_second, loop_wall_seconds(f.loop));
        }
    } while (strcmp(before, after) != 0);
    f.group.date_text[0] = '?'; /* stays as long as the second does */
    int64_t second = f.group.date_second;
    struct slice again = conn_group_date(&f.group);
    CHECK((again.data[0] == '?') == (f.group.date_second == second));
    http_fixture_done(&f);
}

CHECK_MAIN
