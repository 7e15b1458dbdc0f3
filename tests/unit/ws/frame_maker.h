/* SPDX-License-Identifier: MIT */
/*
 * A WebSocket client's bytes for tests: frames with a mask, and a session whose output is kept and taken apart again.
 */
#ifndef TESTS_UNIT_WS_FRAME_MAKER_H
#define TESTS_UNIT_WS_FRAME_MAKER_H

#include "base/strbuf.h"
#include "ws/ws_session.h"

#define FIN 0x80u
#define RSV1 0x40u
#define RSV2 0x20u
#define RSV3 0x10u

/* Appends a masked frame; `first` is the first byte of its header. */
void frame_append(struct strbuf *out, unsigned first, const void *payload, size_t length);
/* The same with a text. */
void frame_text(struct strbuf *out, unsigned first, const char *text);

/* What one run of a session gave. */
struct outcome {
    struct strbuf messages; /* "T:text|" or "B:bytes|" for each message */
    struct strbuf sent;     /* frames for the client, as bytes */
    enum ws_event last;     /* the event that ended the run: MORE, CLOSED, FAILED, BROKEN */
    unsigned code;          /* of the session */
    size_t parts, largest_part;
};

struct run_options {
    struct ws_settings settings;
    struct ws_deflate_params deflate;
    size_t chunk; /* bytes per call; 0: all at once */
    size_t room;  /* bytes per part; 0: 16384 */
};

/* Options with the product's defaults, without deflate. */
struct run_options run_defaults(void);
/* Feeds bytes to a fresh session and frees it. Answers PINGs as soon as it can. */
struct outcome run_session(const struct run_options *options, const struct strbuf *bytes);
void outcome_done(struct outcome *outcome);
/* A write function of a session that appends to a strbuf. */
enum error write_to_strbuf(void *user, struct slice bytes);
/* The frames of the gateway in `sent` as text: "81:hello 8a:x 88:1000". */
char *frames_shown(const struct strbuf *sent);
/* Compresses a message as a client does: without the last four bytes. */
void deflate_message(struct strbuf *out, const void *data, size_t length);

#endif
