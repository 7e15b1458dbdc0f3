/* SPDX-License-Identifier: MIT */
/* Decoding of frame headers and the memory of streams that are over; no input or output. */
#include "h2/h2_scan.h"

#include <string.h>

#define WORDS (H2_SCAN_STREAMS / 64)

void h2_scan_init(struct h2_scan *scan)
{
    *scan = (struct h2_scan){.preface_left = H2_PREFACE_LENGTH, .highest = -1};
}

struct h2_frame_header h2_scan_decode(const uint8_t *bytes)
{
    return (struct h2_frame_header){
        .length = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2],
        .type = bytes[3],
        .flags = bytes[4],
        .stream_id = (int32_t)((uint32_t)(bytes[5] & 0x7f) << 24 | (uint32_t)bytes[6] << 16 |
                               (uint32_t)bytes[7] << 8 | bytes[8]),
    };
}

void h2_scan_priority(struct h2_scan *scan, int32_t id)
{
    scan->dependency_left = 4;
    scan->dependency = 0;
    scan->dependent = id;
}

bool h2_scan_priority_payload(struct h2_scan *scan, const uint8_t *data, size_t length)
{
    if (scan->dependency_left == 0) {
        return false;
    }
    for (size_t i = 0; i < length && scan->dependency_left > 0; i++) {
        scan->dependency = scan->dependency << 8 | data[i];
        scan->dependency_left--;
    }
    return scan->dependency_left == 0 &&
           (scan->dependency & UINT32_C(0x7fffffff)) == (uint32_t)scan->dependent;
}

/* Makes room for `count` newer streams. */
static void shift(uint64_t *words, uint32_t count)
{
    while (count >= 64) {
        memmove(&words[1], &words[0], (WORDS - 1) * sizeof words[0]);
        words[0] = 0;
        count -= 64;
    }
    if (count == 0) {
        return;
    }
    for (int i = WORDS - 1; i > 0; i--) {
        words[i] = words[i] << count | words[i - 1] >> (64 - count);
    }
    words[0] <<= count;
}

static bool is_clients(int32_t id)
{
    return id > 0 && id % 2 == 1;
}

/* How many streams ago; H2_SCAN_STREAMS: forgotten. */
static uint32_t age(const struct h2_scan *scan, int32_t id)
{
    uint32_t streams = (uint32_t)(scan->highest - id) / 2;
    return streams < H2_SCAN_STREAMS ? streams : H2_SCAN_STREAMS;
}

void h2_scan_open(struct h2_scan *scan, int32_t id)
{
    if (!is_clients(id) || id <= scan->highest) {
        return;
    }
    uint32_t newer = ((uint32_t)id - (uint32_t)scan->highest) / 2; /* also from -1 */
    newer = newer < H2_SCAN_STREAMS ? newer : H2_SCAN_STREAMS;
    shift(scan->opened, newer);
    shift(scan->excused, newer);
    scan->opened[0] |= 1;
    scan->highest = id;
}

void h2_scan_excuse(struct h2_scan *scan, int32_t id)
{
    if (is_clients(id) && id <= scan->highest && age(scan, id) < H2_SCAN_STREAMS) {
        uint32_t bit = age(scan, id);
        scan->excused[bit / 64] |= UINT64_C(1) << bit % 64;
    }
}

enum h2_scan_state h2_scan_look(const struct h2_scan *scan, int32_t id)
{
    if (!is_clients(id) || id > scan->highest) {
        return H2_SCAN_IDLE;
    }
    uint32_t bit = age(scan, id);
    if (bit == H2_SCAN_STREAMS || (scan->excused[bit / 64] >> bit % 64 & 1) != 0) {
        return H2_SCAN_EXCUSED;
    }
    return (scan->opened[bit / 64] >> bit % 64 & 1) != 0 ? H2_SCAN_OVER : H2_SCAN_SKIPPED;
}
