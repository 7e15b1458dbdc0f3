/* SPDX-License-Identifier: MIT */
/* Where an HTTP/3 connection is in its life: tables that the code, the dump and the tests read. */
#ifndef GATEWAY_H3_H3_PHASE_H
#define GATEWAY_H3_H3_PHASE_H

/* H3_PHASES(PHASE): name, what it means. */
#define H3_PHASES(PHASE)                                                                           \
    PHASE(OPEN, "streams are read and written")                                                    \
    PHASE(CLOSING, "CONNECTION_CLOSE was asked for: its exchanges end in the flush")               \
    PHASE(OVER, "its exchanges have ended: waits for the transport to let go")                     \
    PHASE(DEAD, "the transport has let go, memory goes at the end of the turn")

enum h3_phase {
#define PHASE(name, meaning) H3_PHASE_##name,
    H3_PHASES(PHASE)
#undef PHASE
        H3_PHASE_COUNT
};

/* The steps of a graceful end (RFC 9114 5.2). */
enum h3_drain {
    H3_DRAIN_NONE,
    H3_DRAIN_NOTICE, /* GOAWAY(2^62-4) is out: requests on their way to us are still taken */
    H3_DRAIN_FINAL /* GOAWAY(last): what comes later is rejected, and may be asked again elsewhere */
};

#endif
