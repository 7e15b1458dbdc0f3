/* SPDX-License-Identifier: MIT */
/* First packets and packets of nobody: what is answered, with what, and what is not. */
#include "check.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "quic_stage.h"

#define V1 1u
#define MAGIC_RETRY 0xb7

static const uint8_t dcid[8] = "original";
static uint8_t packet[2048], answer[2048];

static int64_t counted(enum metric metric, int64_t since)
{
    return metrics_sum(metric) - since;
}

/* A connection id of the stage's server. */
static void make_cid(uint16_t generation, uint16_t loop, uint8_t out[QUIC_CID_LENGTH])
{
    struct quic_keys keys;
    static const uint8_t secret[CIPHER_SECRET_SIZE] = "the secret of the stage";
    REQUIRE(quic_keys_init(&keys, secret) == ERROR_NONE);
    REQUIRE(quic_cid_make(&keys, (struct quic_cid_place){generation, loop}, out) == ERROR_NONE);
    quic_keys_done(&keys);
}

static uint32_t version_at(const uint8_t *data)
{
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

TEST(an_unknown_version_is_told_the_known_ones)
{
    struct stage stage;
    stage_init(&stage, NULL);
    stage_send(&stage, packet,
               stage_initial(packet, 0xbabababa, dcid, sizeof(dcid), NULL, 0, 1200));
    size_t length = stage_receive(&stage, answer, sizeof(answer));
    /* RFC 9000 17.2.1: version 0, the ids swapped, then versions. */
    CHECK_EQ_INT(length, 1 + 4 + 1 + 8 + 1 + 8 + 3 * 4);
    CHECK(answer[0] & 0x80);
    CHECK_EQ_INT(version_at(answer + 1), 0);
    CHECK_EQ_MEM(answer + 6, stage_scid, 8);
    CHECK_EQ_MEM(answer + 15, dcid, 8);
    CHECK_EQ_INT(version_at(answer + 23) & 0x0f0f0f0f, 0x0a0a0a0a);
    CHECK_EQ_INT(version_at(answer + 27), 1);
    CHECK_EQ_INT(version_at(answer + 31), 0x6b3343cf);
    /* One that is too short to be a first packet is no reason to answer (14.1). */
    stage_send(&stage, packet,
               stage_initial(packet, 0xbabababa, dcid, sizeof(dcid), NULL, 0, 1199));
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    stage_done(&stage);
}

static void always_retry(struct stage *stage)
{
    stage->settings.retry_threshold = 0;
}

TEST(at_the_threshold_an_address_is_validated_first)
{
    struct stage stage;
    uint64_t live = mem_live();
    int64_t retries = metrics_sum(METRIC_quic_retries);
    stage_init(&stage, always_retry);
    stage_send(&stage, packet, stage_initial(packet, V1, dcid, sizeof(dcid), NULL, 0, 1200));
    size_t length = stage_receive(&stage, answer, sizeof(answer));
    CHECK(length > 50 && length <= 3600);
    CHECK_EQ_INT(answer[0] & 0xf0, 0xf0); /* Retry */
    CHECK_EQ_MEM(answer + 6, stage_scid, 8);
    CHECK_EQ_INT(answer[14], QUIC_CID_LENGTH);
    CHECK_EQ_INT(counted(METRIC_quic_retries, retries), 1);
    CHECK_EQ_INT(stage.users, 0);
    /* Its token and its id together are believed, once the address is the same: a connection is made, and the nonsense that follows drops it. */
    uint8_t cid[QUIC_CID_LENGTH], token[512];
    size_t token_length = length - 15 - QUIC_CID_LENGTH - 16;
    int64_t conns = metrics_sum(METRIC_conns_accepted);
    memcpy(cid, answer + 15, sizeof(cid));
    memcpy(token, answer + 15 + QUIC_CID_LENGTH, token_length);
    CHECK_EQ_INT(token[0], MAGIC_RETRY);
    stage_send(&stage, packet,
               stage_initial(packet, V1, cid, sizeof(cid), token, token_length, 1200));
    CHECK_EQ_INT(counted(METRIC_conns_accepted, conns), 1);
    /* At another address it proves nothing: refused, because a second Retry would be ignored (8.1.3). */
    struct addr elsewhere;
    int64_t bad = metrics_sum(METRIC_quic_tokens_bad), out = metrics_sum(METRIC_quic_packets_out);
    retries = metrics_sum(METRIC_quic_retries);
    CHECK_EQ_INT(addr_parse(SLICE("127.0.0.2"), 40000, &elsewhere), ERROR_NONE);
    stage_inject(&stage, &elsewhere, packet,
                 stage_initial(packet, V1, cid, sizeof(cid), token, token_length, 1200));
    stage_turn(&stage);
    CHECK_EQ_INT(counted(METRIC_quic_tokens_bad, bad), 1);
    CHECK_EQ_INT(counted(METRIC_quic_retries, retries), 0);
    CHECK_EQ_INT(counted(METRIC_quic_packets_out, out), 1);
    /* What is no token of ours is none. */
    random_bytes(token + 1, token_length - 1);
    retries = metrics_sum(METRIC_quic_retries);
    stage_send(&stage, packet,
               stage_initial(packet, V1, dcid, sizeof(dcid), token, token_length, 1200));
    CHECK_EQ_INT(counted(METRIC_quic_retries, retries), 1);
    stage_done(&stage);
    CHECK_EQ_INT(mem_live(), live);
    CHECK_EQ_INT(metrics_sum(METRIC_conns), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_quic_conns), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_quic_handshakes_open), 0);
}

