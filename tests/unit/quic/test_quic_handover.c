/* SPDX-License-Identifier: MIT */
/* The message that carries a datagram to another server, and which socket it counts for there. */
#include "check.h"

#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

#include "base/metrics.h"
#include "h3/quic_handover.h"
#include "quic_stage.h"

static uint8_t message[QUIC_HANDOVER_HEAD + UDP_BUFFER_SIZE + 1];

static struct addr address(const char *host, unsigned port)
{
    struct addr addr;
    REQUIRE(addr_parse(slice_from(host), port, &addr) == ERROR_NONE);
    return addr;
}

TEST(addresses_and_marks_arrive)
{
    static const struct {
        const char *peer, *local;
    } rows[] = {
        {"192.0.2.1", "127.0.0.1"},
        {"255.255.255.255", "0.0.0.0"},
        {"2001:db8::1", "::1"},
        {"fe80::1%1", "fe80::2%1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned ecn = 0; ecn < 4; ecn++) {
            struct udp_packets got, packets = {.peer = address(rows[i].peer, 65535),
                                               .local = address(rows[i].local, 443),
                                               .ecn = ecn};
            quic_handover_pack(&packets, message);
            memcpy(message + QUIC_HANDOVER_HEAD, "payload", 7);
            CHECK(quic_handover_unpack(message, QUIC_HANDOVER_HEAD + 7, &got));
            CHECK(addr_equal(&got.peer, &packets.peer));
            CHECK(addr_equal(&got.local, &packets.local));
            CHECK_EQ_INT(got.peer.length, packets.peer.length);
            CHECK_EQ_INT(got.local.length, packets.local.length);
            CHECK_EQ_INT(got.ecn, ecn);
            CHECK_EQ_INT(got.length, 7);
            CHECK_EQ_INT(got.segment, 7);
            CHECK_EQ_INT(memcmp(got.data, "payload", 7), 0);
        }
    }
}

TEST(what_is_no_message_is_refused)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 'x'}, {3, 2}, {4, 4}, {4, 255}, {5, 0}, {5, 5}, {10, 1}, {11, 1}};
    struct udp_packets got = {.length = 77},
                       packets = {.peer = address("::1", 1), .local = address("::1", 2)};
    quic_handover_pack(&packets, message);
    CHECK(!quic_handover_unpack(message, 0, &got));
    CHECK(!quic_handover_unpack(message, QUIC_HANDOVER_HEAD - 1, &got));
    CHECK(!quic_handover_unpack(message, QUIC_HANDOVER_HEAD, &got));
    CHECK(!quic_handover_unpack(message, sizeof(message), &got));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint8_t right = message[wrong[i].at];
        message[wrong[i].at] = wrong[i].value;
        CHECK(!quic_handover_unpack(message, QUIC_HANDOVER_HEAD + 100, &got));
        message[wrong[i].at] = right;
    }
    CHECK_EQ_INT(got.length, 77);
    CHECK(quic_handover_unpack(message, QUIC_HANDOVER_HEAD + UDP_BUFFER_SIZE, &got));
    CHECK_EQ_INT(got.length, UDP_BUFFER_SIZE);
}

/* --- sockets ------------------------------------------------------------------------------------- */

/* One more socket of the first loop, on this host and the stage's port. */
static void add_socket(struct stage *stage, const char *host)
{
    struct addr addr = address(host, addr_port(&stage->address));
    int fd;
    REQUIRE(udp_bind(&addr, true, &fd) == ERROR_NONE);
    REQUIRE(quic_endpoint_add(stage->loops[0].endpoint, fd, &addr) == ERROR_NONE);
}

/* Whose address the answer to an unknown version comes from; "": nobody answers. */
static void answered_from(struct stage *stage, struct addr local, char out[ADDR_TEXT_SIZE])
{
    static const uint8_t dcid[8] = "original";
    uint8_t packet[1200];
    struct addr from = {.length = sizeof(from.storage)};
    struct udp_packets packets = {.peer = stage->peer_address, .local = local, .data = packet};

    packets.length = packets.segment =
        stage_initial(packet, 0x1a2a3a4a, dcid, sizeof(dcid), NULL, 0, sizeof(packet));
    out[0] = '\0';
    if (!quic_endpoint_inject(stage->loops[0].endpoint, &packets)) {
        return;
    }
    stage_turn(stage);
    if (recvfrom(stage->peer, packet, sizeof(packet), MSG_DONTWAIT, &from.sa, &from.length) > 0) {
        addr_format_host(&from, out);
    }
}

