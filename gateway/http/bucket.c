/* SPDX-License-Identifier: MIT */
/* The arithmetic of a token bucket. Knows no protocol and no timer. */
#include "http/bucket.h"

#include "base/clock.h"

void bucket_init(struct bucket *bucket, uint64_t now, uint64_t burst)
{
    *bucket = (struct bucket){.tokens = burst * 1000, .at = now};
}

static void bucket_fill(struct bucket *bucket, uint64_t now, uint64_t burst, uint64_t rate)
{
    uint64_t elapsed = (now - bucket->at) / CLOCK_NS_PER_MS;
    if (elapsed > 0) {
        uint64_t room = burst * 1000 - bucket->tokens;
        bucket->tokens += elapsed > room / rate ? room : elapsed * rate;
        bucket->at += elapsed * CLOCK_NS_PER_MS;
    }
}

bool bucket_take(struct bucket *bucket, uint64_t now, uint64_t burst, uint64_t rate)
{
    bucket_fill(bucket, now, burst, rate);
    if (bucket->tokens < 1000) {
        return false;
    }
    bucket->tokens -= 1000;
    return true;
}
