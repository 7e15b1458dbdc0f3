/* SPDX-License-Identifier: MIT */
/*
 * Frame headers and the reader. The table of rules is generated (frame_rules.h); the checks below cite the SPEC rule that
 * they enforce. It owns nothing but a reader's partial frame.
 */
#include "ipc/frame.h"

#include <string.h>

#include "base/mem.h"

/* Buffers of partial frames up to this size are kept for the next one. */
#define TAIL_KEPT 4096

static const struct frame_rule rules[256] = {
#define X(name_, senders_, stream_, gw_flags_, wk_flags_, need_, credited_, min_, max_, code_,     \
          gw_codes_, wk_codes_, aux_, idle_, closed_)                                              \
    [FRAME_##name_] = {.name = #name_,                                                             \
                       .senders = FRAME_SENDER_##senders_,                                         \
                       .stream = FRAME_STREAM_##stream_,                                           \
                       .gateway_flags = gw_flags_,                                                 \
                       .worker_flags = wk_flags_,                                                  \
                       .need = need_,                                                              \
                       .credited = credited_,                                                      \
                       .min = min_,                                                                \
                       .max = max_,                                                                \
                       .code = FRAME_CODE_##code_,                                                 \
                       .gateway_codes = gw_codes_,                                                 \
                       .worker_codes = wk_codes_,                                                  \
                       .aux = FRAME_AUX_##aux_,                                                    \
                       .idle = FRAME_ON_##idle_,                                                   \
                       .closed = FRAME_ON_##closed_},
    FRAME_RULES(X)
#undef X
};

static const char *const error_names[] = {
#define X(name) [FRAME_ERROR_##name] = #name,
    FRAME_ERRORS(X)
#undef X
};

static const char *const feature_names[] = {
#define X(name) #name,
    FRAME_FEATURES(X)
#undef X
};

const struct frame_rule *frame_rule(unsigned type)
{
    return type < 256 && rules[type].name != NULL ? &rules[type] : NULL;
}

const char *frame_type_name(unsigned type)
{
    const struct frame_rule *rule = frame_rule(type);

    return rule != NULL ? rule->name : "unknown";
}

const char *frame_error_name(unsigned code)
{
    size_t count = sizeof(error_names) / sizeof(error_names[0]);

    return code < count && error_names[code] != NULL ? error_names[code] : "unknown";
}

const char *frame_feature_name(unsigned index)
{
    return index < FRAME_FEATURE_COUNT ? feature_names[index] : "unknown";
}

uint64_t frame_feature_bit(struct slice name)
{
    for (unsigned i = 0; i < FRAME_FEATURE_COUNT; i++) {
        if (slice_equal(name, slice_from(feature_names[i]))) {
            return UINT64_C(1) << i;
        }
    }
    return 0;
}

/* --- headers --------------------------------------------------------------------------------------------------------- */

static void put_u16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
}

static void put_u32(uint8_t *out, uint32_t value)
{
    put_u16(out, (uint16_t)value);
    put_u16(out + 2, (uint16_t)(value >> 16));
}

static uint16_t get_u16(const uint8_t *in)
{
    return (uint16_t)(in[0] | (in[1] << 8));
}

static uint32_t get_u32(const uint8_t *in)
{
    return get_u16(in) | ((uint32_t)get_u16(in + 2) << 16);
}

void frame_encode(uint8_t out[FRAME_HEADER_SIZE], const struct frame *frame)
{
    put_u32(out, frame->length);
    out[4] = frame->type;
    out[5] = frame->flags;
    put_u16(out + 6, frame->code);
    put_u32(out + 8, frame->stream);
    put_u32(out + 12, frame->aux);
}

void frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame *ret_frame)
{
    *ret_frame = (struct frame){.length = get_u32(in),
                                .type = in[4],
                                .flags = in[5],
                                .code = get_u16(in + 6),
                                .stream = get_u32(in + 8),
                                .aux = get_u32(in + 12)};
}

static enum error violation(struct frame_violation *ret_violation, enum frame_error code,
                            const char *text)
{
    *ret_violation = (struct frame_violation){.code = code, .text = text};
    return ERROR_PROTOCOL;
}