TEST(a_first_packet_that_cannot_be_opened_leaves_nothing)
{
    struct stage stage;
    stage_init(&stage, NULL);
    uint64_t live = mem_live();
    for (int i = 0; i < 20; i++) {
        uint8_t id[8];
        random_bytes(id, sizeof(id));
        stage_send(&stage, packet, stage_initial(packet, V1, id, sizeof(id), NULL, 0, 1200));
        CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    }
    CHECK_EQ_INT(stage.users, 0);
    CHECK_EQ_INT(atomic_load(&stage.server->half_open), 0);
    CHECK_EQ_INT(atomic_load(&stage.limits.connections), 0);
    CHECK_EQ_INT(mem_live(), live);
    stage_done(&stage);
}

TEST(a_server_that_stops_refuses)
{
    struct stage stage;
    stage_init(&stage, NULL);
    quic_endpoint_drain(stage.loops[0].endpoint);
    stage_send(&stage, packet, stage_initial(packet, V1, dcid, sizeof(dcid), NULL, 0, 1200));
    size_t length = stage_receive(&stage, answer, sizeof(answer));
    CHECK(length > 0 && length <= 3600);
    CHECK_EQ_INT(answer[0] & 0xf0, 0xc0);
    stage_done(&stage);
}

TEST(a_first_packet_with_an_id_of_ours_is_dropped)
{
    struct stage stage;
    uint8_t cid[QUIC_CID_LENGTH];
    int64_t dropped = metrics_sum(METRIC_quic_drops_own_cid);
    stage_init(&stage, NULL);
    make_cid(3, 0, cid);
    stage_send(&stage, packet, stage_initial(packet, V1, cid, sizeof(cid), NULL, 0, 1200));
    CHECK_EQ_INT(counted(METRIC_quic_drops_own_cid, dropped), 1);
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    stage_done(&stage);
}

TEST(a_lost_connection_is_reset_in_fewer_bytes_than_it_took)
{
    struct stage stage;
    uint8_t cid[QUIC_CID_LENGTH], first[16], second[16];
    stage_init(&stage, NULL);
    make_cid(3, 0, cid);
    stage_send(&stage, packet, stage_short(packet, cid, 1200));
    size_t length = stage_receive(&stage, answer, sizeof(answer));
    CHECK_EQ_INT(length, 43);
    CHECK_EQ_INT(answer[0] & 0xc0, 0x40); /* looks like any short packet */
    memcpy(first, answer + length - 16, 16);
    stage_send(&stage, packet, stage_short(packet, cid, 42));
    length = stage_receive(&stage, answer, sizeof(answer));
    CHECK_EQ_INT(length, 41);
    memcpy(second, answer + length - 16, 16);
    CHECK_EQ_MEM(first, second, 16); /* the token is the id's */
    /* So short a packet could be a reset itself. */
    stage_send(&stage, packet, stage_short(packet, cid, 40));
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    /* Of a process before this one: as lost. */
    make_cid(2, 1, cid);
    stage_send(&stage, packet, stage_short(packet, cid, 100));
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 43);
    /* The bucket of five has two left. */
    for (int i = 0; i < 4; i++) {
        stage_send(&stage, packet, stage_short(packet, cid, 100));
        CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), i < 2 ? 43 : 0);
    }
    /* What nobody of us made: silence. */
    random_bytes(cid, sizeof(cid));
    int64_t unknown = metrics_sum(METRIC_quic_drops_unknown);
    stage_send(&stage, packet, stage_short(packet, cid, 100));
    CHECK_EQ_INT(counted(METRIC_quic_drops_unknown, unknown), 1);
    stage_done(&stage);
}

