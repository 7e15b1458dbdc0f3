/* SPDX-License-Identifier: MIT */
/*
 * Parser of the PROXY protocol header. A byte is taken only after everything before it was right, so what does not belong to
 * the header is never taken. Owns nothing; knows no sockets.
 */
#include "net/proxy_protocol.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

static const uint8_t v1_start[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_start[] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

#define V2_FIXED 16u
#define V2_COMMAND_LOCAL 0x20
#define V2_COMMAND_PROXY 0x21
#define V2_TCP4 0x11
#define V2_TCP6 0x21
#define V2_TCP4_LENGTH 12u
#define V2_TCP6_LENGTH 36u

_Static_assert(V2_FIXED + V2_TCP6_LENGTH == PROXY_V2_KEPT, "the addresses that are used are kept");
_Static_assert(PROXY_V2_KEPT <= PROXY_V1_MAX, "one buffer serves both versions");

void proxy_reader_init(struct proxy_reader *reader, bool allow_v1, bool allow_v2)
{
    REQUIRE(allow_v1 || allow_v2);
    memset(reader, 0, sizeof(*reader));
    reader->allow_v1 = allow_v1;
    reader->allow_v2 = allow_v2;
}

/* --- version 1 (section 2.1) ---------------------------------------------------------------------------------------- */

static bool v1_port(struct slice text, unsigned *ret_port)
{
    unsigned long long port = 0;
    if (text.length > 5 || (text.length > 1 && text.data[0] == '0') ||
        !slice_to_uint(text, 65535, &port)) {
        return false;
    }
    *ret_port = (unsigned)port;
    return true;
}

/* "TCP4 192.0.2.1 192.0.2.2 56324 443": single spaces, both addresses of the named family. */
static enum error v1_parse(struct proxy_reader *reader)
{
    struct slice line = {(const char *)reader->data + sizeof(v1_start),
                         reader->length - sizeof(v1_start) - 2};
    struct slice rest;
    struct slice family = slice_cut(line, ' ', &rest);
    if (slice_equal(family, SLICE("UNKNOWN"))) {
        return ERROR_NONE; /* the rest is to be ignored */
    }
    bool ipv6 = slice_equal(family, SLICE("TCP6"));
    if (!ipv6 && !slice_equal(family, SLICE("TCP4"))) {
        return ERROR_PROTOCOL;
    }
    struct slice source = slice_cut(rest, ' ', &rest);
    struct slice destination = slice_cut(rest, ' ', &rest);
    struct slice source_port_text = slice_cut(rest, ' ', &rest);
    unsigned source_port = 0, destination_port = 0;
    if (rest.data == NULL || !v1_port(source_port_text, &source_port) ||
        !v1_port(rest, &destination_port)) {
        return ERROR_PROTOCOL;
    }
    int wanted = ipv6 ? AF_INET6 : AF_INET;
    if (memchr(line.data, '[', line.length) != NULL ||
        memchr(line.data, '%', line.length) != NULL ||
        addr_parse(source, source_port, &reader->source) != ERROR_NONE ||
        addr_parse(destination, destination_port, &reader->destination) != ERROR_NONE ||
        reader->source.sa.sa_family != wanted || reader->destination.sa.sa_family != wanted) {
        return ERROR_PROTOCOL;
    }
    reader->known = true;
    return ERROR_NONE;
}

static enum error v1_byte(struct proxy_reader *reader, uint8_t byte)
{
    reader->data[reader->length++] = byte;
    if (reader->length <= sizeof(v1_start)) {
        return byte == v1_start[reader->length - 1] ? ERROR_AGAIN : ERROR_PROTOCOL;
    }
    if (byte == '\n') {
        return reader->data[reader->length - 2] == '\r' ? v1_parse(reader) : ERROR_PROTOCOL;
    }
    return reader->length < PROXY_V1_MAX ? ERROR_AGAIN : ERROR_PROTOCOL;
}

/* --- version 2 (section 2.2) ---------------------------------------------------------------------------------------- */

static struct addr ipv4_at(const uint8_t *host, const uint8_t *port)
{
    struct addr addr;
    memset(&addr, 0, sizeof(addr));
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&addr.storage;
    in->sin_family = AF_INET;
    memcpy(&in->sin_addr, host, 4);
    memcpy(&in->sin_port, port, 2);
    addr.length = sizeof(*in);
    return addr;
}

static struct addr ipv6_at(const uint8_t *host, const uint8_t *port)
{
    struct addr addr;
    memset(&addr, 0, sizeof(addr));
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&addr.storage;
    in6->sin6_family = AF_INET6;
    memcpy(&in6->sin6_addr, host, 16);
    memcpy(&in6->sin6_port, port, 2);
    addr.length = sizeof(*in6);
    return addr;
}

/* Checks the fixed part as soon as it is whole. */
static enum error v2_check(struct proxy_reader *reader)
{
    uint8_t command = reader->data[12], family = reader->data[13];
    size_t length = (size_t)reader->data[14] << 8 | reader->data[15];
    reader->total = V2_FIXED + length;
    if ((command != V2_COMMAND_LOCAL && command != V2_COMMAND_PROXY) ||
        reader->total > PROXY_V2_MAX || (family & 0x0f) > 2 || (family >> 4) > 3) {
        return ERROR_PROTOCOL;
    }
    if (command == V2_COMMAND_PROXY && ((family == V2_TCP4 && length < V2_TCP4_LENGTH) ||
                                        (family == V2_TCP6 && length < V2_TCP6_LENGTH))) {
        return ERROR_PROTOCOL;
    }
    return ERROR_AGAIN;
}

static void v2_finish(struct proxy_reader *reader)
{
    const uint8_t *at = reader->data + V2_FIXED;
    if (reader->data[12] != V2_COMMAND_PROXY) {
        return;
    }
    if (reader->data[13] == V2_TCP4) {
        reader->source = ipv4_at(at, at + 8);
        reader->destination = ipv4_at(at + 4, at + 10);
        reader->known = true;
    } else if (reader->data[13] == V2_TCP6) {
        reader->source = ipv6_at(at, at + 32);
        reader->destination = ipv6_at(at + 16, at + 34);
        reader->known = true;
    }
}

static enum error v2_byte(struct proxy_reader *reader, uint8_t byte)
{
    size_t at = reader->length++;
    if (at < PROXY_V2_KEPT) {
        reader->data[at] = byte;
    }
    if (at < sizeof(v2_start)) {
        return byte == v2_start[at] ? ERROR_AGAIN : ERROR_PROTOCOL;
    }
    if (reader->length == V2_FIXED && v2_check(reader) != ERROR_AGAIN) {
        return ERROR_PROTOCOL;
    }
    if (reader->length >= V2_FIXED && reader->length == reader->total) {
        v2_finish(reader);
        return ERROR_NONE;
    }
    return ERROR_AGAIN;
}

enum error proxy_reader_feed(struct proxy_reader *reader, const uint8_t *bytes, size_t length,
                             size_t *ret_used)
{
    *ret_used = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t first = reader->length == 0 ? bytes[i] : reader->data[0];
        enum error error = ERROR_PROTOCOL;
        if (first == v1_start[0] && reader->allow_v1) {
            error = v1_byte(reader, bytes[i]);
        } else if (first == v2_start[0] && reader->allow_v2) {
            error = v2_byte(reader, bytes[i]);
        }
        if (error == ERROR_PROTOCOL) {
            return error;
        }
        *ret_used = i + 1;
        if (error == ERROR_NONE) {
            return ERROR_NONE;
        }
    }
    return ERROR_AGAIN;
}