static enum error breach(struct frame_violation *ret_violation, const char *text)
{
    return violation(ret_violation, FRAME_ERROR_PROTOCOL, text);
}

bool frame_ignorable(unsigned type, enum frame_sender sender)
{
    const struct frame_rule *rule = frame_rule(type);

    return type >= FRAME_IGNORABLE_TYPE &&
           (rule == NULL || (rule->senders != FRAME_SENDER_BOTH && rule->senders != sender));
}

static bool code_is_legal(const struct frame *frame, const struct frame_rule *rule,
                          enum frame_sender sender)
{
    uint32_t codes = sender == FRAME_SENDER_GATEWAY ? rule->gateway_codes : rule->worker_codes;

    switch (rule->code) {
    case FRAME_CODE_ERROR:
        return frame->code < 32 && ((codes >> frame->code) & 1) != 0;
    case FRAME_CODE_STATUS:
        return frame->code >= 100 && frame->code <= 999;
    case FRAME_CODE_CLOSE:
        return frame->code >= 1000 && frame->code <= 4999;
    case FRAME_CODE_ZERO:
        break;
    }
    return frame->code == 0;
}

static bool aux_is_legal(const struct frame *frame, const struct frame_rule *rule)
{
    switch (rule->aux) {
    case FRAME_AUX_ZERO:
        return frame->aux == 0;
    case FRAME_AUX_HEAD:
        return frame->aux <= frame->length;
    case FRAME_AUX_INCREMENT:
    case FRAME_AUX_CONN_ID:
        return frame->aux != 0;
    case FRAME_AUX_NONCE:
    case FRAME_AUX_LAST_ID:
        break;
    }
    return true;
}

/* SPEC R15 to R18 and R45: what a row of the table cannot say. */
static enum error check_combination(const struct frame *frame, struct frame_violation *ret)
{
    bool end = (frame->flags & FRAME_FLAG_END_STREAM) != 0;
    bool done = (frame->flags & FRAME_FLAG_DONE) != 0;
    bool informational = (frame->flags & FRAME_FLAG_INFORMATIONAL) != 0;

    switch (frame->type) {
    case FRAME_RESPONSE:
        if (informational != (frame->code < 200)) {
            return breach(ret, "INFORMATIONAL and a status below 200 go together");
        }
        if (informational && (end || done || frame->aux != 0)) {
            return breach(ret, "an informational RESPONSE has no body, no end and no DONE");
        }
        return done && !end ? breach(ret, "RESPONSE with DONE but without END_STREAM") : ERROR_NONE;
    case FRAME_DATA:
        if (done && !end) {
            return breach(ret, "DATA with DONE but without END_STREAM");
        }
        return frame->length == 0 && !end ? breach(ret, "empty DATA without END_STREAM")
                                          : ERROR_NONE;
    case FRAME_REQUEST:
        if ((frame->flags & FRAME_FLAG_EXPECT) != 0 && (end || frame->aux != 0)) {
            return breach(ret, "REQUEST with EXPECT has no END_STREAM and no body");
        }
        return frame_body_length(frame) > FRAME_MAX_INLINE_BODY
                   ? breach(ret, "more than 16384 body bytes in REQUEST")
                   : ERROR_NONE;
    case FRAME_WS_MSG:
        return frame->length == 0 && (frame->flags & FRAME_FLAG_MORE) != 0
                   ? breach(ret, "empty WS_MSG with MORE")
                   : ERROR_NONE;
    default:
        return ERROR_NONE;
    }
}

enum error frame_check(const struct frame *frame, enum frame_sender sender, uint32_t max_frame,
                       struct frame_violation *ret_violation)
{
    const struct frame_rule *rule = frame_rule(frame->type);

