/* SPDX-License-Identifier: MIT */
/*
 * See notation.h. The folder is read in the order of names, so that tests keep their numbers.
 */
#include "notation.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/frame_defs.h"

struct name {
    const char *name;
    unsigned number;
};

static const struct name types[] = {
#define X(n) {#n, FRAME_##n},
    FRAME_TYPES(X)
#undef X
        {NULL, 0}};
static const struct name flags[] = {
#define X(n) {#n, FRAME_FLAG_##n},
    FRAME_FLAGS(X)
#undef X
        {NULL, 0}};
static const struct name errors[] = {
#define X(n) {#n, FRAME_ERROR_##n},
    FRAME_ERRORS(X)
#undef X
        {NULL, 0}};

struct let {
    struct let *next;
    char *name;
    struct note_bytes value;
};

static struct let *lets;
/* Every list that was loaded, so that a leak checker sees that blocks are kept on purpose. */
static struct note_block *kept[16];
static size_t kept_count;

_Noreturn static void broken(const char *what, const char *text)
{
    printf("Bail out! %s: %s\n", what, text);
    exit(2);
}

static void *must(void *memory)
{
    if (memory == NULL) {
        broken("out of memory", "");
    }
    return memory;
}

/* --- bytes ------------------------------------------------------------------------------------ */

void note_append(struct note_bytes *bytes, const void *data, size_t length)
{
    if (length == 0) {
        return;
    }
    if (bytes->length + length > bytes->capacity) {
        bytes->capacity = (bytes->length + length) * 2;
        bytes->data = must(realloc(bytes->data, bytes->capacity));
    }
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

void note_clear(struct note_bytes *bytes)
{
    bytes->length = 0;
}

void note_done(struct note_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct note_bytes){0};
}

static unsigned digit(char c)
{
    if (!isxdigit((unsigned char)c)) {
        broken("not a hex digit in", (char[]){c, 0});
    }
    return isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(tolower(c) - 'a' + 10);
}

static void load_lets(void);

static void append_let(struct note_bytes *bytes, const char *name, size_t length)
{
    load_lets();
    for (struct let *let = lets; let != NULL; let = let->next) {
        if (strlen(let->name) == length && memcmp(let->name, name, length) == 0) {
            note_append(bytes, let->value.data, let->value.length);
            return;
        }
    }
    broken("payloads.txt does not define", name);
}

/* One part: XX*N, @NAME, hex or -. */
static void append_part(struct note_bytes *bytes, const char *part, size_t length)
{
    if (length == 0 || (length == 1 && part[0] == '-')) {
        return;
    }
    if (part[0] == '@') {
        append_let(bytes, part + 1, length - 1);
        return;
    }
    if (length > 3 && part[2] == '*') {
        uint8_t byte = (uint8_t)(digit(part[0]) << 4 | digit(part[1]));
        for (unsigned long n = strtoul(part + 3, NULL, 10); n > 0; n--) {
            note_append(bytes, &byte, 1);
        }
        return;
    }
    for (size_t i = 0; i + 1 < length; i += 2) {
        uint8_t byte = (uint8_t)(digit(part[i]) << 4 | digit(part[i + 1]));
        note_append(bytes, &byte, 1);
    }
}

size_t note_hex(struct note_bytes *bytes, const char *text)
{
    size_t start = bytes->length, first = 0;

    for (bool more = true, is_first = true; more; is_first = false) {
        size_t length = strcspn(text, "+ ");
        append_part(bytes, text, length);
        if (is_first) {
            first = bytes->length - start;
        }
        more = text[length] == '+';
        text += length + 1;
    }
    return first;
}

void note_hex_lines(struct note_bytes *bytes, const struct note_block *block)
{
    for (size_t i = 0; i < block->count; i++) {
        if (strcmp(block->lines[i].key, "hex") == 0) {
            (void)note_hex(bytes, block->lines[i].rest);
        }
    }
}

