/* SPDX-License-Identifier: MIT */
/*
 * Counters against floods that cost the sender little: resets (Rapid Reset, MadeYouReset), frames that are legal and of no use
 * (SETTINGS, PING, PRIORITY, empty DATA, WINDOW_UPDATE ...), and queues that a client does not read. Ours, whatever the library's version has.
 */
#ifndef GATEWAY_H2_H2_GUARD_H
#define GATEWAY_H2_H2_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "h2/h2_scan.h"
#include "http/bucket.h"

struct h2_conn;

struct h2_guard {
    struct bucket resets, glitches;
    uint64_t window_updates; /* that the client may send without being counted */
    /* Streams of the present second: opened, and of these reset before any response. */
    uint64_t second;
    unsigned streams, unanswered;
};

void h2_guard_init(struct h2_conn *h2);
/* A frame's header has come. False: the connection was ended. */
bool h2_guard_frame(struct h2_conn *h2, const struct h2_frame_header *frame);
/* Something legal and of no use; ends the connection when there was too much of it. */
void h2_guard_glitch(struct h2_conn *h2);
/* A stream was opened. */
void h2_guard_stream(struct h2_conn *h2);
/* A stream was reset, by the client or for something that it did; `answered`: a response had begun. */
void h2_guard_reset(struct h2_conn *h2, bool answered);
/* A DATA frame was sent: the client may answer it with WINDOW_UPDATEs. */
void h2_guard_data_sent(struct h2_conn *h2);
/* Looks at the frames that wait for a client that does not read. */
void h2_guard_outbound(struct h2_conn *h2);

#endif
