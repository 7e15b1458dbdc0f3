/* SPDX-License-Identifier: MIT */
/*
 * Rows from all loops: a part for each loop goes there by mail, is filled in its thread, and comes back by mail. The gather owns
 * itself until its last part has ended, so that the connection that asked may go at any time. Mail that is discarded because its
 * loop has ended counts as ended too; the last one frees, in whatever thread that is (no other uses it then).
 */
#include "admin/admin_conn.h"
#include "base/mem.h"

struct part {
    struct mail mail;
    struct admin_gather *gather;
    unsigned index;
    struct admin_table tables[ADMIN_VIEW_COUNT];
};

struct admin_gather {
    struct admin_conn *conn; /* NULL: nobody waits any more; belongs to the admin's loop */
    struct loop *home;
    struct admin_sources sources;
    unsigned views, part_count;
    admin_render_fn *render;
    _Atomic unsigned unfinished;
    struct part parts[];
};

static void gather_free(struct admin_gather *gather)
{
    for (unsigned i = 0; i < gather->part_count; i++) {
        for (size_t view = 0; view < ADMIN_VIEW_COUNT; view++) {
            admin_table_done(&gather->parts[i].tables[view]);
        }
    }
    mem_free(gather);
}

/* All rows are there: those of the later loops go behind those of loop 0. */
static void finish(struct admin_gather *gather)
{
    struct admin_conn *conn = gather->conn;
    struct admin_table *tables = gather->parts[0].tables;
    bool failed = false;

    for (size_t view = 0; view < ADMIN_VIEW_COUNT; view++) {
        for (unsigned i = 1; i < gather->part_count; i++) {
            admin_table_append(&tables[view], &gather->parts[i].tables[view]);
        }
        failed |= admin_table_failed(&tables[view]);
    }
    conn->gather = NULL;
    if (failed) {
        admin_conn_close(conn);
    } else {
        gather->render(conn, tables);
    }
}

static void end_part(struct admin_gather *gather, bool at_home)
{
    if (atomic_fetch_sub(&gather->unfinished, 1) > 1) {
        return;
    }
    if (at_home && gather->conn != NULL) {
        finish(gather);
    }
    gather_free(gather);
}

static void come_home(struct mail *mail, struct loop *loop)
{
    struct part *part = LIST_CONTAINER(mail, struct part, mail);

    (void)loop;
    end_part(part->gather, true);
}

static void discard(struct mail *mail)
{
    struct part *part = LIST_CONTAINER(mail, struct part, mail);

    end_part(part->gather, false);
}

static void fill(struct mail *mail, struct loop *loop)
{
    struct part *part = LIST_CONTAINER(mail, struct part, mail);
    struct admin_gather *gather = part->gather;

    (void)loop;
    for (unsigned view = 0; view < ADMIN_VIEW_COUNT; view++) {
        bool of_this_loop = part->index == 0 || view == ADMIN_CONNECTIONS || view == ADMIN_REQUESTS;
        if ((gather->views & 1u << view) != 0 && of_this_loop) {
            gather->sources.rows(gather->sources.context, (enum admin_view)view, part->index,
                                 &part->tables[view]);
        }
    }
    part->mail.deliver = come_home;
    mailbox_post(gather->home, &part->mail);
}

void admin_gather_start(struct admin_conn *conn, unsigned views, admin_render_fn *render)
{
    const struct admin_settings *settings = &conn->admin->settings;
    /* The registry is loop 0's: only connections and requests are with all loops. */
    bool all = (views & (1u << ADMIN_CONNECTIONS | 1u << ADMIN_REQUESTS)) != 0;
    unsigned count = all ? settings->loop_count : 1;
    struct admin_gather *gather = mem_calloc(1, sizeof(*gather) + count * sizeof(gather->parts[0]));

    if (gather == NULL) {
        admin_conn_close(conn);
        return;
    }
    gather->conn = conn;
    gather->home = settings->loop;
    gather->sources = settings->sources;
    gather->views = views;
    gather->part_count = count;
    gather->render = render;
    atomic_init(&gather->unfinished, count);
    conn->gather = gather;
    for (unsigned i = 0; i < count; i++) {
        struct part *part = &gather->parts[i];
        *part = (struct part){
            .mail = {.deliver = fill, .discard = discard}, .gather = gather, .index = i};
        for (unsigned view = 0; view < ADMIN_VIEW_COUNT; view++) {
            admin_table_init(&part->tables[view], (enum admin_view)view);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        mailbox_post(settings->loops[i], &gather->parts[i].mail);
    }
}

void admin_gather_detach(struct admin_conn *conn)
{
    if (conn->gather != NULL) {
        conn->gather->conn = NULL;
        conn->gather = NULL;
    }
}