TEST(a_datagram_counts_for_the_socket_of_its_local_address)
{
    struct stage stage;
    char host[ADDR_TEXT_SIZE];
    stage_init(&stage, NULL);
    unsigned port = addr_port(&stage.address);
    add_socket(&stage, "127.0.0.2");
    add_socket(&stage, "127.0.0.3");
    answered_from(&stage, address("127.0.0.1", port), host);
    CHECK_EQ_STR(host, "127.0.0.1");
    answered_from(&stage, address("127.0.0.2", port), host);
    CHECK_EQ_STR(host, "127.0.0.2");
    answered_from(&stage, address("127.0.0.3", port), host);
    CHECK_EQ_STR(host, "127.0.0.3");
    answered_from(&stage, address("127.0.0.4", port), host);
    CHECK_EQ_STR(host, "");
    answered_from(&stage, address("127.0.0.2", port + 1), host);
    CHECK_EQ_STR(host, "");
    answered_from(&stage, address("::1", port), host);
    CHECK_EQ_STR(host, "");
    add_socket(&stage, "0.0.0.0");
    answered_from(&stage, address("127.0.0.4", port), host);
    CHECK_EQ_STR(host, "127.0.0.4");
    answered_from(&stage, address("::1", port), host);
    CHECK_EQ_STR(host, "");
    stage_done(&stage);
}

/* --- Retry --------------------------------------------------------------------------------------- */

static unsigned handed_over;

static bool on_older(void *context, uint16_t generation, const struct addr *peer,
                     const struct addr *local, unsigned ecn, struct slice datagram)
{
    (void)context, (void)generation, (void)peer, (void)local, (void)ecn, (void)datagram;
    handed_over++;
    return true;
}

TEST(who_was_sent_a_retry_by_the_older_process_is_taken_by_the_newer_one)
{
    static const struct quic_handover handover = {on_older, NULL};
    static const uint8_t secret[CIPHER_SECRET_SIZE] = "the secret of the stage";
    struct stage stage;
    struct quic_keys keys;
    ngtcp2_cid cid = {.datalen = QUIC_CID_LENGTH}, original = {.datalen = 8};
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2], packet[1200];
    stage_init(&stage, NULL);
    quic_server_set_handover(stage.server, &handover);
    REQUIRE(quic_keys_init(&keys, secret) == ERROR_NONE);
    REQUIRE(quic_cid_make(&keys, (struct quic_cid_place){2, 0}, cid.data) == ERROR_NONE);
    ngtcp2_ssize length = ngtcp2_crypto_generate_retry_token2(
        token, keys.token, sizeof(keys.token), 1, &stage.peer_address.sa, stage.peer_address.length,
        &cid, &original, loop_now(stage.loops[0].loop));
    quic_keys_done(&keys);
    REQUIRE(length > 0);

    /* Without a good token it is about a connection that the older one has, or nothing. */
    int64_t conns = metrics_sum(METRIC_conns_accepted);
    stage_send(&stage, packet, stage_initial(packet, 1, cid.data, cid.datalen, NULL, 0, 1200));
    CHECK_EQ_INT(handed_over, 1);
    token[length - 1] ^= 1;
    stage_send(&stage, packet,
               stage_initial(packet, 1, cid.data, cid.datalen, token, (size_t)length, 1200));
    CHECK_EQ_INT(handed_over, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_conns_accepted) - conns, 0);
    token[length - 1] ^= 1;
    stage_send(&stage, packet,
               stage_initial(packet, 1, cid.data, cid.datalen, token, (size_t)length, 1200));
    CHECK_EQ_INT(handed_over, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_conns_accepted) - conns, 1);
    stage_done(&stage);
}

CHECK_MAIN