char *note_show(const uint8_t *data, size_t length)
{
    bool same = length > 64;
    char *text = must(malloc(length * 2 + 32));

    for (size_t i = 1; i < length && same; i++) {
        same = data[i] == data[0];
    }
    if (length == 0) {
        strcpy(text, "-");
    } else if (same) {
        sprintf(text, "%02x*%zu", data[0], length);
    } else {
        for (size_t i = 0; i < length; i++) {
            sprintf(text + i * 2, "%02x", data[i]);
        }
    }
    return text;
}

/* --- blocks ----------------------------------------------------------------------------------- */

static char *copy(const char *text, size_t length)
{
    char *result = must(malloc(length + 1));

    memcpy(result, text, length);
    result[length] = 0;
    return result;
}

/* Splits "key: rest", "-> rest" and "<- rest". */
static void split(const char *line, struct note_line *ret_line)
{
    const char *colon = strchr(line, ':');
    size_t key = strncmp(line, "->", 2) == 0 || strncmp(line, "<-", 2) == 0
                     ? 2
                     : (size_t)(colon == NULL ? 0 : colon - line);
    const char *rest = line + key + (line[key] == ':');

    if (key == 0) {
        broken("a line without a key", line);
    }
    ret_line->key = copy(line, key);
    ret_line->rest = copy(rest + strspn(rest, " "), strlen(rest + strspn(rest, " ")));
}

static char *read_line(FILE *file)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t length = getline(&line, &size, file);

    if (length < 0) {
        free(line);
        return NULL;
    }
    while (length > 0 && isspace((unsigned char)line[length - 1])) {
        line[--length] = 0;
    }
    return line;
}

static FILE *open_file(const char *path)
{
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        broken("cannot be read (run it in the top folder)", path);
    }
    return file;
}

static struct note_block **load_file(const char *path, struct note_block **tail)
{
    FILE *file = open_file(path);
    const char *name = strrchr(path, '/') + 1;
    struct note_block *block = NULL;
    char *line;

    for (int number = 1; (line = read_line(file)) != NULL; number++, free(line)) {
        if (line[0] == 0) {
            block = NULL;
        } else if (line[0] != '#') {
            if (block == NULL) {
                block = must(calloc(1, sizeof(*block)));
                block->file = copy(name, strlen(name));
                *tail = block;
                tail = &block->next;
            }
            if (block->count == sizeof(block->lines) / sizeof(block->lines[0])) {
                broken("a block with too many lines", path);
            }
            split(line, &block->lines[block->count]);
            block->lines[block->count++].number = number;
        }
    }
    fclose(file);
    return tail;
}

static void load_lets(void)
{
    char *line;

    if (lets != NULL) {
        return;
    }
    FILE *file = open_file("protocol/transcripts/payloads.txt");
    for (; (line = read_line(file)) != NULL; free(line)) {
        char *equals = strstr(line, " = ");
        if (strncmp(line, "let: ", 5) == 0 && equals != NULL) {
            struct let *let = must(calloc(1, sizeof(*let)));
            let->name = copy(line + 5, (size_t)(equals - line - 5));
            for (char *part = equals + 3; *part != 0; part += strspn(part, " ")) {
                append_part(&let->value, part, strcspn(part, " "));
                part += strcspn(part, " ");
            }
            let->next = lets;
            lets = let;
        }
    }
    fclose(file);
}

struct note_block *note_load(const char *folder, const char *prefix)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    struct note_block *first = NULL, **tail = &first;
    char path[1024];

    if (count < 0) {
        broken("cannot be read (run it in the top folder)", folder);
    }
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        const char *dot = strrchr(name, '.');
        if (strncmp(name, prefix, strlen(prefix)) == 0 && dot != NULL && strcmp(dot, ".txt") == 0) {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
            tail = load_file(path, tail);
        }
        free(entries[i]);
    }
    free(entries);
    if (kept_count == sizeof(kept) / sizeof(kept[0])) {
        broken("too many calls of note_load", folder);
    }
    kept[kept_count++] = first;
    for (struct note_block *block = first; block != NULL; block = block->next) {
        block->name = note_get(block, "name");
        if (block->name == NULL) {
            broken("a block without a name in", block->file);
        }
    }
    return first;
}

const char *note_get(const struct note_block *block, const char *key)
{
    for (size_t i = 0; i < block->count; i++) {
        if (strcmp(block->lines[i].key, key) == 0) {
            return block->lines[i].rest;
        }
    }
    return NULL;
}

