/* SPDX-License-Identifier: MIT */
/*
 * Bytes: form (4), ECN, family (4 or 6), ports of peer and local (2 each, as on the network), two of nothing, their addresses (16 each) and scopes (4
 * each). The order of the scopes' bytes is the machine's, which both servers run on.
 */
#include "h3/quic_handover.h"

#include <netinet/in.h>
#include <string.h>

#include "base/check.h"
#include "net/udp.h"

#define ECN_AT 4
#define FAMILY_AT 5
#define PEER_PORT_AT 6
#define LOCAL_PORT_AT 8
#define NOTHING_AT 10
#define PEER_AT 12
#define LOCAL_AT 28
#define PEER_SCOPE_AT 44
#define LOCAL_SCOPE_AT 48

/* Another one for every change of the above. */
static const uint8_t form[4] = {'g', 'Q', 'H', 1};

struct place {
    size_t port, host, scope;
};
static const struct place peer_place = {PEER_PORT_AT, PEER_AT, PEER_SCOPE_AT};
static const struct place local_place = {LOCAL_PORT_AT, LOCAL_AT, LOCAL_SCOPE_AT};

static void put(const struct addr *addr, const struct place *place, uint8_t *out)
{
    if (addr->sa.sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->storage;
        memcpy(out + place->port, &in->sin_port, 2);
        memcpy(out + place->host, &in->sin_addr, 4);
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->storage;
        memcpy(out + place->port, &in6->sin6_port, 2);
        memcpy(out + place->host, &in6->sin6_addr, 16);
        memcpy(out + place->scope, &in6->sin6_scope_id, 4);
    }
}

static struct addr get(int family, const struct place *place, const uint8_t *head)
{
    struct addr addr;

    memset(&addr, 0, sizeof(addr));
    if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&addr.storage;
        addr.length = sizeof(*in);
        in->sin_family = AF_INET;
        memcpy(&in->sin_port, head + place->port, 2);
        memcpy(&in->sin_addr, head + place->host, 4);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr.storage;
        addr.length = sizeof(*in6);
        in6->sin6_family = AF_INET6;
        memcpy(&in6->sin6_port, head + place->port, 2);
        memcpy(&in6->sin6_addr, head + place->host, 16);
        memcpy(&in6->sin6_scope_id, head + place->scope, 4);
    }
    return addr;
}

void quic_handover_pack(const struct udp_packets *packets, uint8_t out[QUIC_HANDOVER_HEAD])
{
    int family = packets->peer.sa.sa_family;

    REQUIRE(family == AF_INET || family == AF_INET6);
    REQUIRE(packets->local.sa.sa_family == family);
    memset(out, 0, QUIC_HANDOVER_HEAD);
    memcpy(out, form, sizeof(form));
    out[ECN_AT] = (uint8_t)(packets->ecn & 3);
    out[FAMILY_AT] = family == AF_INET ? 4 : 6;
    put(&packets->peer, &peer_place, out);
    put(&packets->local, &local_place, out);
}

bool quic_handover_unpack(uint8_t *message, size_t length, struct udp_packets *ret_packets)
{
    if (length <= QUIC_HANDOVER_HEAD || length > QUIC_HANDOVER_HEAD + UDP_BUFFER_SIZE ||
        memcmp(message, form, sizeof(form)) != 0 || message[ECN_AT] > 3 ||
        (message[FAMILY_AT] != 4 && message[FAMILY_AT] != 6) || message[NOTHING_AT] != 0 ||
        message[NOTHING_AT + 1] != 0) {
        return false;
    }
    int family = message[FAMILY_AT] == 4 ? AF_INET : AF_INET6;
    *ret_packets = (struct udp_packets){.peer = get(family, &peer_place, message),
                                        .local = get(family, &local_place, message),
                                        .ecn = message[ECN_AT],
                                        .data = message + QUIC_HANDOVER_HEAD,
                                        .length = length - QUIC_HANDOVER_HEAD,
                                        .segment = length - QUIC_HANDOVER_HEAD};
    return true;
}
