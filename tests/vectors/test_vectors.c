/* SPDX-License-Identifier: MIT */
/*
 * protocol/vectors/ against ipc/: frames by their headers (both directions), and the payloads that ipc reads itself. What
 * RESPONSE and TRAILERS hold is read in app/; here their msgpack must be bounded and well-formed.
 */
#include "check.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/mem.h"
#include "ipc/frame.h"
#include "ipc/hello_wire.h"
#include "ipc/map_rules.h"
#include "ipc/pack.h"
#include "vectors/notation.h"

static const struct note_block *block; /* the one that runs */

/* --- frames ----------------------------------------------------------------------------------- */

/* The lines that a reader makes of some bytes. */
struct lines {
    char *text[64];
    size_t count;
};

static void add_line(struct lines *lines, char *text)
{
    CHECK(lines->count < 64);
    lines->text[lines->count++] = text;
}

static char *frame_line(const struct frame *frame)
{
    char *payload = note_show((const uint8_t *)frame->payload.data, frame->payload.length);
    size_t size = strlen(payload) + 256;
    char *line = malloc(size);

    CHECK(line != NULL);
    (void)snprintf(line, size, "ok: %s stream=%u flags=%s code=%u aux=%u payload=%s",
                   note_type_name(frame->type), frame->stream, note_flag_names(frame->flags),
                   frame->code, frame->aux, payload);
    free(payload);
    return line;
}

/* Takes frames out of the reader; false after a bad one. */
static bool drain(struct frame_reader *reader, struct lines *lines, size_t *left)
{
    struct frame frame;
    struct frame_violation violation;
    char *line;

    for (;;) {
        switch (frame_reader_next(reader, &frame, &violation)) {
        case FRAME_NEXT_FRAME:
            *left -= FRAME_HEADER_SIZE + (size_t)frame.length;
            if (frame_ignorable(frame.type, reader->sender)) {
                CHECK((line = malloc(32)) != NULL);
                (void)snprintf(line, 32, "ignored: %u", frame.type);
            } else {
                line = frame_line(&frame);
            }
            add_line(lines, line);
            break;
        case FRAME_NEXT_MORE:
            return true;
        case FRAME_NEXT_BAD:
            CHECK((line = malloc(64)) != NULL);
            (void)snprintf(line, 64, "error: %s", note_error_name(violation.code));
            add_line(lines, line);
            return false;
        default:
            CHECK(!"out of memory");
        }
    }
}

static void read_in_pieces(const struct note_bytes *input, size_t piece, struct lines *lines)
{
    const char *max_frame = note_get(block, "max_frame");
    bool gateway = strcmp(note_get(block, "from"), "gateway") == 0;
    struct frame_reader reader;
    bool good = true;
    size_t left = input->length;

    frame_reader_init(&reader, gateway ? FRAME_SENDER_GATEWAY : FRAME_SENDER_WORKER,
                      max_frame == NULL ? 65536 : (uint32_t)strtoul(max_frame, NULL, 10));
    for (size_t at = 0; at < input->length && good; at += piece) {
        size_t length = input->length - at < piece ? input->length - at : piece;
        /* A copy of its own, so that a read beyond it is seen. */
        uint8_t *bytes = malloc(length);
        CHECK(bytes != NULL);
        memcpy(bytes, input->data + at, length);
        frame_reader_feed(&reader, bytes, length);
        good = drain(&reader, lines, &left);
        free(bytes);
    }
    if (good) {
        CHECK_EQ_INT(frame_reader_partial(&reader), left > 0);
    }
    if (good && left > 0) {
        char *line = malloc(32);
        CHECK(line != NULL);
        (void)snprintf(line, 32, "partial: %zu", left);
        add_line(lines, line);
    }
    frame_reader_done(&reader);
}

static void compare(const struct lines *lines)
{
    size_t next = 0;

    for (size_t i = 0; i < block->count; i++) {
        const struct note_line *line = &block->lines[i];
        const char *keys[] = {"ok", "ignored", "partial", "error"};
        for (size_t k = 0; k < 4; k++) {
            if (strcmp(line->key, keys[k]) == 0) {
                size_t size = strlen(line->key) + strlen(line->rest) + 3;
                char *expected = malloc(size);
                CHECK(expected != NULL && next < lines->count);
                (void)snprintf(expected, size, "%s: %s", line->key, line->rest);
                CHECK_EQ_STR(lines->text[next++], expected);
                free(expected);
            }
        }
    }
    CHECK_EQ_INT(next, lines->count);
}

