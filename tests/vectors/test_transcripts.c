/* SPDX-License-Identifier: MIT */
/*
 * protocol/transcripts/gateway-*.txt against ipc/: an acceptor, a channel and real sockets in one loop; this file plays the
 * worker (peer.c) and the channel's user and owner. What the HTTP side makes of heads is not here: those blocks are skipped.
 */
#include "check.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "ipc/channel.h"
#include "ipc/frame.h"
#include "vectors/peer.h"
#include "vectors/told.h"

static const struct note_block *block;
static struct {
    struct peer peer;
    struct ipc_settings settings;
    struct ipc_acceptor *acceptor;
    int64_t counted;
    struct note_frame last_error; /* CHANNEL_ERROR that was written; type 0: none */
} run;

static const char token[] = "TOKENtokenTOKENt";

static bool has_step(const char *key, const char *rest)
{
    for (size_t i = 0; i < block->count; i++) {
        if (strcmp(block->lines[i].key, key) == 0 && strcmp(block->lines[i].rest, rest) == 0) {
            return true;
        }
    }
    return false;
}

/* The acceptor has read a HELLO. */
static void on_hello(void *context, struct ipc_link *link)
{
    struct hello_ack ack = {
        .proto = FRAME_PROTOCOL_VERSION, .channels = 1, .token = slice_from(token)};

    (void)context;
    if (note_get(block, "needs") != NULL) {
        ack.features = frame_feature_bit(slice_from(note_get(block, "needs")));
    }
    told_event("hello app=\"%.*s\" index=%u", SLICE_PRINT(link->hello.app),
               link->hello.channel_index);
    if (has_step("do", "kill")) { /* the worker is another process than this one */
        if (link->pidfd >= 0) {
            close(link->pidfd);
        }
        link->pidfd = peer_spawn(&run.peer);
    }
    told.channel = channel_new(run.peer.loop, link, &ack, &run.settings, &gateway_owner_ops, NULL);
    ipc_link_free(link);
    CHECK(told.channel != NULL);
}

/* --- stimuli ----------------------------------------------------------------------------------- */

static struct gateway_user *user_of(const char *rest)
{
    uint32_t id = note_number(rest, "stream", 0);

    CHECK(id >= 1 && id <= TOLD_STREAMS && told.users[id - 1].stream != NULL);
    return &told.users[id - 1];
}

static void do_open(const char *rest)
{
    char flags[64] = "-", text[256];
    struct note_bytes head = {0}, body = {0};
    struct gateway_user *user = told.users;

    while (user->id != 0) {
        user++;
    }
    user->id = (uint32_t)(user - told.users) + 1;
    (void)note_value(rest, "flags", flags, sizeof(flags));
    unsigned bits = note_flags(flags);
    bool websocket = strstr(rest, "kind=1") != NULL;
    (void)note_hex(&head, websocket                             ? "@ws"
                          : (bits & FRAME_FLAG_END_STREAM) != 0 ? "@get"
                                                                : "@post");
    if (note_value(rest, "body", text, sizeof(text)) != NULL) {
        (void)note_hex(&body, text);
    }
    struct channel_request request = {.head = {(const char *)head.data, head.length},
                                      .body = {(const char *)body.data, body.length},
                                      .end = (bits & FRAME_FLAG_END_STREAM) != 0,
                                      .expect = (bits & FRAME_FLAG_EXPECT) != 0,
                                      .websocket = websocket};
    CHECK(channel_can_open(told.channel));
    user->stream = channel_open(told.channel, &request, &gateway_user_ops, user);
    CHECK(user->stream != NULL);
    CHECK_EQ_INT(channel_stream_id(user->stream), user->id);
    CHECK_EQ_INT(user->id, note_number(rest, "stream", 0));
    note_done(&head);
    note_done(&body);
}

static void do_send(const char *rest)
{
    struct gateway_user *user = user_of(rest);
    char text[256];

    CHECK(note_value(rest, "bytes", text, sizeof(text)) != NULL);
    (void)note_hex(&user->body, text);
    user->end = strstr(rest, "end=yes") != NULL;
    channel_stream_want_send(user->stream);
}

