/* SPDX-License-Identifier: MIT */
/*
 * The only allocator: counts what lives and can fail the n-th allocation, so that tests can walk
 * every failure path. Thread-safe. Libraries that take allocator hooks (OpenSSL, libevent, nghttp2
 * ...) are given these functions too.
 */
#ifndef GATEWAY_BASE_MEM_H
#define GATEWAY_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/* `size` bytes, not cleared, owned by the caller until mem_free; NULL when memory is out (or the
 * injection says so). */
void *mem_alloc(size_t size) MUST_CHECK;
/* As mem_alloc, cleared; `count` * `size` is checked for overflow. */
void *mem_calloc(size_t count, size_t size) MUST_CHECK;
/* Resizes; NULL leaves `old` as it was. `old` may be NULL. */
void *mem_realloc(void *old, size_t size) MUST_CHECK;
/* A copy of the `length` bytes at `data` with a NUL behind them. */
char *mem_strndup(const char *data, size_t length) MUST_CHECK;
/* Releases; NULL is allowed. */
void mem_free(void *memory);

/* How many allocations live now (tests: back at the base after each scenario). */
uint64_t mem_live(void);
/* How many allocations were made since start: what a failure walk counts. */
uint64_t mem_made(void);
/* Makes the n-th allocation from now (1 = the next) fail, once or from then on; n = 0 switches
 * the injection off. The environment variable GATEWAYD_FAIL_ALLOC=n[+] does the same at start ("+":
 * from then on). */
void mem_fail_nth(uint64_t n, int from_then_on);

#endif