static void run_frames(void)
{
    struct note_bytes input = {0};

    note_hex_lines(&input, block);
    /* Whole; by single bytes (the largest in odd pieces, for the time it takes); and by 7. */
    size_t pieces[] = {input.length > 0 ? input.length : 1, input.length < 5000 ? 1 : 997, 7};
    for (size_t i = 0; i < 3; i++) {
        struct lines lines = {.count = 0};
        read_in_pieces(&input, pieces[i], &lines);
        compare(&lines);
        for (size_t n = 0; n < lines.count; n++) {
            free(lines.text[n]);
        }
    }
    note_done(&input);
}

/* --- heads and maps --------------------------------------------------------------------------- */

static void quote(struct strbuf *out, struct slice bytes)
{
    strbuf_append_char(out, '"');
    for (size_t i = 0; i < bytes.length; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            strbuf_append_char(out, (char)c);
        } else {
            strbuf_printf(out, "\\x%02x", c);
        }
    }
    strbuf_append_char(out, '"');
}

static void value_text(struct strbuf *out, const struct pack_value *value)
{
    switch (value->type) {
    case PACK_NIL:
        strbuf_append_text(out, "nil");
        break;
    case PACK_UINT:
        strbuf_printf(out, "%llu", (unsigned long long)value->number);
        break;
    case PACK_TEXT:
    case PACK_BIN:
        quote(out, value->bytes);
        break;
    case PACK_ARRAY:
        for (uint32_t i = 0; i < value->count; i++) {
            strbuf_append_text(out, i > 0 ? " " : "");
            value_text(out, &value->items[i]);
        }
        break;
    default:
        CHECK(!"a value that no map of the protocol has");
    }
}

static enum map_kind map_kind(const char *head)
{
    static const char *const names[] = {[MAP_HELLO] = "hello",
                                        [MAP_HELLO_ACK] = "hello_ack",
                                        [MAP_CONN] = "conn",
                                        [MAP_STATS] = "stats",
                                        [MAP_LOG] = "log"};
    int kind = 0;

    while (kind < MAP_KIND_COUNT && strcmp(names[kind], head) != 0) {
        kind++;
    }
    return (enum map_kind)kind;
}

/* Every field: line of the block is what the map holds. */
static void compare_map(const struct pack_value *map)
{
    uint32_t known = 0;

    for (size_t i = 0; i < block->count; i++) {
        if (strcmp(block->lines[i].key, "field") != 0) {
            continue;
        }
        const char *rest = block->lines[i].rest;
        char key[64];
        struct strbuf text;
        size_t length = strcspn(rest, "=");
        CHECK(length < sizeof(key));
        memcpy(key, rest, length);
        key[length] = 0;
        const struct pack_value *value = pack_get(map, key);
        CHECK(value != NULL);
        strbuf_init(&text);
        value_text(&text, value);
        CHECK_EQ_STR(strbuf_text(&text), rest + length + 1);
        strbuf_done(&text);
        known++;
    }
    CHECK(known > 0);
}

static void run_map(struct arena *arena, enum map_kind kind, struct slice input)
{
    bool good = note_get(block, "ok") != NULL;
    struct pack_value map;
    const char *text = NULL;
    enum error error = map_decode(kind, arena, input, &map, &text);

    if (kind == MAP_HELLO) { /* judges what the table of keys cannot say */
        struct hello hello;
        error = hello_decode(arena, input, &hello, &text);
    } else if (kind == MAP_HELLO_ACK && error == ERROR_NONE && !good) {
        SKIP("the gateway writes this map and does not read it; only its keys are checked");
    }
    CHECK_EQ_INT(error, good ? ERROR_NONE : ERROR_PROTOCOL);
    if (good) {
        CHECK_EQ_INT(map_decode(kind, arena, input, &map, &text), ERROR_NONE);
        compare_map(&map);
    } else {
        CHECK(text != NULL && text[0] != 0);
    }
}

