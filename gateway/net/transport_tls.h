/* SPDX-License-Identifier: MIT */
/*
 * What the listener asks a TLS transport beside tls_context.h; only net/ includes it.
 */
#ifndef GATEWAY_NET_TRANSPORT_TLS_H
#define GATEWAY_NET_TRANSPORT_TLS_H

#include "net/transport.h"

/* Why the handshake or the transport failed, for a log line: a static string, "" when it did not. */
const char *transport_tls_failure(struct transport *transport);

#endif
