/* SPDX-License-Identifier: MIT */
/*
 * Connection ids (gateway/h3/quic_cid.h): arbitrary bytes are read without a fault and, but for one chance in 2^40, are nobody's; an id made for the
 * place that the input names is read back as that place, and one changed bit makes it nobody's.
 */
#include <stdint.h>
#include <string.h>

#include "h3/quic_cid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[CIPHER_SECRET_SIZE] = "of the fuzz target";
    static struct quic_keys keys;
    struct quic_cid_place place = {0}, read;
    uint8_t cid[QUIC_CID_LENGTH];

    if (keys.cipher == NULL) {
        REQUIRE(quic_keys_init(&keys, secret) == ERROR_NONE);
    }
    REQUIRE(!quic_cid_read(&keys, data, size, &read));
    memcpy(&place, data, size < sizeof(place) ? size : sizeof(place));
    REQUIRE(quic_cid_make(&keys, place, cid) == ERROR_NONE);
    REQUIRE(quic_cid_read(&keys, cid, sizeof(cid), &read));
    REQUIRE(read.generation == place.generation && read.loop == place.loop);
    if (size > 4) {
        size_t at = (size_t)(data[4] % (QUIC_CID_LENGTH * 8u));
        /* The noise beside the key id means nothing. */
        if (at / 8 != 0 || at % 8 >= 5) {
            cid[at / 8] ^= (uint8_t)(1u << at % 8);
            REQUIRE(!quic_cid_read(&keys, cid, sizeof(cid), &read));
        }
    }
    return 0;
}
