/* SPDX-License-Identifier: MIT */
/* Where an HTTP/2 connection is in its life: tables that the code, the dump and the tests read. */
#ifndef GATEWAY_H2_H2_PHASE_H
#define GATEWAY_H2_H2_PHASE_H

/* H2_PHASES(PHASE): name, what it means. */
#define H2_PHASES(PHASE)                                                                           \
    PHASE(OPEN, "frames are read and written")                                                     \
    PHASE(ENDING, "nothing more is read: what is queued (a GOAWAY) is written, then our side is "  \
                  "shut")                                                                          \
    PHASE(LINGER, "our side is shut: reading until the client shuts his, so that no reset meets "  \
                  "what was written")                                                              \
    PHASE(CLOSING, "to be destroyed in the flush")                                                 \
    PHASE(DEAD, "destroyed, memory goes at the end of the turn")

enum h2_phase {
#define PHASE(name, meaning) H2_PHASE_##name,
    H2_PHASES(PHASE)
#undef PHASE
        H2_PHASE_COUNT
};

/* The two steps of a graceful end (RFC 9113 6.8). */
enum h2_drain {
    H2_DRAIN_NONE,
    H2_DRAIN_NOTICE, /* GOAWAY(2^31-1) and a PING are out: requests under way to us are still taken */
    H2_DRAIN_FINAL   /* GOAWAY(last) */
};

#endif
