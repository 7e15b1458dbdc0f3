/* SPDX-License-Identifier: MIT */
/*
 * One connection to the admin socket or the HTTP endpoint, and what the parts of admin/ know of each other. Internal to admin/.
 */
#ifndef GATEWAY_ADMIN_ADMIN_CONN_H
#define GATEWAY_ADMIN_ADMIN_CONN_H

#include <stdatomic.h>

#include "admin/admin.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/mailbox.h"

#define ADMIN_REQUEST_MAX 8192
#define ADMIN_WORDS_MAX 4
#define ADMIN_MAGIC UINT32_C(0x41444D49)
#define ADMIN_CONN_MAGIC UINT32_C(0x41434F4E)

struct admin_conn;
struct admin_gather;

/* Writes the answer to what the connection asked for, when the rows of the views it wanted are there (tables[view]). */
typedef void admin_render_fn(struct admin_conn *conn, const struct admin_table *tables);

struct admin_conn {
    uint32_t magic;
    struct admin *admin;
    struct list_node in_admin;
    struct loop_io io;
    struct loop_timer timer;
    struct loop_dirty dirty;
    struct loop_grave grave;
    bool is_http, answered;
    char request[ADMIN_REQUEST_MAX + 1];
    size_t request_length;
    struct strbuf answer;
    size_t sent;
    struct admin_gather *gather; /* rows under way, or NULL */
    admin_render_fn *render;
    bool json, head_only;                         /* of the request: JSON is wanted; HTTP HEAD */
    struct slice command, words[ADMIN_WORDS_MAX]; /* in `request` */
    size_t word_count;
    uint32_t wished; /* the number of its wish; 0: none */
    enum admin_wish wish;
};

LIST_DEFINE(admin_conn_list, struct admin_conn, in_admin);

/* What became of the last wish of a kind. */
struct admin_last {
    uint64_t at; /* 0: there was none */
    bool failed;
    char text[1024];
};

/* A listening socket. */
struct admin_listener {
    struct admin *admin;
    struct loop_io io;
    struct loop_timer pause; /* accept failed: try again later */
    bool is_http;
};

struct admin {
    uint32_t magic;
    struct admin_settings settings;
    struct admin_listener listeners[2];
    struct admin_conn_list conns;
    uint64_t started_at;
    struct admin_last last[ADMIN_WISHES];
    struct loop_grave grave;
};

/* The request so far: true when it was complete and has been dealt with (answered, or rows asked for). */
bool admin_command_read(struct admin_conn *conn);
bool admin_http_read(struct admin_conn *conn);
/* Asks the loops for the rows of `views` (bits 1 << view), then calls `render`. */
void admin_gather_start(struct admin_conn *conn, unsigned views, admin_render_fn *render);
/* The connection ends before its rows have come. */
void admin_gather_detach(struct admin_conn *conn);
/* Waits for what becomes of a wish, then answers (admin_wish.c). */
void admin_wish_start(struct admin_conn *conn, enum admin_wish wish);
/* A member or lines of status about the last wishes. */
void admin_wish_report(const struct admin *admin, bool json, struct strbuf *out);
/* The answer is complete in conn->answer: send it, then close. */
void admin_conn_answer(struct admin_conn *conn);
/* Ends the connection now. */
void admin_conn_close(struct admin_conn *conn);

/* Answers (admin_report.c). */
void admin_report_status(const struct admin *admin, const struct admin_table *tables, bool json,
                         struct strbuf *out);
void admin_report_metrics(struct slice prefix, bool json, struct strbuf *out);
/* The Prometheus text format 0.0.4. */
void admin_report_prometheus(const struct admin *admin, const struct admin_table *tables,
                             struct strbuf *out);

#endif
