/* SPDX-License-Identifier: MIT */
/* The stage of quic_stage.h. */
#include "quic_stage.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/support.c" /* NOLINT(bugprone-suspicious-include): helpers of another folder */
#include "net/tls_context.h"

const uint8_t stage_scid[8] = "client01";

/* --- a user that takes everything and sends nothing ---------------------------------------------- */

static enum error on_open(void *user)
{
    (void)user;
    return ERROR_NONE;
}

static void on_established(void *user)
{
    (void)user;
}

static enum error on_stream_data(void *user, int64_t stream, struct slice bytes, bool end)
{
    (void)user, (void)stream, (void)bytes, (void)end;
    return ERROR_NONE;
}

static void on_acked(void *user, int64_t stream, uint64_t bytes)
{
    (void)user, (void)stream, (void)bytes;
}

static void on_taken(void *user, int64_t stream, size_t bytes)
{
    (void)user, (void)stream, (void)bytes;
}

static void on_stream(void *user, int64_t stream)
{
    (void)user, (void)stream;
}

static void on_coded(void *user, int64_t stream, uint64_t code)
{
    (void)user, (void)stream, (void)code;
}

static enum error pull(void *user, int64_t *ret_stream, bool *ret_end, struct iovec *vectors,
                       size_t max, size_t *ret_count)
{
    (void)user, (void)ret_end, (void)vectors, (void)max, (void)ret_count;
    *ret_stream = -1;
    return ERROR_NONE;
}

static void on_closed(void *user, bool by_peer, bool application, uint64_t code)
{
    struct stage *stage = user;
    (void)by_peer, (void)application, (void)code;
    stage->users--;
}

static const struct quic_user_ops ops = {
    .on_open = on_open,
    .on_established = on_established,
    .on_stream_data = on_stream_data,
    .on_acked = on_acked,
    .on_stream_reset = on_coded,
    .on_stop_sending = on_coded,
    .on_stream_closed = on_coded,
    .on_stream_window = on_stream,
    .pull = pull,
    .on_taken = on_taken,
    .on_blocked = on_stream,
    .on_shut = on_stream,
    .on_closed = on_closed,
    .on_migrated = on_established,
};

static enum error on_connection(void *context, struct quic_conn *quic,
                                const struct quic_user_ops **ret_ops, void **ret_user)
{
    struct stage *stage = context;
    (void)quic;
    stage->users++;
    *ret_ops = &ops;
    *ret_user = stage;
    return ERROR_NONE;
}

/* --- loops --------------------------------------------------------------------------------------- */

static void on_resume(struct loop_resume *resume)
{
    struct stage_loop *one = LIST_CONTAINER(resume, struct stage_loop, resume);
    if (one->turns-- == 0) {
        loop_stop(one->loop);
    } else {
        loop_resume_later(one->loop, resume);
    }
}

void stage_turn(struct stage *stage)
{
    for (int i = 0; i < STAGE_LOOPS; i++) {
        struct stage_loop *one = &stage->loops[i];
        one->turns = 4;
        loop_resume_later(one->loop, &one->resume);
        REQUIRE(loop_run(one->loop) == ERROR_NONE);
    }
}

/* --- life ---------------------------------------------------------------------------------------- */

static struct tls_context *make_tls(void)
{
    static char cert[128], key[128];
    char text[512];
    support_pair("quic", &(struct wish){"quic", "DNS:localhost", KEY_EC, 0, 0, false}, NULL);
    snprintf(cert, sizeof(cert), "%s/quic.pem", support_directory());
    snprintf(key, sizeof(key), "%s/quic.key", support_directory());
    struct tls_certificate_settings files = {.cert = slice_from(cert), .key = slice_from(key)};
    struct tls_settings settings = {.certificates = &files,
                                    .certificate_count = 1,
                                    .min_version = 0x0303,
                                    .key_updates_per_second = 100,
                                    .quic = true};
    struct tls_context *context = NULL;
    REQUIRE(tls_context_new(&settings, NULL, &context, text, sizeof(text)) == ERROR_NONE);
    return context;
}

static void make_endpoint(struct stage *stage, unsigned index, int fd)
{
    static const struct loop_settings settings = {64, 500};
    struct quic_acceptor acceptor = {on_connection, stage};
    struct stage_loop *one = &stage->loops[index];
    one->loop = loop_new(index, &settings);
    REQUIRE(one->loop != NULL);
    loop_resume_init(&one->resume, on_resume);
    one->endpoint = quic_endpoint_new(stage->server, one->loop, &acceptor);
    REQUIRE(one->endpoint != NULL &&
            quic_endpoint_add(one->endpoint, fd, &stage->address) == ERROR_NONE);
}

