/* SPDX-License-Identifier: MIT */
/*
 * PROXY protocol headers: read in one piece and byte by byte they give the same outcome, the same number of bytes and the same
 * addresses; a header never takes more than its bound.
 */
#include <stdint.h>
#include <string.h>

#include "net/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    bool v1 = data[0] % 3 != 1, v2 = data[0] % 3 != 2;
    struct proxy_reader whole, pieces;
    size_t whole_used = 0, pieces_used = 0;
    data++;
    size--;
    proxy_reader_init(&whole, v1, v2);
    enum error outcome = proxy_reader_feed(&whole, data, size, &whole_used);
    REQUIRE(whole_used <= size && whole_used <= PROXY_V2_MAX);
    REQUIRE(outcome != ERROR_AGAIN || whole_used == size);

    proxy_reader_init(&pieces, v1, v2);
    enum error error = ERROR_AGAIN;
    for (size_t i = 0; i < size && error == ERROR_AGAIN; i++) {
        size_t used = 0;
        error = proxy_reader_feed(&pieces, data + i, 1, &used);
        pieces_used += used;
    }
    REQUIRE(error == outcome && pieces_used == whole_used);
    if (outcome == ERROR_NONE) {
        char a[ADDR_TEXT_SIZE], b[ADDR_TEXT_SIZE];
        REQUIRE(whole.known == pieces.known);
        addr_format(&whole.source, a);
        addr_format(&pieces.source, b);
        REQUIRE(strcmp(a, b) == 0);
        addr_format(&whole.destination, a);
        addr_format(&pieces.destination, b);
        REQUIRE(strcmp(a, b) == 0);
        REQUIRE(!whole.known || (whole.source.length > 0 && whole.destination.length > 0));
    }
    return 0;
}
