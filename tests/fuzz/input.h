/* SPDX-License-Identifier: MIT */
/*
 * An input as a program of small steps: numbers are taken from its beginning, 0 when it is used up.
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t take(struct input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

static inline uint32_t take_u16(struct input *in)
{
    uint32_t high = take(in);

    return high << 8 | take(in);
}

#endif
