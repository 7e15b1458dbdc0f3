/* SPDX-License-Identifier: MIT */
/*
 * Datagrams of nobody, into the endpoint as the socket gives them: header, version, connection ids and tokens are read, and Version Negotiation, Retry,
 * refusals and resets are made. Whatever comes, no answer is longer than three times what it answers, none follows a datagram that is too short
 * for one, and no connection, count or memory is left.
 *
 * The first byte chooses: 1 an address must be validated first, 2 the gateway stops, 4 at the bytes' end up to 1200 zeros, 8 an id of ours (of the loop, another
 * loop, or another process) is put where a short header has its id, 16 where a long one has it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
/* A part of the tests' helpers, which only unit programs link. */
#include "unit/quic/quic_stage.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct stage stage;

static void put_cid(uint8_t *at, uint8_t choice)
{
    struct quic_cid_place place = {(uint16_t)(choice & 32 ? 2 : 3), choice & 64 ? 1 : 0};
    REQUIRE(quic_cid_make(&stage.loops[0].endpoint->keys, place, at) == ERROR_NONE);
}

static void check_answers(size_t length)
{
    uint8_t answer[4096];
    size_t got, sum = 0;

    while ((got = stage_receive(&stage, answer, sizeof(answer))) > 0) {
        sum += got;
        REQUIRE(length >= QUIC_DATAGRAM_MIN);
        if (!(answer[0] & 0x80)) {
            REQUIRE(got < length); /* a reset */
        }
    }
    REQUIRE(sum <= 3 * length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t datagram[UDP_BUFFER_SIZE];

    if (stage.server == NULL) {
        log_set_level(LOG_ERROR);
        stage_init(&stage, NULL);
    }
    if (size == 0 || size > 2000) {
        return 0;
    }
    uint8_t choice = *data++;
    size_t length = --size;
    memset(datagram, 0, 1500);
    memcpy(datagram, data, size);
    if ((choice & 4) && length < 1200) {
        length = 1200;
    }
    if ((choice & 8) && length > QUIC_CID_LENGTH) {
        datagram[0] &= 0x7f;
        put_cid(datagram + 1, choice);
    }
    if ((choice & 16) && length > 7 + QUIC_CID_LENGTH) {
        datagram[0] |= 0x80;
        datagram[5] = QUIC_CID_LENGTH;
        put_cid(datagram + 6, choice);
    }
    stage.server->given.settings.retry_threshold = choice & 1 ? 0 : 100;
    stage.loops[0].endpoint->draining = (choice & 2) != 0;
    for (int i = 0; i < STAGE_LOOPS; i++) {
        stage.loops[i].endpoint->reset_tokens = 5;
    }
    stage_send(&stage, datagram, length);
    check_answers(length);
    REQUIRE(stage.users == stage.loops[0].endpoint->conns.length);
    /* A connection needs a packet that can be opened: the fuzzer cannot make one. */
    REQUIRE(stage.users == 0 && metrics_sum(METRIC_conns) == 0);
    REQUIRE(atomic_load(&stage.server->half_open) == 0);
    REQUIRE(stage.loops[0].endpoint->table.length == 0);
    return 0;
}
