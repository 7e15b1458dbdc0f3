/* SPDX-License-Identifier: MIT */
/*
 * The response's body, beside exchange_respond_body: bytes that move instead of being copied, and a look ahead for who has more to send
 * than it holds (app/forward_file).
 */
#ifndef GATEWAY_HTTP_EXCHANGE_BODY_H
#define GATEWAY_HTTP_EXCHANGE_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct chunk;
struct exchange;

#define EXCHANGE_MAGIC UINT32_C(0x45584348)

/* As exchange_respond_body, with `length` bytes at the chunk's beginning; consumes the caller's reference, on error too. */
enum error exchange_respond_chunk_take(struct exchange *exchange, struct chunk *chunk,
                                       size_t length) MUST_CHECK;
/* Whether `length` more body bytes, and with `end` the end behind them, fit to the head: ERROR_INVALID as exchange_respond_body and
 * exchange_respond_end would say; ERROR_CLOSED: the client is gone. *ret_wanted false: the response has no body, they need not be sent. */
enum error exchange_respond_judge(const struct exchange *exchange, uint64_t length, bool end,
                                  bool *ret_wanted) MUST_CHECK;
/* For http/ itself: brings buffered_bytes up to what both queues hold now; after each change of one of them. */
void exchange_count_buffered(struct exchange *exchange);

#endif