    if (frame->length > max_frame) { /* R7 */
        return violation(ret_violation, FRAME_ERROR_FRAME_SIZE, "payload longer than max_frame");
    }
    if (frame_ignorable(frame->type, sender)) {
        if (rule != NULL && frame->length > rule->max) {
            return violation(ret_violation, FRAME_ERROR_FRAME_SIZE,
                             "payload too long for its type");
        }
        return ERROR_NONE;
    }
    if (rule == NULL) { /* R8 */
        return breach(ret_violation, "unknown frame type");
    }
    if (rule->senders != FRAME_SENDER_BOTH && rule->senders != sender) { /* R9 */
        return breach(ret_violation, "frame type that only the other side may send");
    }
    if (frame->length > rule->max) {
        return violation(ret_violation, FRAME_ERROR_FRAME_SIZE, "payload too long for its type");
    }
    if (frame->length < rule->min) {
        return breach(ret_violation, "payload too short for its type");
    }
    if ((rule->stream == FRAME_STREAM_ZERO) != (frame->stream == 0)) { /* R10 */
        return breach(ret_violation, frame->stream == 0 ? "stream frame on stream 0"
                                                        : "channel frame on a stream");
    }
    uint8_t legal = sender == FRAME_SENDER_GATEWAY ? rule->gateway_flags : rule->worker_flags;
    if ((frame->flags & (uint8_t)~legal) != 0 || (frame->flags & rule->need) != rule->need) {
        return breach(ret_violation, "flags that its type does not allow"); /* R11 */
    }
    if (!code_is_legal(frame, rule, sender)) { /* R12 */
        return breach(ret_violation, "code that its type does not allow");
    }
    if (!aux_is_legal(frame, rule)) { /* R13, R14 */
        return breach(ret_violation, "aux that its type does not allow");
    }
    return check_combination(frame, ret_violation);
}

uint32_t frame_body_length(const struct frame *frame)
{
    return frame->aux == 0 ? 0 : frame->length - frame->aux;
}

uint32_t frame_cost(const struct frame *frame)
{
    const struct frame_rule *rule = frame_rule(frame->type);

    if (rule == NULL || !rule->credited) {
        return 0;
    }
    if (rule->aux == FRAME_AUX_HEAD) {
        uint32_t body = frame_body_length(frame);
        return body > 0 ? FRAME_DATA_OVERHEAD + body : 0;
    }
    return FRAME_DATA_OVERHEAD + frame->length;
}

/* --- the reader ------------------------------------------------------------------------------------------------------ */

void frame_reader_init(struct frame_reader *reader, enum frame_sender sender, uint32_t max_frame)
{
    *reader = (struct frame_reader){.sender = sender, .max_frame = max_frame};
}

void frame_reader_done(struct frame_reader *reader)
{
    mem_free(reader->tail);
    reader->tail = NULL;
    reader->tail_length = reader->tail_capacity = reader->input_length = 0;
}

/* Forgets a tail that was handed out; a large buffer is not kept for an idle link. */
static void reader_drop_tail(struct frame_reader *reader)
{
    reader->tail_given = false;
    reader->tail_length = 0;
    if (reader->tail_capacity > TAIL_KEPT) {
        mem_free(reader->tail);
        reader->tail = NULL;
        reader->tail_capacity = 0;
    }
}

static bool reader_reserve(struct frame_reader *reader, size_t capacity)
{
    if (capacity <= reader->tail_capacity) {
        return true;
    }
    uint8_t *tail = mem_realloc(reader->tail, capacity);
    if (tail == NULL) {
        return false;
    }
    reader->tail = tail;
    reader->tail_capacity = capacity;
    return true;
}

/* The length of the frame whose header the tail begins with; 0 while the header is not complete. */
static size_t reader_tail_needs(const struct frame_reader *reader)
{
    return reader->tail_length < FRAME_HEADER_SIZE
               ? 0
               : FRAME_HEADER_SIZE + (size_t)get_u32(reader->tail);
}

size_t frame_reader_room(struct frame_reader *reader, uint8_t **ret_room)
{
    if (reader->tail_given) {
        reader_drop_tail(reader);
    }
    size_t needs = reader_tail_needs(reader);
    if (needs <= reader->tail_length) {
        return 0;
    }
    *ret_room = reader->tail + reader->tail_length;
    return needs - reader->tail_length; /* reserved when the header was judged */
}

void frame_reader_filled(struct frame_reader *reader, size_t length)
{
    REQUIRE(length <= reader->tail_capacity - reader->tail_length);
    reader->tail_length += length;
}

