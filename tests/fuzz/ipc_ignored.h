/* SPDX-License-Identifier: MIT */
/*
 * What a channel tells its owner and no target looks at.
 */
#ifndef TESTS_FUZZ_IPC_IGNORED_H
#define TESTS_FUZZ_IPC_IGNORED_H

#include "ipc/channel.h"

static inline void on_lag(struct channel *channel, void *owner, uint64_t lag)
{
    (void)channel;
    (void)owner;
    (void)lag;
}

static inline void on_stats(struct channel *channel, void *owner, const struct worker_stats *stats)
{
    (void)channel;
    (void)owner;
    (void)stats;
}

static inline void on_error_text(struct channel *channel, void *owner, enum frame_error code,
                                 struct slice text)
{
    (void)channel;
    (void)owner;
    (void)code;
    (void)text;
}

#endif