static void do_message(const char *rest)
{
    char flags[32] = "-";

    (void)note_value(rest, "flags", flags, sizeof(flags));
    user_of(rest)->message = true;
    user_of(rest)->text = (note_flags(flags) & FRAME_FLAG_TEXT) != 0;
    do_send(rest);
}

static void do_page(const char *rest)
{
    uint32_t value = note_number(rest, "value", 0);

    CHECK(run.peer.page_fd >= 0);
    CHECK_EQ_INT(pwrite(run.peer.page_fd, &value, 4, 0), 4);
}

/* The stimuli of one stream; false: it is none of them. */
static bool do_stream(const char *action, const char *rest)
{
    char code[32] = "NO_ERROR";

    (void)note_value(rest, "code", code, sizeof(code));
    if (strcmp(action, "send") == 0) {
        do_send(rest);
    } else if (strcmp(action, "message") == 0) {
        do_message(rest);
    } else if (strcmp(action, "release") == 0) {
        channel_stream_release(user_of(rest)->stream, note_number(rest, "bytes", 0));
    } else if (strcmp(action, "abort-body") == 0) {
        channel_stream_abort_body(user_of(rest)->stream);
    } else if (strcmp(action, "file-done") == 0) {
        channel_stream_file_done(user_of(rest)->stream);
    } else if (strcmp(action, "file-full") == 0) {
        user_of(rest)->full = true;
    } else if (strcmp(action, "disconnect") == 0) {
        channel_stream_disconnect(user_of(rest)->stream, (enum frame_error)note_error(code));
    } else if (strcmp(action, "reset") == 0) {
        channel_stream_reset(user_of(rest)->stream, (enum frame_error)note_error(code));
        user_of(rest)->stream = NULL;
    } else if (strcmp(action, "detach") == 0) {
        channel_stream_detach(user_of(rest)->stream);
        user_of(rest)->stream = NULL;
    } else {
        return false;
    }
    return true;
}

static void do_conn(const char *rest)
{
    struct note_bytes map = {0};

    (void)note_hex(&map, "@conn");
    struct slice bytes = {(const char *)map.data, map.length};
    CHECK_EQ_INT(channel_conn(told.channel, note_number(rest, "id", 0), bytes), ERROR_NONE);
    note_done(&map);
}

static void step_do(const char *rest)
{
    char action[32], code[32] = "NO_ERROR";
    size_t length = strcspn(rest, " ");

    CHECK(length < sizeof(action));
    memcpy(action, rest, length);
    action[length] = 0;
    (void)note_value(rest, "code", code, sizeof(code));
    if (strcmp(action, "open") == 0) {
        do_open(rest);
    } else if (strcmp(action, "goaway") == 0) {
        channel_goaway(told.channel, (enum frame_error)note_error(code));
    } else if (strcmp(action, "conn") == 0) {
        do_conn(rest);
    } else if (strcmp(action, "conn-end") == 0) {
        channel_conn_end(told.channel, note_number(rest, "id", 0));
    } else if (strcmp(action, "page") == 0) {
        do_page(rest);
    } else if (strcmp(action, "kill") == 0) {
        peer_kill(&run.peer);
    } else {
        CHECK(do_stream(action, rest));
    }
    if (strstr(rest, "later=yes") == NULL) {
        peer_settle(&run.peer);
    }
}

/* --- frames ------------------------------------------------------------------------------------ */

/* A descriptor of a regular file without a name, or of a pipe. */
static int some_descriptor(bool regular)
{
    int ends[2];

    if (regular) {
        FILE *file = tmpfile();
        CHECK(file != NULL && ftruncate(fileno(file), 65536) == 0);
        int copy = dup(fileno(file));
        fclose(file);
        return copy;
    }
    CHECK_EQ_INT(pipe(ends), 0);
    close(ends[1]);
    return ends[0];
}

