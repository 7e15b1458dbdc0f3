/* SPDX-License-Identifier: MIT */
/*
 * Tables for people and for scripts, and the rows that real connections and requests give.
 */
#include "check.h"

#include "admin/admin.h"
#include "base/mem.h"
#include "http/codec.h"
#include "http/conn.h"
#include "http/exchange.h"

static void fill(struct admin_table *table)
{
    static const uint64_t numbers[][2] = {{0, 7}, {1, 70000}};

    admin_table_init(table, ADMIN_APPS);
    for (size_t i = 0; i < 2; i++) {
        admin_table_text(table, i == 0 ? SLICE("a") : SLICE("a longer name"));
        admin_table_text(table, SLICE("serving"));
        admin_table_text(table, i == 0 ? SLICE("") : SLICE("v2"));
        admin_table_number(table, numbers[i][0]);
        admin_table_number(table, numbers[i][1]);
        admin_table_none(table);
        admin_table_number(table, 0);
        admin_table_number(table, 1024);
        admin_table_text(table, SLICE("/run/x"));
        admin_table_text(table, i == 0 ? SLICE("") : SLICE("two\nlines\n\n"));
    }
}

TEST(text_is_aligned)
{
    struct admin_table table;
    struct strbuf out;

    fill(&table);
    strbuf_init(&out);
    admin_table_print(&table, &out);
    CHECK_EQ_STR(strbuf_text(&out), "APP            STATE    GENERATION  READY  WORKERS  IN_FLIGHT "
                                    " WAITING  QUEUE_MAX  SOCKET  "
                                    "LAST_ERROR\n"
                                    "a              serving  -               0        7          - "
                                    "       0       1024  /run/x  "
                                    "-\n"
                                    "a longer name  serving  v2              1    70000          - "
                                    "       0       1024  /run/x  "
                                    "lines\n");
    strbuf_done(&out);
    admin_table_done(&table);
}

TEST(json_says_what_is_left_out)
{
    struct admin_table table;
    struct strbuf out;

    admin_table_init(&table, ADMIN_APPS);
    table.left_out = 7;
    strbuf_init(&out);
    admin_table_json(&table, &out);
    CHECK_EQ_STR(strbuf_text(&out), "[{\"truncated\":true,\"left_out\":7}]");
    strbuf_done(&out);
    admin_table_done(&table);
}

TEST(json_is_exact)
{
    struct admin_table table;
    struct strbuf out;

    fill(&table);
    strbuf_init(&out);
    admin_table_json(&table, &out);
    CHECK_EQ_STR(strbuf_text(&out),
                 "[{\"app\":\"a\",\"state\":\"serving\",\"generation\":null,\"ready\":0,"
                 "\"workers\":7,\"in_flight\":null,\"waiting\":0,\"queue_max\":"
                 "1024,"
                 "\"socket\":\"/run/x\",\"last_error\":null},"
                 "{\"app\":\"a longer "
                 "name\",\"state\":\"serving\",\"generation\":\"v2\",\"ready\":1,\"workers\":70000,"
                 "\"in_flight\":null,\"waiting\":0,"
                 "\"queue_max\":1024,\"socket\":\"/run/x\",\"last_error\":\"two\\nlines\\n\\n\"}]");
    strbuf_done(&out);
    admin_table_done(&table);
}

TEST(an_empty_table)
{
    struct admin_table table;
    struct strbuf out;

    admin_table_init(&table, ADMIN_APPS);
    strbuf_init(&out);
    admin_table_json(&table, &out);
    CHECK_EQ_STR(strbuf_text(&out), "[]");
    strbuf_clear(&out);
    admin_table_print(&table, &out);
    CHECK_EQ_STR(strbuf_text(&out),
                 "APP  STATE  GENERATION  READY  WORKERS  IN_FLIGHT  WAITING  QUEUE_MAX  SOCKET  "
                 "LAST_ERROR\n");
    strbuf_done(&out);
    admin_table_done(&table);
}

TEST(tables_are_joined)
{
    struct admin_table first, second, empty;

    fill(&first);
    fill(&second);
    admin_table_init(&empty, ADMIN_APPS);
    admin_table_append(&first, &empty);
    admin_table_append(&first, &second);
    CHECK_EQ_INT(admin_table_rows(&first), 4);
    CHECK_EQ_STR(admin_table_cell(&first, 3, 0), "a longer name");
    CHECK_EQ_STR(admin_table_cell(&first, 2, 7), "1024");
    admin_table_done(&first);
    admin_table_done(&second);
    admin_table_done(&empty);
}

