/* SPDX-License-Identifier: MIT */
/*
 * Addresses and networks as text: what is parsed is printed and parsed to the same again; a network holds an address exactly
 * when their first bits are the same, and every network holds its own address.
 *
 * Input: a port (2 bytes), then lines: a host, a network, the path of a Unix socket.
 */
#include <netinet/in.h>
#include <stdint.h>

#include "net/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct addr *addr, unsigned port)
{
    char text[ADDR_TEXT_SIZE], again[ADDR_TEXT_SIZE], whole[ADDR_TEXT_SIZE];
    struct addr second;

    REQUIRE(addr_format_host(addr, text) == strlen(text) && addr_port(addr) == port);
    REQUIRE(addr_format(addr, whole) == strlen(whole) && strstr(whole, text) != NULL);
    REQUIRE(addr_parse(slice_from(text), port, &second) == ERROR_NONE);
    REQUIRE(addr_format_host(&second, again) == strlen(again) && strcmp(text, again) == 0);
    REQUIRE(addr_port(&second) == port && !addr_is_unix(&second));
}

/* The bits of an address as text of 0 and 1; returns their number. */
static size_t bits_of(const struct addr *given, char out[129])
{
    struct addr addr = addr_unmap(given);
    bool ipv4 = addr.sa.sa_family == AF_INET;
    const unsigned char *bytes =
        ipv4 ? (const unsigned char *)&((const struct sockaddr_in *)(const void *)&addr.storage)
                   ->sin_addr
             : ((const struct sockaddr_in6 *)(const void *)&addr.storage)->sin6_addr.s6_addr;
    size_t count = ipv4 ? 32 : 128;

    for (size_t i = 0; i < count; i++) {
        out[i] = (bytes[i / 8] >> (7 - i % 8) & 1) != 0 ? '1' : '0';
    }
    return count;
}

static void check_network(const struct addr_network *network, const struct addr *addr)
{
    char wanted[129], got[129];

    if (network->addr.length == 0) {
        REQUIRE(network->unix_peers);
        REQUIRE(addr_network_contains(network, addr) == network->everybody);
        return;
    }
    size_t bits = bits_of(&network->addr, wanted);
    REQUIRE(network->prefix <= bits && !network->everybody && !network->unix_peers);
    for (size_t i = network->prefix; i < bits; i++) {
        REQUIRE(wanted[i] == '0');
    }
    REQUIRE(addr_network_contains(network, &network->addr));
    bool holds = bits_of(addr, got) == bits && memcmp(wanted, got, network->prefix) == 0;
    REQUIRE(addr_network_contains(network, addr) == holds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    unsigned port = (unsigned)data[0] << 8 | data[1];
    struct slice rest = {(const char *)data + 2, size - 2};
    struct slice host = slice_cut(rest, '\n', &rest);
    struct slice text = slice_cut(rest, '\n', &rest);
    struct addr addr, unix_addr;
    struct addr_network network;
    char path[ADDR_TEXT_SIZE];

    bool is_addr = addr_parse(host, port, &addr) == ERROR_NONE;
    bool is_network = addr_network_parse(text, &network) == ERROR_NONE;
    bool is_path = addr_from_unix(rest, &unix_addr) == ERROR_NONE;
    if (is_addr) {
        check_text(&addr, port);
    }
    if (is_addr && is_network) {
        check_network(&network, &addr);
    }
    if (is_path) {
        REQUIRE(addr_is_unix(&unix_addr) && addr_port(&unix_addr) == 0);
        REQUIRE(addr_format_host(&unix_addr, path) == strlen(path));
        for (size_t i = 0; i < rest.length;
             i++) { /* '?' where a log must not have the byte itself */
            unsigned char c = (unsigned char)rest.data[i];
            REQUIRE(path[i] == (c >= 0x20 && c != 0x7f ? rest.data[i] : '?'));
        }
        REQUIRE(path[rest.length] == '\0');
        REQUIRE(!is_network || addr_network_contains(&network, &unix_addr) == network.unix_peers);
    }
    return 0;
}