TEST(only_the_owning_loop_resets)
{
    struct stage stage;
    uint8_t cid[QUIC_CID_LENGTH];
    int64_t misroutes = metrics_sum(METRIC_quic_misroutes);
    stage_init(&stage, NULL);
    make_cid(3, 1, cid);
    uint64_t mine = stage.loops[0].endpoint->reset_tokens;
    stage_send(&stage, packet, stage_short(packet, cid, 100));
    /* It went over to the second loop, which has no such connection and says so. */
    CHECK_EQ_INT(counted(METRIC_quic_misroutes, misroutes), 1);
    CHECK_EQ_INT(stage.loops[0].endpoint->reset_tokens, mine);
    CHECK_EQ_INT(stage.loops[1].endpoint->reset_tokens, mine - 1);
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 43);
    CHECK_EQ_INT(atomic_load(&stage.server->inboxes[1]), 0);
    stage_done(&stage);
}

TEST(mail_that_nobody_reads_any_more_is_freed)
{
    struct stage stage;
    uint8_t cid[QUIC_CID_LENGTH];
    uint64_t live = mem_live();
    stage_init(&stage, NULL);
    make_cid(3, 1, cid);
    for (int i = 0; i < 5000; i++) { /* more than the inbox holds */
        stage_inject(&stage, &stage.peer_address, packet, stage_short(packet, cid, 100));
    }
    CHECK_EQ_INT(atomic_load(&stage.server->inboxes[1]), 4096);
    stage_done(&stage);
    CHECK_EQ_INT(mem_live(), live);
}

static struct {
    unsigned calls;
    uint16_t generation;
    bool take;
} older;

static bool on_older(void *context, uint16_t generation, const struct addr *peer,
                     const struct addr *local, unsigned ecn, struct slice datagram)
{
    (void)context, (void)peer, (void)local, (void)ecn;
    older.calls += datagram.length == 100;
    older.generation = generation;
    return older.take;
}

TEST(packets_of_an_older_process_are_handed_to_it)
{
    static const struct quic_handover handover = {on_older, NULL};
    struct stage stage;
    uint8_t cid[QUIC_CID_LENGTH];
    stage_init(&stage, NULL);
    quic_server_set_handover(stage.server, &handover);
    make_cid(2, 0, cid);
    older.take = true;
    stage_send(&stage, packet, stage_short(packet, cid, 100));
    CHECK_EQ_INT(older.calls, 1);
    CHECK_EQ_INT(older.generation, 2);
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    older.take = false; /* it has ended */
    stage_send(&stage, packet, stage_short(packet, cid, 100));
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 43);
    quic_server_set_handover(stage.server, NULL);
    stage_done(&stage);
}

TEST(beside_another_process_nothing_is_answered_in_its_place)
{
    struct stage stage;
    uint8_t cid[QUIC_CID_LENGTH];
    stage_init(&stage, NULL);
    quic_endpoint_drain(stage.loops[0].endpoint);
    quic_endpoint_yield(stage.loops[0].endpoint);
    stage_send(&stage, packet, stage_initial(packet, V1, dcid, sizeof(dcid), NULL, 0, 1200));
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    make_cid(4, 0, cid);
    stage_send(&stage, packet, stage_short(packet, cid, 100));
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    make_cid(3, 0, cid); /* its own lost ones are still its own */
    stage_send(&stage, packet, stage_short(packet, cid, 100));
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 43);
    stage_done(&stage);
}

TEST(what_is_no_packet_is_dropped_and_counted)
{
    struct stage stage;
    struct addr reflector;
    stage_init(&stage, NULL);
    int64_t empty = metrics_sum(METRIC_quic_drops_empty);
    stage_send(&stage, packet, 0);
    stage_send(&stage, packet, 20);
    CHECK_EQ_INT(counted(METRIC_quic_drops_empty, empty), 2);
    int64_t port = metrics_sum(METRIC_quic_drops_port);
    CHECK_EQ_INT(addr_parse(SLICE("127.0.0.1"), 53, &reflector), ERROR_NONE);
    stage_inject(&stage, &reflector, packet,
                 stage_initial(packet, 2, dcid, sizeof(dcid), NULL, 0, 1200));
    CHECK_EQ_INT(counted(METRIC_quic_drops_port, port), 1);
    int64_t malformed = metrics_sum(METRIC_quic_drops_malformed);
    stage_initial(packet, V1, dcid, sizeof(dcid), NULL, 0, 1200);
    packet[5] = 21; /* ids have at most 20 bytes */
    stage_send(&stage, packet, 1200);
    stage_send(&stage, packet, stage_initial(packet, V1, dcid, 7, NULL, 0, 1200));
    stage_send(&stage, packet, stage_initial(packet, V1, dcid, 8, NULL, 0, 1199));
    CHECK_EQ_INT(counted(METRIC_quic_drops_malformed, malformed), 3);
    CHECK_EQ_INT(stage_receive(&stage, answer, sizeof(answer)), 0);
    stage_done(&stage);
}

CHECK_MAIN