/* --- words ------------------------------------------------------------------------------------ */

const char *note_value(const char *text, const char *key, char *buffer, size_t size)
{
    size_t length = strlen(key);

    while (*text != 0) {
        size_t word = strcspn(text, " ");
        if (word > length && memcmp(text, key, length) == 0 && text[length] == '=') {
            if (word - length - 1 >= size) {
                broken("a value that is too long", text);
            }
            memcpy(buffer, text + length + 1, word - length - 1);
            buffer[word - length - 1] = 0;
            return buffer;
        }
        text += word + strspn(text + word, " ");
    }
    return NULL;
}

uint32_t note_number(const char *text, const char *key, uint32_t otherwise)
{
    char buffer[64];

    if (note_value(text, key, buffer, sizeof(buffer)) == NULL) {
        return otherwise;
    }
    return (uint32_t)strtoull(buffer, NULL, 0);
}

static unsigned find(const struct name *names, const char *text, size_t length)
{
    for (; names->name != NULL; names++) {
        if (strlen(names->name) == length && memcmp(names->name, text, length) == 0) {
            return names->number;
        }
    }
    if (length == 0 || !isdigit((unsigned char)text[0])) {
        broken("an unknown name", text);
    }
    return (unsigned)strtoul(text, NULL, 10);
}

static const char *name_of(const struct name *names, unsigned number)
{
    static char digits[16];

    for (; names->name != NULL; names++) {
        if (names->number == number) {
            return names->name;
        }
    }
    (void)snprintf(digits, sizeof(digits), "%u", number);
    return digits;
}

unsigned note_error(const char *text)
{
    return find(errors, text, strlen(text));
}

const char *note_error_name(unsigned code)
{
    return name_of(errors, code);
}

const char *note_type_name(unsigned type)
{
    return name_of(types, type);
}

unsigned note_flags(const char *text)
{
    unsigned bits = 0;

    while (strcmp(text, "-") != 0) {
        size_t length = strcspn(text, "|");
        bits |= find(flags, text, length);
        if (text[length] == 0) {
            break;
        }
        text += length + 1;
    }
    return bits;
}

const char *note_flag_names(unsigned bits)
{
    static char text[128];

    text[0] = 0;
    for (const struct name *flag = flags; flag->name != NULL; flag++) {
        if ((bits & flag->number) != 0) {
            strcat(strcat(text, text[0] != 0 ? "|" : ""), flag->name);
        }
    }
    return text[0] != 0 ? text : "-";
}

/* --- frames ----------------------------------------------------------------------------------- */

struct note_frame note_parse_frame(const char *text)
{
    struct note_frame frame = {.type = find(types, text, strcspn(text, " "))};
    char value[512];
    size_t first = 0;

    if (note_value(text, "payload", value, sizeof(value)) != NULL) {
        frame.any_payload = strcmp(value, "*") == 0;
        if (!frame.any_payload) {
            first = note_hex(&frame.payload, value);
        }
    }
    if (note_value(text, "flags", value, sizeof(value)) != NULL) {
        frame.flags = note_flags(value);
    }
    if (note_value(text, "code", value, sizeof(value)) != NULL) {
        frame.code = note_error(value);
    }
    frame.stream = note_number(text, "stream", 0);
    if (note_value(text, "aux", value, sizeof(value)) != NULL) {
        frame.any_aux = strcmp(value, "*") == 0;
        frame.aux = strcmp(value, "auto") == 0 ? (uint32_t)first : note_number(text, "aux", 0);
    }
    return frame;
}

void note_encode(struct note_bytes *bytes, const struct note_frame *frame)
{
    uint32_t words[4] = {(uint32_t)frame->payload.length,
                         frame->type | frame->flags << 8 | (uint32_t)frame->code << 16,
                         frame->stream, frame->aux};

    for (size_t i = 0; i < 16; i++) {
        uint8_t byte = (uint8_t)(words[i / 4] >> (i % 4 * 8));
        note_append(bytes, &byte, 1);
    }
    note_append(bytes, frame->payload.data, frame->payload.length);
}