void stage_init(struct stage *stage, void (*change)(struct stage *stage))
{
    int fds[STAGE_LOOPS];
    *stage = (struct stage){.settings = {.max_concurrent_streams = 100,
                                         .connection_window = 1 << 20,
                                         .stream_window = 1 << 16,
                                         .idle_timeout = 30 * CLOCK_NS_PER_S,
                                         .handshake_timeout = 10 * CLOCK_NS_PER_S,
                                         .retry_threshold = 100,
                                         .retry_token_life = 10 * CLOCK_NS_PER_S,
                                         .new_token_life = 3600 * CLOCK_NS_PER_S,
                                         .active_cids = 8,
                                         .reset_burst = 5,
                                         .reset_rate = 1,
                                         .glitch_burst = 1000,
                                         .glitch_rate = 33}};
    stage->limits = (struct listener_limits){.max_connections = 1000, .max_handshakes = 500};
    if (change != NULL) {
        change(stage);
    }
    REQUIRE(listener_limits_init(&stage->limits) == ERROR_NONE);
    stage->tls = make_tls();
    struct quic_server_settings given = {.settings = stage->settings,
                                         .limits = &stage->limits,
                                         .tls = stage->tls,
                                         .secret = "the secret of the stage",
                                         .generation = 3,
                                         .loops = STAGE_LOOPS};
    char text[256];
    REQUIRE(quic_server_new(&given, &stage->server, text, sizeof(text)) == ERROR_NONE);
    REQUIRE(addr_parse(SLICE("127.0.0.1"), 0, &stage->address) == ERROR_NONE);
    REQUIRE(udp_bind(&stage->address, true, &fds[0]) == ERROR_NONE);
    REQUIRE(getsockname(fds[0], &stage->address.sa, &stage->address.length) == 0);
    REQUIRE(udp_bind(&stage->address, true, &fds[1]) == ERROR_NONE);
    REQUIRE(addr_parse(SLICE("127.0.0.1"), 0, &stage->peer_address) == ERROR_NONE);
    REQUIRE(udp_bind(&stage->peer_address, false, &stage->peer) == ERROR_NONE);
    REQUIRE(getsockname(stage->peer, &stage->peer_address.sa, &stage->peer_address.length) == 0);
    for (unsigned i = 0; i < STAGE_LOOPS; i++) {
        make_endpoint(stage, i, fds[i]);
    }
}

void stage_done(struct stage *stage)
{
    for (int i = 0; i < STAGE_LOOPS; i++) {
        quic_endpoint_free(stage->loops[i].endpoint);
        loop_free(stage->loops[i].loop);
    }
    REQUIRE(stage->users == 0);
    quic_server_free(stage->server);
    tls_context_unref(stage->tls);
    listener_limits_done(&stage->limits);
    close(stage->peer);
}

/* --- packets ------------------------------------------------------------------------------------- */

void stage_inject(struct stage *stage, const struct addr *peer, const void *datagram, size_t length)
{
    static uint8_t copy[UDP_BUFFER_SIZE];
    const struct udp_packets packets = {
        .peer = *peer, .local = stage->address, .data = copy, .length = length, .segment = length};
    REQUIRE(length <= sizeof(copy));
    if (length > 0) {
        memcpy(copy, datagram, length);
    }
    quic_endpoint_inject(stage->loops[0].endpoint, &packets);
}

void stage_send(struct stage *stage, const void *datagram, size_t length)
{
    stage_inject(stage, &stage->peer_address, datagram, length);
    stage_turn(stage);
}

size_t stage_receive(struct stage *stage, uint8_t *out, size_t size)
{
    ssize_t got = recv(stage->peer, out, size, MSG_DONTWAIT);
    return got > 0 ? (size_t)got : 0;
}

size_t stage_initial(uint8_t *out, uint32_t version, const uint8_t *dcid, size_t dcid_length,
                     const void *token, size_t token_length, size_t length)
{
    size_t at = 0;
    memset(out, 0, length);
    out[at++] = 0xc0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        out[at++] = (uint8_t)(version >> shift);
    }
    out[at++] = (uint8_t)dcid_length;
    memcpy(out + at, dcid, dcid_length);
    at += dcid_length;
    out[at++] = sizeof(stage_scid);
    memcpy(out + at, stage_scid, sizeof(stage_scid));
    at += sizeof(stage_scid);
    out[at++] = (uint8_t)(0x40 | token_length >> 8);
    out[at++] = (uint8_t)token_length;
    if (token_length > 0) {
        memcpy(out + at, token, token_length);
        at += token_length;
    }
    size_t rest = length - at - 2;
    out[at++] = (uint8_t)(0x40 | rest >> 8);
    out[at++] = (uint8_t)rest;
    return length;
}

size_t stage_short(uint8_t *out, const uint8_t *dcid, size_t length)
{
    memset(out, 0x55, length);
    out[0] = 0x40;
    memcpy(out + 1, dcid, QUIC_CID_LENGTH);
    return length;
}
