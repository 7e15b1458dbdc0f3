/* SPDX-License-Identifier: MIT */
/*
 * Orders of operators to apps: words are made into calls of app/. It must not know who asked.
 */
#include "admin/admin.h"
#include "app/app_deploy.h"

static enum admin_verdict verdict_of(enum error error)
{
    return error == ERROR_NONE ? ADMIN_DONE : ADMIN_REFUSED;
}

static enum admin_verdict outcome(const struct app *app, struct slice generation,
                                  struct strbuf *text)
{
    static const enum admin_verdict verdicts[] = {[DEPLOY_PENDING] = ADMIN_PENDING,
                                                  [DEPLOY_DONE] = ADMIN_DONE,
                                                  [DEPLOY_FAILED] = ADMIN_FAILED};

    return verdicts[app_outcome(app, generation, text)];
}

/* WORKER [--force]: a pid, or id:N. */
static enum admin_verdict drain(struct apps *apps, const struct slice *words, size_t count,
                                struct strbuf *text)
{
    struct slice worker = {NULL, 0};
    unsigned long long number;
    bool force = false;

    for (size_t i = 0; i < count; i++) {
        if (slice_equal(words[i], SLICE("--force"))) {
            force = true;
        } else {
            worker = words[i];
        }
    }
    bool id = slice_starts_with(worker, SLICE("id:"));
    if (!slice_to_uint(id ? slice_skip(worker, 3) : worker, UINT32_MAX, &number)) {
        strbuf_printf(text, "\"%.*s\" is no worker; write its pid, or id:N (gatewayctl workers)",
                      SLICE_PRINT(worker));
        return ADMIN_REFUSED;
    }
    return verdict_of(apps_drain_worker(apps, number, id, force, text));
}

enum admin_verdict admin_order_apps(struct apps *apps, struct slice command,
                                    const struct slice *words, size_t count, struct strbuf *text)
{
    if (slice_equal(command, SLICE("drain"))) {
        return drain(apps, words, count, text);
    }
    struct app *app = apps_find(apps, words[0]);
    if (app == NULL) {
        strbuf_printf(text, "there is no app \"%.*s\"; gatewayctl apps lists them",
                      SLICE_PRINT(words[0]));
        return ADMIN_REFUSED;
    }
    if (slice_equal(command, SLICE("deploy"))) {
        return verdict_of(app_order(app, words[1], text));
    }
    if (slice_equal(command, SLICE("outcome"))) {
        return outcome(app, words[1], text);
    }
    if (slice_equal(command, SLICE("rollback"))) {
        return verdict_of(app_roll_back(app, text));
    }
    if (slice_equal(command, SLICE("pause"))) {
        return verdict_of(app_pause(app, text));
    }
    REQUIRE(slice_equal(command, SLICE("resume")));
    return verdict_of(app_resume(app, text));
}
