/* SPDX-License-Identifier: MIT */
/* base/log*.c: the form of lines, the writer thread, reopening, a full disk and a pipe that
 * nobody reads. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"

static char folder[] = "/tmp/test_log.XXXXXX";
static char error_path[64], access_path[64], moved_path[64];

static void open_logs(const char *error, const char *access)
{
    struct log_settings settings = {LOG_INFO, slice_from(error), slice_from(access)};
    const char *text = NULL;

    CHECK_EQ_INT(log_open(&settings, &text), ERROR_NONE);
}

/* The content of a file as a string in a static buffer. */
static const char *content(const char *path)
{
    static char text[1 << 20];
    FILE *file = fopen(path, "r");

    CHECK(file != NULL);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

TEST(log_setup)
{
    CHECK(mkdtemp(folder) != NULL);
    snprintf(error_path, sizeof(error_path), "%s/error.log", folder);
    snprintf(access_path, sizeof(access_path), "%s/access.log", folder);
    snprintf(moved_path, sizeof(moved_path), "%s/moved.log", folder);
}

TEST(log_levels_have_names)
{
    enum log_level level = LOG_DEBUG;

    CHECK(log_level_parse(SLICE("warning"), &level));
    CHECK_EQ_INT(level, LOG_WARNING);
    CHECK(!log_level_parse(SLICE("loud"), &level));
    CHECK_EQ_INT(level, LOG_WARNING);
}

TEST(log_writes_directly_before_start)
{
    struct stat status;

    open_logs(error_path, access_path);
    log_info("test", "hello %d", 5);
    log_debug("test", "not at this level");
    log_queue(LOG_SINK_ACCESS, SLICE("GET /"));
    const char *text = content(error_path);
    CHECK_EQ_STR(text + strlen("2026-11-20T18:00:00.123Z"), " info test: hello 5\n");
    CHECK(text[4] == '-' && text[10] == 'T' && text[19] == '.' && text[23] == 'Z');
    CHECK_EQ_STR(content(access_path), "GET /\n");
    CHECK_EQ_INT(stat(error_path, &status), 0);
    CHECK_EQ_INT(status.st_mode & 0137, 0);
    CHECK(log_file_descriptor(LOG_SINK_ERROR) > 2);
}

TEST(log_escapes_control_characters)
{
    log_info("test", "a\nb\r\x1b[31m\x7f%s", "c\td");
    CHECK(strstr(content(error_path), "a\\x0ab\\x0d\\x1b[31m\\x7fc\\x09d\n") != NULL);
}

TEST(log_cuts_long_lines)
{
    log_info("test", "%05000d", 1);
    const char *text = content(error_path);
    CHECK_EQ_STR(text + strlen(text) - 5, "0...\n");
}

TEST(log_open_says_what_failed)
{
    struct log_settings settings = {LOG_INFO, SLICE("/nonexistent/x/error.log"), SLICE("")};
    const char *text = NULL;

    CHECK_EQ_INT(log_open(&settings, &text), ERROR_IO);
    CHECK(strstr(text, "/nonexistent/x/error.log") != NULL);
    CHECK(strstr(text, "No such file") != NULL);
    /* the old one still works */
    log_info("test", "still here");
    CHECK(strstr(content(error_path), "still here") != NULL);
}

static void *write_lines(void *name)
{
    for (int i = 0; i < 1000; i++) {
        log_info((const char *)name, "line %d", i);
    }
    return NULL;
}

TEST(log_keeps_every_line_of_every_thread_in_order)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    int next[4] = {0};

    CHECK_EQ_INT(unlink(error_path), 0);
    open_logs(error_path, "");
    CHECK(!log_access_enabled());
    CHECK_EQ_INT(log_start(), ERROR_NONE);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, write_lines, (void *)(uintptr_t)names[i]),
                     0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    log_stop();
    FILE *file = fopen(error_path, "r");
    char line[256], name;
    int number;
    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        CHECK_EQ_INT(sscanf(line, "%*s info %c: line %d", &name, &number), 2);
        CHECK_EQ_INT(number, next[name - 'a']++);
    }
    fclose(file);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ_INT(next[i], 1000);
    }
}

