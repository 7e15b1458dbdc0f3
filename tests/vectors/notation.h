/* SPDX-License-Identifier: MIT */
/*
 * Reads protocol/vectors/ and protocol/transcripts/ (their README.md files say the formats): blocks of lines, hex, frames. It
 * takes names from frame_defs.h and knows nothing of the code under test. Test programs only: it never frees a block, and
 * exits when a file is not as it should be.
 */
#ifndef TESTS_VECTORS_NOTATION_H
#define TESTS_VECTORS_NOTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOTE_LINES 64

struct note_line {
    const char *key; /* "name", "->", ... */
    const char *rest;
    int number; /* in the file */
};

/* One test. */
struct note_block {
    struct note_block *next;
    const char *name, *file;
    struct note_line lines[NOTE_LINES * 2];
    size_t count;
};

/* Growing bytes; all zero is empty. */
struct note_bytes {
    uint8_t *data;
    size_t length, capacity;
};

/* A frame as transcripts write it. */
struct note_frame {
    unsigned type, flags, code;
    uint32_t stream, aux;
    bool any_aux, any_payload;
    struct note_bytes payload;
};

/* All blocks of the files in `folder` ("protocol/vectors") whose names begin with `prefix`, in order. */
struct note_block *note_load(const char *folder, const char *prefix);
/* The rest of the first line with this key, NULL when there is none. */
const char *note_get(const struct note_block *block, const char *key);
/* The value of key=value in a text of such words, in `buffer`; NULL when there is none. */
const char *note_value(const char *text, const char *key, char *buffer, size_t size);
/* The same as a number; `otherwise` when there is none. */
uint32_t note_number(const char *text, const char *key, uint32_t otherwise);

void note_append(struct note_bytes *bytes, const void *data, size_t length);
void note_clear(struct note_bytes *bytes);
void note_done(struct note_bytes *bytes);
/* Appends hex, XX*N, @NAME or - (nothing); parts joined by + as well. Returns the length of the first part. */
size_t note_hex(struct note_bytes *bytes, const char *text);
/* All hex: lines of a block. */
void note_hex_lines(struct note_bytes *bytes, const struct note_block *block);
/* The canonical text of a payload ("-", hex or XX*N), to be freed. */
char *note_show(const uint8_t *data, size_t length);

/* TYPE key=value ...; note_done(&frame.payload) afterwards. */
struct note_frame note_parse_frame(const char *text);
void note_encode(struct note_bytes *bytes, const struct note_frame *frame);
/* Numbers of names, or of digits. */
unsigned note_error(const char *text);
unsigned note_flags(const char *text);
/* "A|B" or "-", and "DATA" or its number, in static memory. */
const char *note_flag_names(unsigned flags);
const char *note_type_name(unsigned type);
const char *note_error_name(unsigned code);

#endif
