/* SPDX-License-Identifier: MIT */
/* Making and reading connection ids. A forged one passes with probability 2^-40: server, masked loop and loop must agree. */
#include "h3/quic_cid.h"

#include <string.h>

#include "base/hash.h"

#define KEY_ID 0u /* of the first and so far only key */
#define KEY_ID_SHIFT 5
#define NOISE_MASK 0x1fu
#define BLOCK_AT 3

enum error quic_keys_init(struct quic_keys *keys, const uint8_t secret[CIPHER_SECRET_SIZE])
{
    uint8_t key[16];

    *keys = (struct quic_keys){0};
    if (cipher_derive(secret, "gatewayd quic cid", key, sizeof(key)) != ERROR_NONE ||
        cipher_derive(secret, "gatewayd quic server", keys->server, sizeof(keys->server)) !=
            ERROR_NONE ||
        cipher_derive(secret, "gatewayd quic reset", keys->reset, sizeof(keys->reset)) !=
            ERROR_NONE ||
        cipher_derive(secret, "gatewayd quic token", keys->token, sizeof(keys->token)) !=
            ERROR_NONE) {
        return ERROR_NO_MEMORY;
    }
    keys->cipher = cipher_block_new(key);
    explicit_bzero(key, sizeof(key));
    return keys->cipher != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

void quic_keys_done(struct quic_keys *keys)
{
    cipher_block_free(keys->cipher);
    explicit_bzero(keys, sizeof(*keys));
}

enum error quic_cid_make(const struct quic_keys *keys, struct quic_cid_place place,
                         uint8_t out[QUIC_CID_LENGTH])
{
    uint8_t block[CIPHER_BLOCK_SIZE];

    random_bytes(out, 2);
    out[0] = (uint8_t)(KEY_ID << KEY_ID_SHIFT | (out[0] & NOISE_MASK));
    out[2] = (uint8_t)(out[1] ^ (uint8_t)place.loop);
    memcpy(block, keys->server, 4);
    block[4] = (uint8_t)(place.generation >> 8);
    block[5] = (uint8_t)place.generation;
    block[6] = (uint8_t)(place.loop >> 8);
    block[7] = (uint8_t)place.loop;
    random_bytes(block + 8, 8);
    return cipher_block_encrypt(keys->cipher, block, out + BLOCK_AT);
}

bool quic_cid_read(const struct quic_keys *keys, const uint8_t *cid, size_t length,
                   struct quic_cid_place *ret_place)
{
    uint8_t block[CIPHER_BLOCK_SIZE];

    if (length != QUIC_CID_LENGTH || cid[0] >> KEY_ID_SHIFT != KEY_ID ||
        cipher_block_decrypt(keys->cipher, cid + BLOCK_AT, block) != ERROR_NONE ||
        memcmp(block, keys->server, 4) != 0 || (cid[1] ^ cid[2]) != block[7]) {
        return false;
    }
    ret_place->generation = (uint16_t)(block[4] << 8 | block[5]);
    ret_place->loop = (uint16_t)(block[6] << 8 | block[7]);
    return true;
}
