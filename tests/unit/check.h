/* SPDX-License-Identifier: MIT */
/*
 * The unit-test harness: one program per module, TAP on stdout, exit 1 when a test failed. A program is a file with
 *
 *     #include "check.h"
 *
 *     TEST(strbuf_grows_when_full)
 *     {
 *         CHECK_EQ_INT(strbuf_append(&buf, "x", 1), ERROR_OK);
 *     }
 *
 *     CHECK_MAIN
 *
 * A failed CHECK prints where and what and ends its test; the next test runs. Arguments choose tests by a part of their name.
 * Tests run in the order of the file, in one process. Include this header in one file per program.
 */
#ifndef TESTS_UNIT_CHECK_H
#define TESTS_UNIT_CHECK_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct check_test {
    const char *name;
    void (*run)(void);
    struct check_test *next;
};

static struct check_test *check_first, **check_last = &check_first;
static jmp_buf check_leave; /* where a failed CHECK goes: back to the loop over the tests */
static const char *check_skip_reason = "";

#define TEST(test_name)                                                                            \
    static void test_name(void);                                                                   \
    __attribute__((constructor)) static void check_register_##test_name(void)                      \
    {                                                                                              \
        static struct check_test test = {.name = #test_name, .run = test_name};                    \
        *check_last = &test;                                                                       \
        check_last = &test.next;                                                                   \
    }                                                                                              \
    static void test_name(void)

_Noreturn static inline void check_failed(const char *file, int line, const char *what)
{
    printf("# %s:%d: %s\n", file, line, what);
    longjmp(check_leave, 1);
}

static inline void check_int(const char *file, int line, const char *what, intmax_t got,
                             intmax_t expected)
{
    if (got != expected) {
        printf("# got %" PRIdMAX ", expected %" PRIdMAX "\n", got, expected);
        check_failed(file, line, what);
    }
}

static inline void check_str(const char *file, int line, const char *what, const char *got,
                             const char *expected)
{
    if (got == expected || (got != NULL && expected != NULL && strcmp(got, expected) == 0))
        return;
    printf("# got      %s\n# expected %s\n", got ? got : "NULL", expected ? expected : "NULL");
    check_failed(file, line, what);
}

/* `got` and `expected` may be NULL when `length` is 0. */
static inline void check_mem(const char *file, int line, const char *what, const void *got,
                             const void *expected, size_t length)
{
    const uint8_t *g = got, *e = expected;

    for (size_t i = 0; i < length; i++) {
        if (g == NULL || e == NULL || g[i] != e[i]) {
            printf("# differs at byte %zu of %zu: got %d, expected %d\n", i, length, g ? g[i] : -1,
                   e ? e[i] : -1);
            check_failed(file, line, what);
        }
    }
}

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
#define CHECK_EQ_INT(got, expected)                                                                \
    check_int(__FILE__, __LINE__, #got " == " #expected, (intmax_t)(got), (intmax_t)(expected))
#define CHECK_EQ_STR(got, expected)                                                                \
    check_str(__FILE__, __LINE__, #got " == " #expected, (got), (expected))
/* Compares `length` bytes; compare the two lengths with CHECK_EQ_INT first. */
#define CHECK_EQ_MEM(got, expected, length)                                                        \
    check_mem(__FILE__, __LINE__, #got " == " #expected, (got), (expected), (length))
/* Ends the test as skipped, with the reason in the output: for what the machine does not have (IPv6, root). */
#define SKIP(reason) ((void)(check_skip_reason = (reason)), longjmp(check_leave, 2))

static inline bool check_chosen(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i]) != NULL)
            return true;
    return argc <= 1;
}

static inline int check_main(int argc, char **argv)
{
    static int number, failures; /* static: they survive the longjmp */
    static struct check_test *test;

    setvbuf(stdout, NULL, _IOLBF, 0); /* what was printed before a crash is seen */
    for (test = check_first; test != NULL; test = test->next) {
        if (!check_chosen(test->name, argc, argv))
            continue;
        number++;
        switch (setjmp(check_leave)) {
        case 0:
            test->run();
            printf("ok %d - %s\n", number, test->name);
            break;
        case 2:
            printf("ok %d - %s # SKIP %s\n", number, test->name, check_skip_reason);
            break;
        default:
            printf("not ok %d - %s\n", number, test->name);
            failures++;
        }
    }
    printf("1..%d\n",
           number); /* last: a crash leaves no plan, and tests/run counts that as a failure */
    return failures == 0 ? 0 : 1;
}

#define CHECK_MAIN                                                                                 \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return check_main(argc, argv);                                                             \
    }

#endif
