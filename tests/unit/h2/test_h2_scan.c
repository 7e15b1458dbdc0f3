/* SPDX-License-Identifier: MIT */
/* Frame headers, and which streams a client may still speak of. */
#include "check.h"
#include "h2/h2_scan.h"

TEST(a_header_is_decoded_without_its_reserved_bit)
{
    const uint8_t bytes[] = {0x01, 0x02, 0x03, 0x09, 0x25, 0xff, 0x00, 0x00, 0x07};
    struct h2_frame_header frame = h2_scan_decode(bytes);
    CHECK_EQ_INT(frame.length, 0x010203);
    CHECK_EQ_INT(frame.type, 9);
    CHECK_EQ_INT(frame.flags, 0x25);
    CHECK_EQ_INT(frame.stream_id, 0x7f000007);
}

TEST(nothing_is_known_of_streams_above_the_highest)
{
    struct h2_scan scan;
    h2_scan_init(&scan);
    CHECK_EQ_INT(h2_scan_look(&scan, 1), H2_SCAN_IDLE);
    h2_scan_open(&scan, 1);
    CHECK_EQ_INT(h2_scan_look(&scan, 1), H2_SCAN_OVER);
    CHECK_EQ_INT(h2_scan_look(&scan, 3), H2_SCAN_IDLE);
    CHECK_EQ_INT(h2_scan_look(&scan, 2), H2_SCAN_IDLE);
    CHECK_EQ_INT(h2_scan_look(&scan, 0), H2_SCAN_IDLE);
}

TEST(what_is_skipped_was_never_opened)
{
    struct h2_scan scan;
    h2_scan_init(&scan);
    h2_scan_open(&scan, 5);
    h2_scan_open(&scan, 11);
    CHECK_EQ_INT(h2_scan_look(&scan, 1), H2_SCAN_SKIPPED);
    CHECK_EQ_INT(h2_scan_look(&scan, 5), H2_SCAN_OVER);
    CHECK_EQ_INT(h2_scan_look(&scan, 7), H2_SCAN_SKIPPED);
    CHECK_EQ_INT(h2_scan_look(&scan, 11), H2_SCAN_OVER);
    h2_scan_open(&scan, 7); /* too late: not noted */
    CHECK_EQ_INT(h2_scan_look(&scan, 7), H2_SCAN_SKIPPED);
    CHECK_EQ_INT(scan.highest, 11);
}

TEST(what_we_ended_is_excused)
{
    struct h2_scan scan;
    h2_scan_init(&scan);
    h2_scan_open(&scan, 1);
    h2_scan_open(&scan, 3);
    h2_scan_excuse(&scan, 1);
    h2_scan_excuse(&scan, 4);
    h2_scan_excuse(&scan, 99);
    CHECK_EQ_INT(h2_scan_look(&scan, 1), H2_SCAN_EXCUSED);
    CHECK_EQ_INT(h2_scan_look(&scan, 3), H2_SCAN_OVER);
}

TEST(streams_keep_their_marks_while_others_are_opened)
{
    struct h2_scan scan;
    h2_scan_init(&scan);
    for (int32_t id = 1; id < 4001; id += 2) {
        h2_scan_open(&scan, id);
        if (id % 6 == 1) {
            h2_scan_excuse(&scan, id);
        }
        for (int32_t back = 0; back < H2_SCAN_STREAMS + 2; back++) {
            int32_t old = id - 2 * back;
            if (old < 1) {
                break;
            }
            bool excused = old % 6 == 1 || back >= H2_SCAN_STREAMS;
            CHECK_EQ_INT(h2_scan_look(&scan, old), excused ? H2_SCAN_EXCUSED : H2_SCAN_OVER);
        }
    }
}

TEST(a_great_leap_forgets_everything)
{
    struct h2_scan scan;
    h2_scan_init(&scan);
    h2_scan_open(&scan, 1);
    h2_scan_open(&scan, INT32_MAX);
    CHECK_EQ_INT(h2_scan_look(&scan, 1), H2_SCAN_EXCUSED);
    CHECK_EQ_INT(h2_scan_look(&scan, INT32_MAX - 2), H2_SCAN_SKIPPED);
    CHECK_EQ_INT(h2_scan_look(&scan, INT32_MAX), H2_SCAN_OVER);
}

TEST(the_first_stream_may_be_the_last)
{
    struct h2_scan scan;
    h2_scan_init(&scan);
    h2_scan_open(&scan, INT32_MAX);
    CHECK_EQ_INT(h2_scan_look(&scan, INT32_MAX), H2_SCAN_OVER);
}

TEST(a_leap_by_whole_words)
{
    struct h2_scan scan;
    h2_scan_init(&scan);
    h2_scan_open(&scan, 1);
    h2_scan_excuse(&scan, 1);
    h2_scan_open(&scan, 1 + 2 * 128);
    CHECK_EQ_INT(h2_scan_look(&scan, 1), H2_SCAN_EXCUSED);
    CHECK_EQ_INT(h2_scan_look(&scan, 3), H2_SCAN_SKIPPED);
    CHECK_EQ_INT(h2_scan_look(&scan, 255), H2_SCAN_SKIPPED);
}

CHECK_MAIN