static void encode_all(struct note_bytes *bytes, const char *rest)
{
    char *copy = strdup(rest), *text = copy;
    unsigned long repeat = strtoul(text, &text, 10);
    bool times = text[0] == '*';

    CHECK(copy != NULL);
    text = times ? text + 2 : copy;
    for (unsigned long n = times ? repeat : 1; n > 0; n--) {
        for (char *next = text; next != NULL;) {
            char *bar = strstr(next, " | ");
            size_t length = bar == NULL ? strlen(next) : (size_t)(bar - next);
            char *one = strndup(next, length);
            CHECK(one != NULL);
            struct note_frame frame = note_parse_frame(one);
            note_encode(bytes, &frame);
            note_done(&frame.payload);
            free(one);
            next = bar == NULL ? NULL : bar + 3;
        }
    }
    free(copy);
}

static void step_in(const char *rest)
{
    struct note_bytes bytes = {0};
    int descriptor = -1;
    bool single = false;
    bool with = strncmp(rest, "fd ", 3) == 0 || strncmp(rest, "pipe ", 5) == 0;

    if (strcmp(rest, "close") == 0) {
        CHECK_EQ_INT(shutdown(run.peer.fd, SHUT_WR), 0);
        peer_settle(&run.peer);
        return;
    }
    if (strncmp(rest, "raw ", 4) == 0) {
        for (const char *part = rest + 4; *part != 0; part += strspn(part, " ")) {
            (void)note_hex(&bytes, part);
            part += strcspn(part, " ");
        }
    } else {
        if (with) {
            descriptor = some_descriptor(rest[0] == 'f');
            rest = strchr(rest, ' ') + 1;
        }
        single = strncmp(rest, "bytes ", 6) == 0;
        encode_all(&bytes, single ? rest + 6 : rest);
    }
    for (size_t at = 0; at < bytes.length && single; at++) {
        peer_write(&run.peer, bytes.data + at, 1, at == 0 ? descriptor : -1);
    }
    if (!single) {
        peer_write(&run.peer, bytes.data, bytes.length, descriptor);
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    note_done(&bytes);
}

static void show_frame(const char *what, const struct note_frame *frame)
{
    char *payload = note_show(frame->payload.data, frame->payload.length);

    printf("# %s: %s stream=%u flags=%s code=%u aux=%u payload=%.200s\n", what,
           note_type_name(frame->type), frame->stream, note_flag_names(frame->flags), frame->code,
           frame->aux, payload);
    free(payload);
}

static void step_out(const char *rest)
{
    struct note_frame expected = note_parse_frame(rest), got;

    if (!peer_next(&run.peer, &got)) {
        check_failed(__FILE__, __LINE__, "the gateway has written nothing");
    }
    bool same = got.type == expected.type && got.flags == expected.flags &&
                got.code == expected.code && got.stream == expected.stream &&
                (expected.any_aux || got.aux == expected.aux) &&
                (expected.any_payload ||
                 (got.payload.length == expected.payload.length &&
                  (got.payload.length == 0 ||
                   memcmp(got.payload.data, expected.payload.data, got.payload.length) == 0)));
    if (!same) {
        show_frame("was written", &got);
        check_failed(__FILE__, __LINE__, "another frame was expected");
    }
    if (got.type == FRAME_CHANNEL_ERROR) {
        run.last_error = got;
    }
    note_done(&got.payload);
    note_done(&expected.payload);
}

/* Takes the CHANNEL_ERROR that stands last; anything else was not asked for. */
static void rest_of_output(bool error_allowed)
{
    struct note_frame got;

    while (peer_next(&run.peer, &got)) {
        if (got.type != FRAME_CHANNEL_ERROR || !error_allowed) {
            show_frame("was also written", &got);
            check_failed(__FILE__, __LINE__, "nothing else was expected");
        }
        run.last_error = got;
        note_done(&got.payload);
    }
    CHECK_EQ_INT(run.peer.in.length, 0);
}

/* --- checks ------------------------------------------------------------------------------------ */

/* Whether a told event has the kind and every key=value of an expected one. */
static bool event_matches(const char *seen, const char *expected)
{
    while (*expected != 0) {
        size_t word = strcspn(expected, " ");
        const char *at = seen;
        while (*at != 0 && (strcspn(at, " ") != word || memcmp(at, expected, word) != 0)) {
            at += strcspn(at, " ");
            at += strspn(at, " ");
        }
        if (*at == 0) {
            return false;
        }
        expected += word + strspn(expected + word, " ");
    }
    return true;
}

static void step_event(const char *rest)
{
    size_t at = told.event_next;

    if (strncmp(rest, "gone", 4) == 0 && strstr(rest, "LOST") != NULL) {
        peer_wait(&run.peer, &told.closed); /* the process's death may be waited for */
    }
    while (at < told.event_count && !event_matches(told.events[at], rest)) {
        at++;
    }
    if (at == told.event_count) {
        for (size_t i = told.event_next; i < told.event_count; i++) {
            printf("# was told: %s\n", told.events[i]);
        }
        check_failed(__FILE__, __LINE__, "the event was not told");
    }
    told.event_next = at + 1;
}

static void step_no_event(const char *kind)
{
    size_t length = strlen(kind);

    for (size_t i = told.event_next; i < told.event_count; i++) {
        if (strncmp(told.events[i], kind, length) == 0) {
            printf("# was told: %s\n", told.events[i]);
            check_failed(__FILE__, __LINE__, "this event should not have been told");
        }
    }
}

static int64_t without_effect(void)
{
    return metrics_sum(METRIC_ipc_late_frames) + metrics_sum(METRIC_ipc_frames_ignored);
}

static void step_outcome(const char *rest)
{
    if (strcmp(rest, "open") == 0) {
        CHECK(!run.peer.ended);
        CHECK(told.channel != NULL || note_get(block, "start") != NULL);
        rest_of_output(false);
        return;
    }
    if (told.channel != NULL) {
        peer_wait(&run.peer, &told.closed);
        CHECK(told.closed);
    }
    peer_settle(&run.peer);
    CHECK(run.peer.ended);
    bool error = strncmp(rest, "link-closed ", 12) == 0;
    rest_of_output(error);
    if (error) {
        CHECK_EQ_INT(run.last_error.type, FRAME_CHANNEL_ERROR);
        CHECK_EQ_STR(note_error_name(run.last_error.code), rest + 12);
    } else {
        CHECK_EQ_INT(run.last_error.type, 0);
    }
}

static void step(const struct note_line *line)
{
    const char *key = line->key, *rest = line->rest;

    if (strcmp(key, "->") == 0) {
        step_in(rest);
    } else if (strcmp(key, "<-") == 0) {
        step_out(rest);
    } else if (strcmp(key, "do") == 0) {
        step_do(rest);
    } else if (strcmp(key, "event") == 0) {
        step_event(rest);
    } else if (strcmp(key, "no-event") == 0) {
        step_no_event(rest);
    } else if (strcmp(key, "quiet") == 0) {
        rest_of_output(false);
    } else if (strcmp(key, "counted") == 0) {
        CHECK_EQ_INT(without_effect() - run.counted, atoi(rest));
    } else if (strcmp(key, "credit") == 0) {
        uint32_t credit =
            note_number(rest, "send", 0); /* the channel tells what of it can be body */
        CHECK_EQ_INT(channel_stream_credit(user_of(rest)->stream), credit < 16 ? 0 : credit - 16);
    } else if (strcmp(key, "outcome") == 0) {
        step_outcome(rest);
    } else {
        const char *const heads[] = {"name", "rule", "side", "start", "needs", "features"};
        bool known = false;
        for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
            known |= strcmp(key, heads[i]) == 0;
        }
        CHECK(known);
    }
}

