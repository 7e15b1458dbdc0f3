/* SPDX-License-Identifier: MIT */
/*
 * Heads between http/ and the frames: REQUEST arrays out, RESPONSE and TRAILERS arrays in (protocol/SPEC.md sections 5 to 7).
 */
#ifndef GATEWAY_APP_HEAD_WIRE_H
#define GATEWAY_APP_HEAD_WIRE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "http/conn.h"
#include "http/head.h"

/* What a request head needs besides the head itself. */
struct head_wire_context {
    const struct conn_identity *identity; /* as resolved for this request */
    struct slice scheme;                  /* likewise */
    struct slice root_path;
    struct slice host; /* replaces the host field's value; empty: as sent */
    uint32_t tls_conn; /* id announced by CONN, 0: none */
    bool early_hints;  /* the client can take a 103 */
    bool
        strip_forwarded; /* the peer is no trusted proxy: its Forwarded and X-Forwarded-* are dropped */
};

/* Appends the REQUEST array (SPEC section 6). Check out->failed afterwards. */
void head_wire_request(struct strbuf *out, const struct request_head *head,
                       const struct head_wire_context *context);
/* Decodes a RESPONSE or TRAILERS array: one bin of NUL-joined fields (SPEC R39, R49) into the arena; names and values are
 * not judged here (response_head_check does that). ERROR_PROTOCOL: malformed; ERROR_NO_MEMORY. */
enum error head_wire_fields(struct arena *arena, struct slice bytes, struct field **ret_fields,
                            size_t *ret_count) MUST_CHECK;
/* Decodes a WS_ACCEPT array (SPEC R84): the subprotocol (empty: none) and the fields, into the arena; not judged. Errors as above. */
enum error head_wire_accept(struct arena *arena, struct slice bytes, struct slice *ret_subprotocol,
                            struct field **ret_fields, size_t *ret_count) MUST_CHECK;
/* The CONN map (SPEC section 5) of a TLS connection, in at most `max` bytes: a chain that is longer is cut at its end (R105). What is
 * out of the map's bounds is nil. */
void head_wire_conn(struct strbuf *out, const struct conn_identity *identity, size_t max);

#endif
