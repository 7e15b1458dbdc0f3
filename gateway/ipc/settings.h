/* SPDX-License-Identifier: MIT */
/*
 * The limits of the worker side, filled by config. Times are nanoseconds.
 */
#ifndef GATEWAY_IPC_SETTINGS_H
#define GATEWAY_IPC_SETTINGS_H

#include <stdint.h>

struct ipc_settings {
    uint32_t max_frame; /* payload bytes (64 KiB) */
    uint32_t window;    /* initial credit per stream and direction (64 KiB) */
    uint32_t ws_max_message;
    uint32_t max_links;     /* all apps (4096) */
    uint32_t link_queue;    /* bytes of heads and control; above: no new dispatch */
    uint64_t hello_timeout; /* from accept to HELLO */
    uint64_t start_timeout; /* from HELLO to READY */
    uint64_t ping_interval;
    uint64_t unresponsive_after; /* an unanswered PING this old makes the worker unresponsive */
    uint64_t death_wait;         /* how long a lost link waits for its process's death (100 ms) */
};

#endif
