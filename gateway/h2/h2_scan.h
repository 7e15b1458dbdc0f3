/* SPDX-License-Identifier: MIT */
/*
 * Frame headers (RFC 9113 4.1), looked at before the library sees them: it ignores frames on streams that are over, which 5.1 calls
 * errors, and what is ignored nobody counts. Knows which streams a client may still speak of.
 */
#ifndef GATEWAY_H2_H2_SCAN_H
#define GATEWAY_H2_H2_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define H2_FRAME_HEADER 9
#define H2_PREFACE_LENGTH 24
/* How many of the last client-opened streams are remembered: more than may be open at a time by default. */
#define H2_SCAN_STREAMS 256

struct h2_frame_header {
    uint32_t length;
    uint8_t type, flags;
    int32_t stream_id;
};

struct h2_scan {
    uint8_t header[H2_FRAME_HEADER];
    uint8_t header_length; /* bytes of a header whose rest has not come */
    uint8_t preface_left;
    uint32_t payload_left;   /* of the frame under way */
    bool ends_block;         /* with that frame a header block is complete */
    uint8_t dependency_left; /* bytes of a PRIORITY frame's dependency that have not come */
    uint32_t dependency;
    int32_t dependent; /* the stream of that frame */
    int32_t highest;   /* stream that the client has opened */
    /* One bit for each odd id up to `highest`, newest in bit 0 of word 0. */
    uint64_t opened[H2_SCAN_STREAMS / 64];
    uint64_t excused[H2_SCAN_STREAMS / 64]; /* ended by us: frames may be on their way (5.1) */
};

/* What a stream is that is not open. */
enum h2_scan_state {
    H2_SCAN_IDLE,    /* above all that were opened, or not a client's */
    H2_SCAN_SKIPPED, /* below one that was opened, and thereby closed (RFC 9113 5.1.1) */
    H2_SCAN_OVER,    /* ended by the client */
    H2_SCAN_EXCUSED  /* ended by us, or too long ago to be remembered */
};

void h2_scan_init(struct h2_scan *scan);
/* Decodes nine bytes. */
struct h2_frame_header h2_scan_decode(const uint8_t *bytes);
/* Begins a PRIORITY frame; its payload goes to h2_scan_priority_payload. */
void h2_scan_priority(struct h2_scan *scan, int32_t id);
/* True: the frame makes its stream depend on itself (RFC 7540 5.3.1), which the library does not look at. */
bool h2_scan_priority_payload(struct h2_scan *scan, const uint8_t *data, size_t length);
/* Notes that the client opened a stream (odd id). */
void h2_scan_open(struct h2_scan *scan, int32_t id);
/* Notes that we ended a stream before the client has: what comes for it is no fault. */
void h2_scan_excuse(struct h2_scan *scan, int32_t id);
/* What is known of a stream that is not open now. */
enum h2_scan_state h2_scan_look(const struct h2_scan *scan, int32_t id);

#endif