TEST(times_for_people)
{
    static const struct {
        uint64_t nanoseconds;
        const char *text;
    } rows[] = {{0, "0us"},
                {1500, "1us"},
                {UINT64_C(250000000), "250ms"},
                {UINT64_C(1990000000), "1.9s"},
                {UINT64_C(59000000000), "59.0s"},
                {UINT64_C(61000000000), "1m01s"},
                {UINT64_C(3720000000000), "1h02m"},
                {UINT64_C(176400000000000), "2d01h"}};
    struct strbuf out;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        strbuf_init(&out);
        admin_print_time(rows[i].nanoseconds, &out);
        CHECK_EQ_STR(strbuf_text(&out), rows[i].text);
        strbuf_done(&out);
    }
}

TEST(bytes_for_people)
{
    static const uint64_t values[] = {0, 1023, 1024, 1536, 1048575, 1048576, UINT64_C(5) << 40};
    static const char *const texts[] = {"0", "1023", "1.0K", "1.5K", "1023.9K", "1.0M", "5.0T"};

    for (size_t i = 0; i < 7; i++) {
        struct admin_table table;
        struct strbuf out;
        char expected[16];
        admin_table_init(&table, ADMIN_WORKERS);
        for (size_t column = 0; column < table.column_count; column++) {
            if (table.columns[column].kind == ADMIN_BYTES) {
                admin_table_number(&table, values[i]);
            } else {
                admin_table_none(&table);
            }
        }
        strbuf_init(&out);
        admin_table_print(&table, &out);
        snprintf(expected, sizeof(expected), " %s ", texts[i]);
        CHECK(strstr(strbuf_text(&out), expected) != NULL);
        strbuf_done(&out);
        admin_table_done(&table);
    }
}

TEST(memory_that_runs_out_is_remembered)
{
    struct admin_table table;

    mem_fail_nth(1, 1);
    fill(&table);
    mem_fail_nth(0, 0);
    CHECK(admin_table_failed(&table));
    CHECK_EQ_INT(admin_table_rows(&table), 0);
    admin_table_done(&table);
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */

static void dump(const struct conn *conn, struct strbuf *out)
{
    strbuf_printf(out, "conn %d\n", (int)conn->id);
}

TEST(connections_and_requests_give_rows)
{
    static const struct codec_ops ops = {.dump = dump};
    struct conn_group group;
    struct conn first = {.ops = &ops,
                         .id = 1,
                         .protocol = "http/1.1",
                         .requests = 3,
                         .identity = {.client_host = SLICE("::1"),
                                      .client_port = 99,
                                      .tls_version_name = SLICE("TLSv1.3")}};
    struct conn second = {
        .ops = &ops, .id = 2, .protocol = "h2", .identity = {.unix_peer = true}, .draining = true};
    struct exchange waiting = {
        .conn = &first, .head_at = 1, .request = {.method = SLICE("GET"), .target = SLICE("/a")}};
    struct exchange sending = {.conn = &first,
                               .response_state = RESPONSE_STARTED,
                               .response = {.status = 200},
                               .app_name = SLICE("main"),
                               .worker_pid = 5,
                               .response_bytes = 10};
    struct admin_table table;

    conn_group_init(&group, NULL, NULL, NULL, NULL);
    conn_list_append(&group.conns, &first);
    conn_list_append(&group.conns, &second);
    exchange_list_append(&group.exchanges, &waiting);
    exchange_list_append(&group.exchanges, &sending);

    admin_table_init(&table, ADMIN_CONNECTIONS);
    admin_rows_of_group(&group, 1, ADMIN_CONNECTIONS, &table);
    CHECK_EQ_INT(admin_table_rows(&table), 2);
    CHECK_EQ_STR(admin_table_cell(&table, 0, 1), "1");
    CHECK_EQ_STR(admin_table_cell(&table, 0, 2), "[::1]:99");
    CHECK_EQ_STR(admin_table_cell(&table, 0, 4), "TLSv1.3");
    CHECK_EQ_STR(admin_table_cell(&table, 0, 9), "conn 1");
    CHECK_EQ_STR(admin_table_cell(&table, 1, 2), "unix");
    CHECK_EQ_STR(admin_table_cell(&table, 1, 8), "1");
    admin_table_done(&table);

    admin_table_init(&table, ADMIN_REQUESTS);
    admin_rows_of_group(&group, 0, ADMIN_REQUESTS, &table);
    CHECK_EQ_INT(admin_table_rows(&table), 2);
    CHECK_EQ_STR(admin_table_cell(&table, 0, 4), "waiting");
    CHECK_EQ_STR(admin_table_cell(&table, 0, 6), "");
    CHECK_EQ_STR(admin_table_cell(&table, 0, 9), ""); /* no credit without a worker */
    CHECK_EQ_STR(admin_table_cell(&table, 0, 15), "/a");
    CHECK_EQ_STR(admin_table_cell(&table, 1, 2), "main");
    CHECK_EQ_STR(admin_table_cell(&table, 1, 3), "5");
    CHECK_EQ_STR(admin_table_cell(&table, 1, 4), "responding");
    CHECK_EQ_STR(admin_table_cell(&table, 1, 6), "200");
    admin_table_done(&table);
}

CHECK_MAIN
