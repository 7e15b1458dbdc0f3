/* SPDX-License-Identifier: MIT */
/* What all connections share, and the group that a loop keeps of them. It must not know a codec. */
#include "http/conn.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/metrics.h"

#define CONN_MAGIC UINT32_C(0x434f4e4e)

static _Atomic uint64_t last_id;

void conn_init(struct conn *conn, struct conn_group *group, const struct codec_ops *ops,
               const char *protocol, const struct conn_identity *identity)
{
    *conn = (struct conn){
        .magic = CONN_MAGIC,
        .ops = ops,
        .group = group,
        .loop = group->loop,
        .identity = *identity,
        .protocol = protocol,
        .id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1,
        .opened_at = loop_now(group->loop),
    };
    unconfirmed_list_init(&conn->unconfirmed);
    conn_list_append(&group->conns, conn);
}

void conn_hand_over(struct conn *conn)
{
    REQUIRE_OBJECT(conn, CONN_MAGIC);
    struct exchange *exchange;
    conn_list_remove(&conn->group->conns, conn);
    while ((exchange = unconfirmed_list_pop(&conn->unconfirmed)) != NULL) {
        exchange->charged_to = NULL;
    }
}

void conn_done(struct conn *conn)
{
    REQUIRE_OBJECT(conn, CONN_MAGIC);
    struct conn_group *group = conn->group;
    conn_hand_over(conn);
    if (group->on_closed != NULL) {
        group->on_closed(group, conn, group->on_closed_context);
    }
}

void conn_group_init(struct conn_group *group, struct loop *loop,
                     const struct http_settings *settings, const struct exchange_handler *handler,
                     void *handler_context)
{
    *group = (struct conn_group){
        .loop = loop,
        .settings = settings,
        .handler = handler,
        .handler_context = handler_context,
        .date_second = -1,
    };
    conn_list_init(&group->conns);
    exchange_list_init(&group->exchanges);
}

void conn_group_drain(struct conn_group *group, bool close_idle)
{
    group->draining = true;
    LIST_EACH(conn_list, &group->conns, struct conn, conn)
    {
        conn->ops->drain(conn, close_idle);
    }
}

void conn_group_set_pressure(struct conn_group *group, enum pressure level)
{
    group->pressure = level;
    if (level >= PRESSURE_CLOSE_IDLE) {
        LIST_EACH(conn_list, &group->conns, struct conn, conn)
        {
            conn->ops->drain(conn, true);
        }
    }
}

void conn_group_destroy_all(struct conn_group *group)
{
    LIST_EACH(conn_list, &group->conns, struct conn, conn)
    {
        conn->ops->destroy(conn);
    }
}

struct slice conn_group_date(struct conn_group *group)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int64_t now = loop_wall_seconds(group->loop);
    if (now != group->date_second) {
        time_t seconds = (time_t)now;
        struct tm tm;
        gmtime_r(&seconds, &tm);
        /* Not strftime: %a and %b follow the locale (RFC 9110 5.6.7 wants English). */
        int length =
            snprintf(group->date_text, sizeof group->date_text,
                     "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday % 7], tm.tm_mday,
                     months[tm.tm_mon % 12], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
        REQUIRE(length > 0 && (size_t)length < sizeof group->date_text);
        group->date_second = now;
        group->date = (struct slice){group->date_text, (size_t)length};
    }
    return group->date;
}
