/* SPDX-License-Identifier: MIT */
/* The table of RFC 3629 section 4 as bounds of the second byte; runs of ASCII go eight at a time. Pure functions. */
#include "ws/ws_utf8.h"

#include <string.h>

static size_t ascii_run(const uint8_t *data, size_t length)
{
    size_t done = 0;
    while (length - done >= 8) {
        uint64_t eight;
        memcpy(&eight, data + done, sizeof eight);
        if ((eight & UINT64_C(0x8080808080808080)) != 0) {
            break;
        }
        done += 8;
    }
    while (done < length && data[done] < 0x80) {
        done++;
    }
    return done;
}

/* The first byte of a character that is not ASCII. */
static bool lead(struct ws_utf8 *state, uint8_t byte)
{
    *state = (struct ws_utf8){.low = 0x80, .high = 0xbf};
    if (byte >= 0xc2 && byte <= 0xdf) {
        state->needed = 1;
    } else if (byte >= 0xe0 && byte <= 0xef) {
        state->needed = 2;
        state->low = byte == 0xe0 ? 0xa0 : 0x80;  /* overlong */
        state->high = byte == 0xed ? 0x9f : 0xbf; /* surrogates */
    } else if (byte >= 0xf0 && byte <= 0xf4) {
        state->needed = 3;
        state->low = byte == 0xf0 ? 0x90 : 0x80;
        state->high = byte == 0xf4 ? 0x8f : 0xbf; /* above U+10FFFF */
    } else {
        return false;
    }
    return true;
}

bool ws_utf8_take(struct ws_utf8 *state, struct slice text)
{
    const uint8_t *data = (const uint8_t *)text.data;
    for (size_t i = 0; i < text.length; i++) {
        if (state->needed == 0) {
            i += ascii_run(data + i, text.length - i);
            if (i == text.length) {
                break;
            }
            if (!lead(state, data[i])) {
                return false;
            }
        } else {
            if (data[i] < state->low || data[i] > state->high) {
                return false;
            }
            state->low = 0x80;
            state->high = 0xbf;
            state->needed--;
        }
    }
    return true;
}

bool ws_utf8_valid(struct slice text)
{
    struct ws_utf8 state = {0};
    return ws_utf8_take(&state, text) && ws_utf8_complete(&state);
}
