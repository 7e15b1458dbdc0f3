/* SPDX-License-Identifier: MIT */
/* base/check.c and error.c: a broken REQUIRE says where and ends the process with SIGABRT. */
#include "check.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/error.h"

struct object {
    uint32_t magic;
};

/* Runs `broken` in a child; returns its wait status and what it said on stderr. */
static int run_broken(void (*broken)(void), char *text, size_t size)
{
    int pipe_fds[2];
    CHECK_EQ_INT(pipe(pipe_fds), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        dup2(pipe_fds[1], STDERR_FILENO);
        broken();
        _exit(0);
    }
    close(pipe_fds[1]);
    size_t length = 0;
    ssize_t got;
    while (length < size - 1 && (got = read(pipe_fds[0], text + length, size - 1 - length)) > 0) {
        length += (size_t)got;
    }
    text[length] = '\0';
    close(pipe_fds[0]);
    int status = 0;
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    return status;
}

static void broken_condition(void)
{
    int one = 1;
    REQUIRE(one == 2);
}

static void broken_magic(void)
{
    struct object object = {.magic = MAGIC_FREED};
    REQUIRE_OBJECT(&object, 0x1234);
}

static void nothing_broken(void)
{
    struct object object = {.magic = 0x1234};
    REQUIRE(1 == 1);
    REQUIRE_OBJECT(&object, 0x1234);
}

TEST(require_says_where_and_aborts)
{
    char text[2000];
    int status = run_broken(broken_condition, text, sizeof(text));

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(strstr(text, "one == 2") != NULL);
    CHECK(strstr(text, "test_check.c:") != NULL);
    CHECK(strstr(text, "broken_condition") != NULL);
}

TEST(require_object_tells_freed_objects)
{
    char text[2000];
    int status = run_broken(broken_magic, text, sizeof(text));

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST(require_that_holds_does_nothing)
{
    char text[2000];
    int status = run_broken(nothing_broken, text, sizeof(text));

    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ_STR(text, "");
}

TEST(error_names_are_complete)
{
    for (int i = 0; i < ERROR_COUNT; i++) {
        CHECK(error_name((enum error)i) != NULL);
        CHECK(strcmp(error_name((enum error)i), "unknown") != 0);
    }
    CHECK_EQ_STR(error_name(ERROR_COUNT), "unknown");
}

CHECK_MAIN
