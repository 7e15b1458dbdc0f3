/* SPDX-License-Identifier: MIT */
/*
 * Truth by assertion: REQUIRE states what must hold or the gateway has a bug; it is always on. A
 * peer's fault is never a REQUIRE: it is an error value and a counter. Every long-lived object
 * starts with a magic number, so that a stale or foreign pointer stops the process at the first use
 * rather than at the last.
 */
#ifndef GATEWAY_BASE_CHECK_H
#define GATEWAY_BASE_CHECK_H

#include <stdint.h>

/* Prints the failed condition with its place and ends the process with abort(). Never returns. */
_Noreturn void check_fail(const char *condition, const char *file, int line, const char *function);

#define REQUIRE(condition)                                                                         \
    ((condition) ? (void)0 : check_fail(#condition, __FILE__, __LINE__, __func__))

/* Checks that `object` is not NULL and carries `expected` in its first member `uint32_t magic`. */
#define REQUIRE_OBJECT(object, expected) REQUIRE((object) != NULL && (object)->magic == (expected))

/* The magic of a freed object: a use after free of memory that was not yet reused is told by it. */
#define MAGIC_FREED UINT32_C(0xDEADDEAD)

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_argument)                                                  \
    __attribute__((format(printf, format_index, first_argument)))

#endif
