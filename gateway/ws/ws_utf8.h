/* SPDX-License-Identifier: MIT */
/*
 * UTF-8 checked as it comes (RFC 3629), across any division into pieces. It keeps a few bytes of state and no text.
 */
#ifndef GATEWAY_WS_WS_UTF8_H
#define GATEWAY_WS_WS_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* All zero: between two characters. */
struct ws_utf8 {
    uint8_t needed;    /* continuation bytes of the present character that must still come */
    uint8_t low, high; /* bounds of the next one */
};

/* Takes more text. False: it is not UTF-8, whatever follows. */
bool ws_utf8_take(struct ws_utf8 *state, struct slice text);
/* Whether the text may end here. */
static inline bool ws_utf8_complete(const struct ws_utf8 *state)
{
    return state->needed == 0;
}
/* Whether a whole text is UTF-8. */
bool ws_utf8_valid(struct slice text);

#endif
