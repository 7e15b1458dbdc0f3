/* SPDX-License-Identifier: MIT */
/*
 * permessage-deflate (RFC 7692): what is negotiated, and the two directions of compression on zlib. Both work in steps whose output
 * is bounded by their caller, so that a bomb costs one step. zlib's state is made with the first compressed message of a
 * direction and, without context takeover, freed behind each.
 */
#ifndef GATEWAY_WS_WS_DEFLATE_H
#define GATEWAY_WS_WS_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"
#include "http/head.h"
#include "ws/ws_settings.h"

/* What was agreed with the client; `enabled` false: nothing. */
struct ws_deflate_params {
    bool enabled;
    bool server_no_takeover, client_no_takeover;
    unsigned server_bits;                    /* of our window, 9..15 */
    unsigned client_bits;                    /* of the client's, 8..15 */
    bool name_server_bits, name_client_bits; /* stand in the answer */
};

/* Chooses among the offers in Sec-WebSocket-Extensions; what cannot be accepted is declined, never an error. */
struct ws_deflate_params ws_deflate_negotiate(const struct request_head *request,
                                              const struct ws_settings *settings);
/* The value of our Sec-WebSocket-Extensions; data NULL when memory is out. Only when enabled. */
struct slice ws_deflate_answer(struct arena *arena,
                               const struct ws_deflate_params *params) MUST_CHECK;

struct z_stream_s;

/* The client's messages. */
struct ws_inflater {
    struct z_stream_s *stream; /* NULL: none made yet */
    unsigned bits;
    bool no_takeover;
};

void ws_inflater_init(struct ws_inflater *inflater, const struct ws_deflate_params *params);
void ws_inflater_done(struct ws_inflater *inflater);
/* Inflates from `input` (advanced over what was used) into `out`, until one of both is used up. ERROR_INVALID: no deflate data. */
enum error ws_inflater_step(struct ws_inflater *inflater, struct slice *input, char *out,
                            size_t room, size_t *ret_length) MUST_CHECK;
/* A message has ended (its four missing bytes were inflated by the caller). */
void ws_inflater_end(struct ws_inflater *inflater);

/* Our messages. */
struct ws_deflater {
    struct z_stream_s *stream;
    unsigned bits;
    bool no_takeover;
    bool begun;   /* output of the present message was given */
    uint8_t held; /* the last bytes of it, which are dropped if they are the message's end */
    uint8_t tail[4];
};

/* Takes compressed bytes; `last`: the message ends with them. */
typedef enum error ws_deflated_fn(void *user, struct slice bytes, bool last);

void ws_deflater_init(struct ws_deflater *deflater, const struct ws_deflate_params *params);
void ws_deflater_done(struct ws_deflater *deflater);
/* Compresses a part of a message and gives what comes of it to `take` in pieces (perhaps none, but at least one when `end`). */
enum error ws_deflater_put(struct ws_deflater *deflater, struct slice data, bool end,
                           ws_deflated_fn *take, void *user) MUST_CHECK;

#endif
