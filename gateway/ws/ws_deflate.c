/* SPDX-License-Identifier: MIT */
/*
 * The two directions on zlib, raw deflate (RFC 7692 section 7.2). It must not know frames.
 */
#include "ws/ws_deflate.h"

#include <string.h>
#include <zlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/metrics.h"

/* 16 KiB beside the window's 4 << bits; more gains a few per cent. */
#define DEFLATE_MEMORY 5
/* Text on the wire: the low levels give most of the gain at a third of the time. */
#define DEFLATE_LEVEL 3
#define OUT_SIZE 16384
#define TAIL 4 /* 00 00 ff ff: the end of an empty stored block, not sent */

static void *zlib_alloc(void *opaque, unsigned items, unsigned size)
{
    (void)opaque;
    return mem_calloc(items, size);
}

static void zlib_free(void *opaque, void *memory)
{
    (void)opaque;
    mem_free(memory);
}

static z_stream *stream_new(void)
{
    z_stream *stream = mem_calloc(1, sizeof *stream);
    if (stream != NULL) {
        stream->zalloc = zlib_alloc;
        stream->zfree = zlib_free;
    }
    return stream;
}

/* --- inflate -------------------------------------------------------------------------------------------------------------- */

void ws_inflater_init(struct ws_inflater *inflater, const struct ws_deflate_params *params)
{
    *inflater = (struct ws_inflater){.bits = params->client_bits,
                                     .no_takeover = params->client_no_takeover};
}

void ws_inflater_done(struct ws_inflater *inflater)
{
    if (inflater->stream != NULL) {
        (void)inflateEnd(inflater->stream);
        mem_free(inflater->stream);
        inflater->stream = NULL;
    }
}

static enum error inflater_make(struct ws_inflater *inflater)
{
    z_stream *stream = stream_new();
    if (stream == NULL) {
        return ERROR_NO_MEMORY;
    }
    /* Every stream of a smaller window is one of a larger: 8 is what zlib no longer makes. */
    int bits = inflater->bits < 9 ? 9 : (int)inflater->bits;
    if (inflateInit2(stream, -bits) != Z_OK) {
        mem_free(stream);
        return ERROR_NO_MEMORY;
    }
    inflater->stream = stream;
    return ERROR_NONE;
}

/* A block said that it is the last one (RFC 7692 7.2.3.4): another stream follows, with the same window. */
static enum error inflater_go_on(z_stream *stream)
{
    Bytef *window = mem_alloc(32768);
    uInt length = 0;
    if (window == NULL) {
        return ERROR_NO_MEMORY;
    }
    bool ok = inflateGetDictionary(stream, window, &length) == Z_OK &&
              inflateReset(stream) == Z_OK && inflateSetDictionary(stream, window, length) == Z_OK;
    mem_free(window);
    return ok ? ERROR_NONE : ERROR_INVALID;
}

enum error ws_inflater_step(struct ws_inflater *inflater, struct slice *input, char *out,
                            size_t room, size_t *ret_length)
{
    REQUIRE(room > 0 && room <= UINT32_MAX && input->length <= UINT32_MAX);
    enum error error = ERROR_NONE;
    if (inflater->stream == NULL) {
        error = inflater_make(inflater);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    z_stream *stream = inflater->stream;
    stream->next_in = (Bytef *)(uintptr_t)input->data; /* zlib only reads it */
    stream->avail_in = (uInt)input->length;
    stream->next_out = (Bytef *)out;
    stream->avail_out = (uInt)room;
    do {
        int result = inflate(stream, Z_SYNC_FLUSH);
        if (result == Z_STREAM_END) {
            error = inflater_go_on(stream);
        } else if (result == Z_BUF_ERROR) {
            break; /* no progress possible: more input, or more room */
        } else if (result != Z_OK) {
            error = result == Z_MEM_ERROR ? ERROR_NO_MEMORY : ERROR_INVALID;
        }
    } while (error == ERROR_NONE && stream->avail_in > 0 && stream->avail_out > 0);
    *ret_length = room - stream->avail_out;
    *input = slice_skip(*input, input->length - stream->avail_in);
    return error;
}

void ws_inflater_end(struct ws_inflater *inflater)
{
    if (inflater->no_takeover) {
        ws_inflater_done(inflater);
    }
}

/* --- deflate -------------------------------------------------------------------------------------------------------------- */

void ws_deflater_init(struct ws_deflater *deflater, const struct ws_deflate_params *params)
{
    *deflater = (struct ws_deflater){.bits = params->server_bits,
                                     .no_takeover = params->server_no_takeover};
}

void ws_deflater_done(struct ws_deflater *deflater)
{
    if (deflater->stream != NULL) {
        (void)deflateEnd(deflater->stream);
        mem_free(deflater->stream);
        deflater->stream = NULL;
    }
}

static enum error deflater_make(struct ws_deflater *deflater)
{
    z_stream *stream = stream_new();
    if (stream == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (deflateInit2(stream, DEFLATE_LEVEL, Z_DEFLATED, -(int)deflater->bits, DEFLATE_MEMORY,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        mem_free(stream);
        return ERROR_NO_MEMORY;
    }
    deflater->stream = stream;
    return ERROR_NONE;
}

/* Gives all bytes of `buffer` but the last four, which become the tail. */
static enum error hold_tail(struct ws_deflater *deflater, char *buffer, size_t length,
                            ws_deflated_fn *take, void *user)
{
    size_t held = length < TAIL ? length : TAIL;
    memcpy(deflater->tail, buffer + length - held, held);
    deflater->held = (uint8_t)held;
    if (length == held) {
        return ERROR_NONE;
    }
    deflater->begun = true;
    return take(user, (struct slice){buffer, length - held}, false);
}

/* The message's end: what is held is the end of a flush, or nothing came at all (an empty message right behind another one). */
static enum error finish_message(struct ws_deflater *deflater, ws_deflated_fn *take, void *user)
{
    bool nothing = !deflater->begun && deflater->held < TAIL;
    deflater->begun = false;
    deflater->held = 0;
    if (deflater->no_takeover) {
        ws_deflater_done(deflater);
    }
    return take(user, nothing ? (struct slice){"\0", 1} : (struct slice){NULL, 0}, true);
}

enum error ws_deflater_put(struct ws_deflater *deflater, struct slice data, bool end,
                           ws_deflated_fn *take, void *user)
{
    char buffer[TAIL + OUT_SIZE];
    REQUIRE(data.length <= UINT32_MAX);
    enum error error = deflater->stream == NULL ? deflater_make(deflater) : ERROR_NONE;
    if (error != ERROR_NONE) {
        return error;
    }
    z_stream *stream = deflater->stream;
    stream->next_in = (Bytef *)(uintptr_t)data.data;
    stream->avail_in = (uInt)data.length;
    do {
        size_t held = deflater->held;
        memcpy(buffer, deflater->tail, held);
        stream->next_out = (Bytef *)buffer + held;
        stream->avail_out = OUT_SIZE;
        int result = deflate(stream, end ? Z_SYNC_FLUSH : Z_NO_FLUSH);
        REQUIRE(result == Z_OK || result == Z_BUF_ERROR);
        error = hold_tail(deflater, buffer, held + OUT_SIZE - stream->avail_out, take, user);
    } while (error == ERROR_NONE && stream->avail_out == 0);
    if (error == ERROR_NONE && end) {
        error = finish_message(deflater, take, user);
    }
    return error;
}