/* Waits (without a bound on how slow the machine is) until the file holds the text. */
static void wait_for_text(const char *path, const char *text)
{
    for (int i = 0; i < 3000; i++) {
        if (access(path, F_OK) == 0 && strstr(content(path), text) != NULL) {
            return;
        }
        usleep(1000);
    }
    printf("# waited for %s in %s\n", text, path);
    check_failed(__FILE__, __LINE__, "the text never came");
}

TEST(log_reopen_follows_rotation)
{
    open_logs(error_path, access_path);
    CHECK_EQ_INT(log_start(), ERROR_NONE);
    log_info("test", "before");
    wait_for_text(error_path, "before");
    CHECK_EQ_INT(rename(error_path, moved_path), 0);
    log_reopen();
    log_info("test", "after");
    wait_for_text(error_path, "after");
    CHECK(strstr(content(moved_path), "after") == NULL);
    /* and a descriptor that somebody else opened */
    int fd = open(moved_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    CHECK(fd >= 0);
    log_replace_take(LOG_SINK_ERROR, fd);
    log_info("test", "to the other");
    wait_for_text(moved_path, "to the other");
    log_stop();
}

TEST(log_full_disk_drops_and_counts)
{
    int64_t dropped = metrics_sum(METRIC_log_lines_dropped);

    if (access("/dev/full", W_OK) != 0) {
        SKIP("no /dev/full");
    }
    open_logs(error_path, "/dev/full");
    CHECK_EQ_INT(log_start(), ERROR_NONE);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    int notice = open(moved_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(saved >= 0 && notice >= 0);
    dup2(notice, STDERR_FILENO);
    for (int i = 0; i < 50; i++) {
        log_queue(LOG_SINK_ACCESS, SLICE("a line"));
    }
    wait_for_text(moved_path, "log lines dropped: No space left on device");
    log_stop();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(notice);
    CHECK_EQ_INT(metrics_sum(METRIC_log_lines_dropped), dropped + 50);
    /* one notice a minute, not one a line */
    const char *text = content(moved_path);
    CHECK(strchr(text, '\n') == text + strlen(text) - 1);
}

TEST(log_never_blocks_on_a_pipe_that_nobody_reads)
{
    int pipe_fds[2];
    int64_t dropped = metrics_sum(METRIC_log_lines_dropped);
    static const char line[100] = "a line of a hundred bytes";

    CHECK_EQ_INT(pipe(pipe_fds), 0);
    int saved = dup(STDOUT_FILENO);
    fflush(stdout);
    dup2(pipe_fds[1], STDOUT_FILENO);
    fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
    open_logs(error_path, "-");
    CHECK_EQ_INT(log_start(), ERROR_NONE);
    for (int i = 0; i < 40000; i++) {
        log_queue(LOG_SINK_ACCESS, (struct slice){line, sizeof(line)});
    }
    /* 4 MB were offered; a pipe, a buffer and a queue hold less than 3 */
    int64_t lost = metrics_sum(METRIC_log_lines_dropped) - dropped;
    uint64_t start = clock_now();
    log_stop();
    uint64_t took = clock_now() - start;
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    CHECK(lost > 10000);
    CHECK(took < 60 * CLOCK_NS_PER_S);
}

TEST(log_start_survives_each_failing_allocation)
{
    uint64_t live = mem_live();
    bool complete = false;

    open_logs(error_path, "");
    for (uint64_t n = 1; !complete; n++) {
        mem_fail_nth(n, 0);
        enum error error = log_start();
        mem_fail_nth(0, 0);
        complete = error == ERROR_NONE;
        CHECK(complete || error == ERROR_NO_MEMORY);
        CHECK(n < 20);
    }
    log_stop();
    CHECK_EQ_INT(mem_live(), live);
}

TEST(log_cleanup)
{
    open_logs("-", "");
    unlink(error_path);
    unlink(access_path);
    unlink(moved_path);
    CHECK_EQ_INT(rmdir(folder), 0);
}

CHECK_MAIN