/* --- blocks ------------------------------------------------------------------------------------ */

static void begin(void)
{
    const char *start = note_get(block, "start");

    run.settings = (struct ipc_settings){.max_frame = 65536,
                                         .window = 65536,
                                         .ws_max_message = 16777216,
                                         .max_links = 16,
                                         .link_queue = 262144,
                                         .hello_timeout = 3600 * CLOCK_NS_PER_S,
                                         .start_timeout = 3600 * CLOCK_NS_PER_S,
                                         .ping_interval = 3600 * CLOCK_NS_PER_S,
                                         .unresponsive_after = 3600 * CLOCK_NS_PER_S,
                                         .death_wait = 20 * CLOCK_NS_PER_MS};
    run.last_error = (struct note_frame){.type = 0};
    peer_open(&run.peer);
    run.acceptor =
        ipc_acceptor_new(run.peer.loop, run.peer.listener, &run.settings, NULL, 0, on_hello, NULL);
    CHECK(run.acceptor != NULL);
    peer_dial(&run.peer);
    if (start == NULL || strcmp(start, "connected") != 0) {
        bool none = note_get(block, "features") != NULL;
        step_in(none ? "HELLO payload=@hello-no-features" : "HELLO payload=@hello");
        step_out("HELLO_ACK payload=*");
        CHECK(run.peer.page_fd >= 0);
    }
    if (start == NULL) {
        step_in("READY");
        CHECK(told.channel != NULL && channel_is_ready(told.channel));
    }
    told.event_next = told.event_count;
    run.counted = without_effect();
}