void frame_reader_feed(struct frame_reader *reader, const void *data, size_t length)
{
    REQUIRE(reader->input_length == 0);
    reader->input = data;
    reader->input_length = length;
}

/* Moves input behind the tail until it has `size` bytes; false while it has fewer. */
static bool reader_fill_tail(struct frame_reader *reader, size_t size)
{
    size_t missing = size > reader->tail_length ? size - reader->tail_length : 0;
    size_t length = missing < reader->input_length ? missing : reader->input_length;

    if (length > 0) {
        memcpy(reader->tail + reader->tail_length, reader->input, length);
        reader->tail_length += length;
        reader->input += length;
        reader->input_length -= length;
    }
    return reader->tail_length >= size;
}

/* A header has come: judges it before a byte of its payload is waited or allocated for (SPEC R3). */
static enum frame_next reader_judge(struct frame_reader *reader, const uint8_t *header,
                                    struct frame *ret_frame, struct frame_violation *ret_violation)
{
    frame_decode(header, ret_frame);
    return frame_check(ret_frame, reader->sender, reader->max_frame, ret_violation) == ERROR_NONE
               ? FRAME_NEXT_FRAME
               : FRAME_NEXT_BAD;
}

/* The frame that the tail holds or begins. */
static enum frame_next reader_next_tail(struct frame_reader *reader, struct frame *ret_frame,
                                        struct frame_violation *ret_violation)
{
    bool new_header = reader->tail_length < FRAME_HEADER_SIZE;

    if (!reader_fill_tail(reader, FRAME_HEADER_SIZE)) {
        return FRAME_NEXT_MORE;
    }
    if (new_header) {
        enum frame_next judged = reader_judge(reader, reader->tail, ret_frame, ret_violation);
        if (judged != FRAME_NEXT_FRAME) {
            return judged;
        }
        if (!reader_reserve(reader, reader_tail_needs(reader))) {
            return FRAME_NEXT_NO_MEMORY;
        }
    }
    if (!reader_fill_tail(reader, reader_tail_needs(reader))) {
        return FRAME_NEXT_MORE;
    }
    frame_decode(reader->tail, ret_frame);
    ret_frame->payload =
        (struct slice){(const char *)reader->tail + FRAME_HEADER_SIZE, ret_frame->length};
    reader->tail_given = true;
    return FRAME_NEXT_FRAME;
}

/* Keeps all remaining input as the tail, with room for `size` bytes. */
static enum frame_next reader_keep(struct frame_reader *reader, size_t size)
{
    if (reader->input_length == 0) {
        return FRAME_NEXT_MORE;
    }
    if (!reader_reserve(reader, size)) {
        return FRAME_NEXT_NO_MEMORY;
    }
    REQUIRE(!reader_fill_tail(reader, size));
    return FRAME_NEXT_MORE;
}

enum frame_next frame_reader_next(struct frame_reader *reader, struct frame *ret_frame,
                                  struct frame_violation *ret_violation)
{
    if (reader->tail_given) {
        reader_drop_tail(reader);
    }
    if (reader->tail_length > 0) {
        return reader_next_tail(reader, ret_frame, ret_violation);
    }
    if (reader->input_length < FRAME_HEADER_SIZE) {
        return reader_keep(reader, FRAME_HEADER_SIZE);
    }
    enum frame_next judged = reader_judge(reader, reader->input, ret_frame, ret_violation);
    if (judged != FRAME_NEXT_FRAME) {
        return judged;
    }
    size_t size = FRAME_HEADER_SIZE + (size_t)ret_frame->length;
    if (reader->input_length < size) {
        return reader_keep(reader, size);
    }
    ret_frame->payload =
        (struct slice){(const char *)reader->input + FRAME_HEADER_SIZE, ret_frame->length};
    reader->input += size;
    reader->input_length -= size;
    return FRAME_NEXT_FRAME;
}

bool frame_reader_partial(const struct frame_reader *reader)
{
    return reader->tail_length > 0 && !reader->tail_given;
}

bool frame_reader_may_hold(const struct frame_reader *reader, unsigned type)
{
    return frame_reader_partial(reader) && (reader->tail_length < 5 || reader->tail[4] == type);
}
