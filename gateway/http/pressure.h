/* SPDX-License-Identifier: MIT */
/*
 * The overload ladder of gateway.buffer_memory: what is given up at which share of the budget. Bodies that wait in exchanges
 * are counted in the metric buffered_bytes; the server compares the sum with the budget a few times a second and tells
 * each loop's conn_group.
 */
#ifndef GATEWAY_HTTP_PRESSURE_H
#define GATEWAY_HTTP_PRESSURE_H

#include <stdint.h>

enum pressure {
    PRESSURE_NONE,
    PRESSURE_NO_GROWTH,   /* 50 %: no window grows */
    PRESSURE_REFUSE,      /* 85 %: new requests get 503 */
    PRESSURE_CLOSE_IDLE,  /* 92 %: idle connections are closed, busy ones after their answer */
    PRESSURE_PAUSE_ACCEPT /* 95 %: no new connections */
};

/* The rung for `used` of `budget` bytes (budget > 0). */
enum pressure pressure_level(uint64_t used, uint64_t budget);
/* Its name for logs and status. */
const char *pressure_name(enum pressure level);

#endif
