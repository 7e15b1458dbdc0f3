/* SPDX-License-Identifier: MIT */
/*
 * The session ticket keys as the ticket callback uses them (tls_context.h has making and freeing). Any thread, no locks.
 */
#ifndef GATEWAY_NET_TLS_KEYRING_H
#define GATEWAY_NET_TLS_KEYRING_H

#include <stdbool.h>
#include <stdint.h>

#include "net/tls_context.h"

#define TLS_TICKET_NAME_SIZE 16

/* One key, copied out of the ring: wipe it after use. The layout is whole 64-bit words. */
struct tls_ticket_key {
    uint8_t name[TLS_TICKET_NAME_SIZE];
    uint8_t aes[32], hmac[32];
    uint64_t made_at;
};

/* The key that new tickets are sealed with at monotonic time `now`; made first when the last one is older than its life. */
void tls_keyring_current(struct tls_keyring *keyring, uint64_t now, struct tls_ticket_key *ret_key);
/* The key of a ticket. False when it is unknown or too old. *ret_renew: it opens tickets but seals no more. */
bool tls_keyring_find(struct tls_keyring *keyring, uint64_t now,
                      const uint8_t name[TLS_TICKET_NAME_SIZE], struct tls_ticket_key *ret_key,
                      bool *ret_renew) MUST_CHECK;

#endif
