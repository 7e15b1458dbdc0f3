/* SPDX-License-Identifier: MIT */
/*
 * What operators wish and admin/ cannot do itself: passed on, waited for, answered, and remembered for status.
 */
#include <stdio.h>
#include <string.h>

#include "admin/admin_conn.h"
#include "base/clock.h"

/* A wish may take longer than a question: gatewayctl's own patience ends it. */
static const uint64_t patience[ADMIN_WISHES] = {
    [ADMIN_WISH_RELOAD] = 60 * CLOCK_NS_PER_S,
    [ADMIN_WISH_UPGRADE] = 120 * CLOCK_NS_PER_S,
};
static const char *const names[ADMIN_WISHES] = {
    [ADMIN_WISH_RELOAD] = "reload",
    [ADMIN_WISH_UPGRADE] = "upgrade",
};

void admin_wish_start(struct admin_conn *conn, enum admin_wish wish)
{
    const struct admin_sources *sources = &conn->admin->settings.sources;

    if (loop_timer_set(&conn->timer, patience[wish]) != ERROR_NONE) {
        admin_conn_close(conn);
        return;
    }
    conn->wish = wish;
    conn->wished = sources->wish(sources->context, wish);
}

/* Lines of the text that are not the first are told too: each is a place in the configuration. */
static void answer(struct admin_conn *conn, const struct admin_result *result)
{
    struct strbuf *out = &conn->answer;

    conn->wished = 0;
    if (result->failed) {
        strbuf_append_text(out, "error: ");
        strbuf_append_text(out, result->text);
    } else if (conn->json) {
        strbuf_append_text(out, "ok\n{\"text\":\"");
        strbuf_append_json(out, slice_from(result->text));
        strbuf_append_text(out, "\"}");
    } else {
        strbuf_append_text(out, "ok\n");
        strbuf_append_text(out, result->text);
    }
    if (out->length > 0 && !out->failed && out->data[out->length - 1] != '\n') {
        strbuf_append_char(out, '\n');
    }
    admin_conn_answer(conn);
}

void admin_tell(struct admin *admin, const struct admin_result *result)
{
    struct admin_last *last = &admin->last[result->wish];

    REQUIRE_OBJECT(admin, ADMIN_MAGIC);
    last->at = clock_now();
    last->failed = result->failed;
    snprintf(last->text, sizeof(last->text), "%s", result->text);
    last->text[strcspn(last->text, "\n")] = '\0'; /* the first line says it */
    LIST_EACH(admin_conn_list, &admin->conns, struct admin_conn, conn)
    {
        if (conn->wished != 0 && conn->wish == result->wish && conn->wished <= result->number) {
            answer(conn, result);
        }
    }
}

void admin_wish_report(const struct admin *admin, bool json, struct strbuf *out)
{
    for (int i = 0; i < ADMIN_WISHES; i++) {
        const struct admin_last *last = &admin->last[i];
        uint64_t ago = last->at == 0 ? 0 : clock_now() - last->at;
        if (json && last->at == 0) {
            strbuf_printf(out, "\"%s\":null,", names[i]);
        } else if (json) {
            strbuf_printf(out, "\"%s\":{\"failed\":%s,\"ago_s\":%llu,\"text\":\"", names[i],
                          last->failed ? "true" : "false",
                          (unsigned long long)(ago / CLOCK_NS_PER_S));
            strbuf_append_json(out, slice_from(last->text));
            strbuf_append_text(out, "\"},");
        } else if (last->at != 0) {
            strbuf_printf(out, "%s ", names[i]);
            admin_print_time(ago, out);
            strbuf_printf(out, " ago%s: ", last->failed ? " FAILED" : "");
            admin_print_clean(last->text, out);
            strbuf_append_char(out, '\n');
        }
    }
}