/* Ends what is left, and looks whether everything went with it. */
static void end(void)
{
    if (told.channel != NULL) {
        channel_close(told.channel, FRAME_ERROR_NO_ERROR, "the transcript is over");
        peer_kill(&run.peer);
        peer_wait(&run.peer, &told.closed);
    }
    if (run.acceptor != NULL) {
        ipc_acceptor_free(run.acceptor);
        run.acceptor = NULL;
    }
    peer_settle(&run.peer);
    told_reset();
    peer_close(&run.peer);
}

static void no_live_objects(void)
{
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_links), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_streams), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_handshakes_open), 0);
}

/* Runs one block; its result as setjmp gives it, 0 for passed. */
static int run_block(void)
{
    static size_t i; /* static: it survives the longjmp */
    int result;

    if (note_get(block, "content") != NULL) {
        check_skip_reason = "about content: app/";
        return 2;
    }
    result = setjmp(check_leave);
    if (result == 0) {
        begin();
        for (i = 0; i < block->count; i++) {
            step(&block->lines[i]);
        }
    } else {
        printf("# protocol/transcripts/%s:%d: %s %s\n", block->file, block->lines[i].number,
               block->lines[i].key, block->lines[i].rest);
    }
    i = 0;
    end();
    if (result == 0) {
        result = setjmp(check_leave);
        if (result == 0) {
            no_live_objects();
        }
    }
    return result;
}

/* A guard against an empty folder, which would pass. */
TEST(there_are_transcripts)
{
    size_t count = 0;

    for (block = note_load("protocol/transcripts", "gateway-"); block != NULL;
         block = block->next) {
        CHECK_EQ_STR(note_get(block, "side"), "gateway");
        CHECK(note_get(block, "outcome") != NULL);
        count++;
    }
    CHECK(count > 100);
}

int main(int argc, char **argv)
{
    static int number, failures;

    setvbuf(stdout, NULL, _IOLBF, 0); /* what was printed before a crash is seen */
    for (block = note_load("protocol/transcripts", "gateway-"); block != NULL;
         block = block->next) {
        if (!check_chosen(block->name, argc, argv)) {
            continue;
        }
        int result = run_block();
        failures += result == 1;
        printf("%s %d - %s%s%s\n", result == 1 ? "not ok" : "ok", ++number, block->name,
               result == 2 ? " # SKIP " : "", result == 2 ? check_skip_reason : "");
    }
    if (setjmp(check_leave) == 0) {
        check_first->run();
        printf("ok %d - %s\n", ++number, check_first->name);
    } else {
        printf("not ok %d - %s\n", ++number, check_first->name);
        failures++;
    }
    printf("1..%d\n", number);
    return failures == 0 ? 0 : 1;
}
