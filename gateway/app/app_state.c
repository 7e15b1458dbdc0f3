/* SPDX-License-Identifier: MIT */
/*
 * The state file of an app's generations. It is small, and lost is not much when it cannot be written: that is said once.
 */
#include "app/app_state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/app_deploy.h"
#include "base/log.h"

#define STATE_MAX 262144

/* All of a file in `text`; false: errno. */
static bool read_file(int fd, struct strbuf *text)
{
    char buffer[4096];
    for (;;) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got == 0;
        }
        strbuf_append(text, buffer, (size_t)got);
        if (text->failed || text->length > STATE_MAX) {
            errno = EFBIG;
            return false;
        }
    }
}

static bool path_of(const struct app *app, const char *suffix, char path[PATH_MAX])
{
    struct slice file = app->settings->state_file;
    int length = snprintf(path, PATH_MAX, "%.*s%s", SLICE_PRINT(file), suffix);
    return file.length > 0 && length > 0 && length < PATH_MAX;
}

void app_state_read(struct app *app)
{
    char path[PATH_MAX];
    struct strbuf text;
    struct stat status;
    if (!path_of(app, "", path)) {
        return;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        if (errno != ENOENT) {
            log_warning("deploy", "%s: cannot read %s: %s; generations begin anew", app->name, path,
                        strerror(errno));
        }
        return;
    }
    strbuf_init(&text);
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || !read_file(fd, &text)) {
        log_warning("deploy", "%s: cannot read %s; generations begin anew", app->name, path);
    } else if (app_deploy_restore(app, (struct slice){strbuf_text(&text), text.length}) !=
               ERROR_NONE) {
        log_warning("deploy", "%s: %s is damaged; generations begin anew", app->name, path);
    }
    app->state_known = true;
    app->state_dirty = false;
    strbuf_done(&text);
    close(fd);
}

static bool write_file(const char *path, const struct strbuf *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return false;
    }
    ssize_t written;
    do {
        written = write(fd, text->data, text->length);
    } while (written < 0 && errno == EINTR);
    int error = written == (ssize_t)text->length ? 0 : written < 0 ? errno : ENOSPC;
    close(fd);
    errno = error;
    return error == 0;
}

/* Whether there is anything that a later server would not find out by itself. */
static bool is_worth_keeping(const struct app *app)
{
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        const struct generation *generation = &app->deploy.slots[i];
        if (generation->state != GENERATION_FREE && generation->name[0] != '\0') {
            return true;
        }
    }
    return app->state_known;
}

void app_state_write(struct app *app)
{
    char path[PATH_MAX], beside[PATH_MAX];
    struct strbuf text;
    /* Between two processes of an upgrade the one that accepts workers knows. */
    if (app->apps->closed || !app->state_dirty || !path_of(app, "", path) ||
        !path_of(app, ".new", beside) || !is_worth_keeping(app)) {
        return;
    }
    app->state_dirty = false;
    strbuf_init(&text);
    app_deploy_save(app, &text);
    if (text.failed || !write_file(beside, &text) || rename(beside, path) != 0) {
        if (!app->state_failed) {
            log_warning("deploy",
                        "%s: cannot write %s: %s; a restarted gateway will not know which "
                        "generations are retired (apps.%s.state_file names another place)",
                        app->name, path, strerror(errno), app->name);
        }
        app->state_failed = true;
        unlink(beside);
    } else {
        app->state_known = true;
        app->state_failed = false;
    }
    strbuf_done(&text);
}