/* Writes a decoded value again. */
static void repack(struct strbuf *out, const struct pack_value *value)
{
    switch (value->type) {
    case PACK_NIL:
        pack_nil(out);
        return;
    case PACK_BOOL:
        pack_bool(out, value->number != 0);
        return;
    case PACK_UINT:
        pack_uint(out, value->number);
        return;
    case PACK_TEXT:
        pack_text(out, value->bytes);
        return;
    case PACK_BIN:
        pack_bin(out, value->bytes);
        return;
    case PACK_ARRAY:
    case PACK_MAP: {
        bool map = value->type == PACK_MAP;
        map ? pack_map(out, value->count) : pack_array(out, value->count);
        for (uint32_t i = 0; i < value->count * (map ? 2 : 1); i++) {
            repack(out, &value->items[i]);
        }
        return;
    }
    default:
        CHECK(!"no head of the protocol has a negative integer");
    }
}

/* Canonical payloads come out as they went in. */
static void run_canonical(struct arena *arena, struct slice input)
{
    struct pack_value value;
    struct strbuf out;

    strbuf_init(&out);
    CHECK_EQ_INT(pack_decode(arena, input, &value), ERROR_NONE);
    repack(&out, &value);
    CHECK(!out.failed);
    CHECK_EQ_INT(out.length, input.length);
    CHECK_EQ_MEM(out.data, input.data, input.length);
    strbuf_done(&out);
}

/* Whether a rule of the block is about msgpack itself (R35, R36). */
static bool about_msgpack(void)
{
    return strstr(note_get(block, "rule"), "R35") != NULL ||
           strstr(note_get(block, "rule"), "R36") != NULL;
}

static void run_head(void)
{
    struct note_bytes bytes = {0};
    struct arena arena;
    struct pack_value value;

    note_hex_lines(&bytes, block);
    arena_init(&arena, 4096);
    struct slice input = {(const char *)bytes.data, bytes.length};
    enum map_kind kind = map_kind(note_get(block, "head"));
    if (note_get(block, "canonical") != NULL) {
        run_canonical(&arena, input);
    }
    if (kind != MAP_KIND_COUNT) {
        run_map(&arena, kind, input);
    } else {
        enum error error = pack_decode(&arena, input, &value);
        bool good = note_get(block, "ok") != NULL;
        if (good || about_msgpack()) {
            CHECK_EQ_INT(error, good ? ERROR_NONE : ERROR_PROTOCOL);
        } else {
            CHECK(error == ERROR_NONE || error == ERROR_PROTOCOL);
        }
    }
    arena_done(&arena);
    note_done(&bytes);
}

/* --- main ------------------------------------------------------------------------------------- */

static int failures, number;

/* A guard against an empty folder, which would pass. */
TEST(there_are_vectors)
{
    CHECK(number > 800);
}

static void run_all(const struct note_block *blocks, void (*run)(void), int argc, char **argv)
{
    static const struct note_block *at; /* static: it survives the longjmp */

    for (at = blocks; at != NULL; at = at->next) {
        if (!check_chosen(at->name, argc, argv)) {
            continue;
        }
        block = at;
        number++;
        switch (setjmp(check_leave)) {
        case 0:
            run();
            printf("ok %d - %s\n", number, block->name);
            break;
        case 2:
            printf("ok %d - %s # SKIP %s\n", number, block->name, check_skip_reason);
            break;
        default:
            printf("# protocol/vectors/%s:%d\nnot ok %d - %s\n", block->file,
                   block->lines[0].number, number, block->name);
            failures++;
        }
    }
}

int main(int argc, char **argv)
{
    static struct note_block guard = {.name = "there_are_vectors", .file = "test_vectors.c"};

    run_all(note_load("protocol/vectors", "frames-"), run_frames, argc, argv);
    run_all(note_load("protocol/vectors", "heads-"), run_head, argc, argv);
    run_all(&guard, check_first->run, argc, argv);
    printf("1..%d\n", number);
    return failures == 0 ? 0 : 1;
}
