/* SPDX-License-Identifier: MIT */
/*
 * A load generator for HTTP/3: some connections, each with so many requests at once, GETs of one target for some seconds. One thread, one
 * UDP socket per connection, ngtcp2 and nghttp3 as the client. It prints what tests/bench/measure.py reads, in wrk's words.
 *
 *   h3load -c CONNECTIONS -m STREAMS -d SECONDS HOST PORT TARGET
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_ossl.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#define NS_PER_S 1000000000ULL
#define DATAGRAM 1452
#define BURST 64
#define BODY_WINDOW (16U << 20)
/* Latencies are counted in steps of 10 us; the last step holds whatever is longer. */
#define STEPS 1000000
#define STEP_NS 10000U

struct load {
    const char *host, *port, *target;
    unsigned connections, streams, seconds;
    SSL_CTX *tls;
    uint64_t requests, bad,
        lost; /* answered; of them not 200; connections that ended or streams that were reset */
    uint64_t bytes;
    bool stopping;
    uint32_t *steps;
};

struct request {
    struct client *client;
    uint64_t began;
    int status;
};

struct client {
    struct load *load;
    int fd;
    struct sockaddr_storage local, remote;
    socklen_t local_length, remote_length;
    ngtcp2_conn *quic;
    nghttp3_conn *http;
    SSL *ssl;
    ngtcp2_crypto_ossl_ctx *crypto;
    ngtcp2_crypto_conn_ref ref;
    unsigned open;
    bool dead;
};

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

__attribute__((noreturn)) static void fail(const char *what)
{
    fprintf(stderr, "h3load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- HTTP/3 -------------------------------------------------------------------------------------- */

static int on_field(nghttp3_conn *http, int64_t stream, int32_t token, nghttp3_rcbuf *name,
                    nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream_user)
{
    struct request *request = stream_user;
    (void)http, (void)stream, (void)name, (void)flags, (void)user;
    if (token == NGHTTP3_QPACK_TOKEN__STATUS && request != NULL) {
        nghttp3_vec text = nghttp3_rcbuf_get_buf(value);
        request->status = text.len == 3 && memcmp(text.base, "200", 3) == 0 ? 200 : 1;
    }
    return 0;
}

static void consumed(struct client *client, int64_t stream, size_t length)
{
    ngtcp2_conn_extend_max_stream_offset(client->quic, stream, length);
    ngtcp2_conn_extend_max_offset(client->quic, length);
}

static int on_body(nghttp3_conn *http, int64_t stream, const uint8_t *data, size_t length,
                   void *user, void *stream_user)
{
    (void)http, (void)data, (void)stream_user;
    ((struct client *)user)->load->bytes += length;
    consumed(user, stream, length);
    return 0;
}

static int on_deferred(nghttp3_conn *http, int64_t stream, size_t length, void *user,
                       void *stream_user)
{
    (void)http, (void)stream_user;
    consumed(user, stream, length);
    return 0;
}

static int on_end(nghttp3_conn *http, int64_t stream, void *user, void *stream_user)
{
    struct request *request = stream_user;
    struct load *load = ((struct client *)user)->load;
    (void)http, (void)stream;
    if (request != NULL && !load->stopping) {
        uint64_t step = (now() - request->began) / STEP_NS;
        load->steps[step < STEPS ? step : STEPS - 1]++;
        load->requests++;
        load->bad += request->status != 200;
        request->status = -1;
    }
    return 0;
}

static int on_http_close(nghttp3_conn *http, int64_t stream, uint64_t code, void *user,
                         void *stream_user)
{
    struct client *client = user;
    struct request *request = stream_user;
    (void)http, (void)stream, (void)code;
    if (request != NULL) {
        client->load->lost += request->status != -1 && !client->load->stopping;
        free(request);
        client->open--;
    }
    return 0;
}

static nghttp3_nv pair(const char *name, const char *value)
{
    return (nghttp3_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

static void submit(struct client *client)
{
    struct load *load = client->load;
    const nghttp3_nv head[] = {pair(":method", "GET"), pair(":scheme", "https"),
                               pair(":authority", "localhost"), pair(":path", load->target)};

    while (!load->stopping && client->http != NULL && client->open < load->streams) {
        int64_t stream;
        if (ngtcp2_conn_open_bidi_stream(client->quic, &stream, NULL) != 0) {
            return; /* the server grants none now */
        }
        struct request *request = calloc(1, sizeof(*request));
        if (request == NULL) {
            fail("memory");
        }
        *request = (struct request){client, now(), 0};
        if (nghttp3_conn_submit_request(client->http, stream, head, 4, NULL, request) != 0) {
            fail("nghttp3_conn_submit_request");
        }
        client->open++;
    }
}

static void start_http(struct client *client)
{
    static const nghttp3_callbacks callbacks = {.recv_header = on_field,
                                                .recv_data = on_body,
                                                .deferred_consume = on_deferred,
                                                .end_stream = on_end,
                                                .stream_close = on_http_close};
    nghttp3_settings settings;
    int64_t control, encoder, decoder;

    nghttp3_settings_default(&settings);
    settings.qpack_max_dtable_capacity = 4096;
    settings.qpack_blocked_streams = 16;
    if (nghttp3_conn_client_new(&client->http, &callbacks, &settings, NULL, client) != 0 ||
        ngtcp2_conn_open_uni_stream(client->quic, &control, NULL) != 0 ||
        ngtcp2_conn_open_uni_stream(client->quic, &encoder, NULL) != 0 ||
        ngtcp2_conn_open_uni_stream(client->quic, &decoder, NULL) != 0 ||
        nghttp3_conn_bind_control_stream(client->http, control) != 0 ||
        nghttp3_conn_bind_qpack_streams(client->http, encoder, decoder) != 0) {
        fail("HTTP/3 could not be set up");
    }
    submit(client);
}

/* --- QUIC ---------------------------------------------------------------------------------------- */

static int on_completed(ngtcp2_conn *quic, void *user)
{
    (void)quic;
    start_http(user);
    return 0;
}

static int on_stream_data(ngtcp2_conn *quic, uint32_t flags, int64_t stream, uint64_t offset,
                          const uint8_t *data, size_t length, void *user, void *stream_user)
{
    struct client *client = user;
    (void)quic, (void)offset, (void)stream_user;
    nghttp3_ssize used = nghttp3_conn_read_stream2(
        client->http, stream, data, length, (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0, now());
    if (used < 0) {
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    consumed(client, stream, (size_t)used);
    return 0;
}

static int on_acked(ngtcp2_conn *quic, int64_t stream, uint64_t offset, uint64_t length, void *user,
                    void *stream_user)
{
    (void)quic, (void)offset, (void)stream_user;
    int error = nghttp3_conn_add_ack_offset(((struct client *)user)->http, stream, length);
    return error == 0 ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_stream_close(ngtcp2_conn *quic, uint32_t flags, int64_t stream, uint64_t code,
                           void *user, void *stream_user)
{
    struct client *client = user;
    (void)quic, (void)flags, (void)stream_user;
    if (client->http != NULL) {
        nghttp3_conn_close_stream(client->http, stream, code);
        submit(client);
    }
    return 0;
}

static int on_more_streams(ngtcp2_conn *quic, uint64_t most, void *user)
{
    (void)quic, (void)most;
    submit(user);
    return 0;
}

static int on_stream_window(ngtcp2_conn *quic, int64_t stream, uint64_t most, void *user,
                            void *stream_user)
{
    struct client *client = user;
    (void)quic, (void)most, (void)stream_user;
    if (client->http != NULL) {
        nghttp3_conn_unblock_stream(client->http, stream);
    }
    return 0;
}

static void on_random(uint8_t *out, size_t length, const ngtcp2_rand_ctx *context)
{
    (void)context;
    if (RAND_bytes(out, (int)length) != 1) {
        abort();
    }
}

static int on_new_id(ngtcp2_conn *quic, ngtcp2_cid *cid, uint8_t *token, size_t length, void *user)
{
    (void)quic, (void)user;
    cid->datalen = length;
    return RAND_bytes(cid->data, (int)length) == 1 &&
                   RAND_bytes(token, NGTCP2_STATELESS_RESET_TOKENLEN) == 1
               ? 0
               : NGTCP2_ERR_CALLBACK_FAILURE;
}

static ngtcp2_conn *conn_of(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct client *)ref->user_data)->quic;
}

static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .handshake_completed = on_completed,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_acked,
    .stream_close = on_stream_close,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .extend_max_local_streams_bidi = on_more_streams,
    .rand = on_random,
    .get_new_connection_id = on_new_id,
    .update_key = ngtcp2_crypto_update_key_cb,
    .extend_max_stream_data = on_stream_window,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

static void open_socket(struct client *client)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found;
    int buffer = 1 << 20;

    if (getaddrinfo(client->load->host, client->load->port, &hints, &found) != 0) {
        fail(client->load->host);
    }
    client->fd = socket(found->ai_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, found->ai_addr, found->ai_addrlen) != 0) {
        fail("socket");
    }
    setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    memcpy(&client->remote, found->ai_addr, found->ai_addrlen);
    client->remote_length = found->ai_addrlen;
    client->local_length = sizeof(client->local);
    if (getsockname(client->fd, (struct sockaddr *)&client->local, &client->local_length) != 0) {
        fail("getsockname");
    }
    freeaddrinfo(found);
}

static ngtcp2_path path_of(struct client *client)
{
    return (ngtcp2_path){{(struct sockaddr *)&client->local, client->local_length},
                         {(struct sockaddr *)&client->remote, client->remote_length},
                         NULL};
}

static void start_tls(struct client *client)
{
    client->ssl = SSL_new(client->load->tls);
    if (client->ssl == NULL || ngtcp2_crypto_ossl_ctx_new(&client->crypto, NULL) != 0) {
        fail("TLS");
    }
    ngtcp2_crypto_ossl_ctx_set_ssl(client->crypto, client->ssl);
    if (ngtcp2_crypto_ossl_configure_client_session(client->ssl) != 0) {
        fail("TLS");
    }
    client->ref = (ngtcp2_crypto_conn_ref){conn_of, client};
    SSL_set_app_data(client->ssl, &client->ref);
    SSL_set_connect_state(client->ssl);
    SSL_set_alpn_protos(client->ssl, (const uint8_t *)"\2h3", 3);
    SSL_set_tlsext_host_name(client->ssl, "localhost");
    ngtcp2_conn_set_tls_native_handle(client->quic, client->crypto);
}

static void start(struct client *client, struct load *load)
{
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid scid = {.datalen = 8}, dcid = {.datalen = 8};

    *client = (struct client){.load = load};
    open_socket(client);
    on_random(scid.data, scid.datalen, NULL);
    on_random(dcid.data, dcid.datalen, NULL);
    ngtcp2_settings_default(&settings);
    settings.initial_ts = now();
    ngtcp2_transport_params_default(&params);
    params.initial_max_streams_uni = 8;
    params.initial_max_data = BODY_WINDOW;
    params.initial_max_stream_data_bidi_local = BODY_WINDOW;
    params.initial_max_stream_data_uni = 1U << 18;
    params.max_idle_timeout = 30 * NS_PER_S;
    ngtcp2_path path = path_of(client);
    if (ngtcp2_conn_client_new(&client->quic, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                               &settings, &params, NULL, client) != 0) {
        fail("ngtcp2_conn_client_new");
    }
    start_tls(client);
}

static void finish(struct client *client)
{
    SSL_set_app_data(client->ssl, NULL);
    SSL_free(client->ssl);
    ngtcp2_crypto_ossl_ctx_del(client->crypto);
    nghttp3_conn_del(client->http);
    ngtcp2_conn_del(client->quic);
    close(client->fd);
}

/* --- turns --------------------------------------------------------------------------------------- */

static void die(struct client *client, const char *why)
{
    if (!client->dead && !client->load->stopping) {
        fprintf(stderr, "h3load: a connection ended: %s\n", why);
        client->load->lost++;
    }
    client->dead = true;
}

static void read_packets(struct client *client)
{
    uint8_t buffer[65536];
    ngtcp2_path path = path_of(client);
    ngtcp2_pkt_info info = {0};

    for (int i = 0; i < BURST && !client->dead; i++) {
        ssize_t length = recv(client->fd, buffer, sizeof(buffer), 0);
        if (length < 0) {
            return;
        }
        int error = ngtcp2_conn_read_pkt(client->quic, &path, &info, buffer, (size_t)length, now());
        if (error != 0) {
            die(client, ngtcp2_strerror(error));
        }
    }
}

/* One packet of what HTTP/3 has to say; 0: nothing (more). */
static ngtcp2_ssize next_packet(struct client *client, uint8_t *out)
{
    ngtcp2_pkt_info info;
    for (;;) {
        nghttp3_vec parts[8];
        int64_t stream = -1;
        int end = 0;
        nghttp3_ssize count = 0;
        ngtcp2_ssize taken = -1;

        if (client->http != NULL && ngtcp2_conn_get_max_data_left(client->quic) > 0) {
            count = nghttp3_conn_writev_stream(client->http, &stream, &end, parts, 8);
        }
        if (count < 0) {
            return NGTCP2_ERR_CALLBACK_FAILURE;
        }
        uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_MORE |
                         (end ? NGTCP2_WRITE_STREAM_FLAG_FIN : NGTCP2_WRITE_STREAM_FLAG_NONE);
        ngtcp2_ssize length =
            ngtcp2_conn_writev_stream(client->quic, NULL, &info, out, DATAGRAM, &taken, flags,
                                      stream, (const ngtcp2_vec *)parts, (size_t)count, now());
        if (length == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
            nghttp3_conn_block_stream(client->http, stream);
        } else if (length == NGTCP2_ERR_STREAM_SHUT_WR) {
            nghttp3_conn_shutdown_stream_write(client->http, stream);
        } else if (length == NGTCP2_ERR_WRITE_MORE) {
            nghttp3_conn_add_write_offset(client->http, stream, (size_t)taken);
        } else {
            if (taken >= 0) {
                nghttp3_conn_add_write_offset(client->http, stream, (size_t)taken);
            }
            return length;
        }
    }
}

static void write_packets(struct client *client)
{
    uint8_t packet[DATAGRAM];
    for (int i = 0; i < BURST && !client->dead; i++) {
        ngtcp2_ssize length = next_packet(client, packet);
        if (length < 0) {
            die(client, ngtcp2_strerror((int)length));
        }
        if (length <= 0) {
            break;
        }
        (void)!send(client->fd, packet, (size_t)length,
                    0); /* what the kernel does not take is lost */
    }
    ngtcp2_conn_update_pkt_tx_time(client->quic, now());
}

static void turn(struct client *clients, struct pollfd *polls, unsigned count, uint64_t until)
{
    uint64_t next = until;
    for (unsigned i = 0; i < count; i++) {
        uint64_t expiry = clients[i].dead ? UINT64_MAX : ngtcp2_conn_get_expiry(clients[i].quic);
        next = expiry < next ? expiry : next;
    }
    uint64_t at = now();
    struct timespec wait = {0, next > at ? (long)((next - at) % NS_PER_S) : 0};
    wait.tv_sec = next > at ? (time_t)((next - at) / NS_PER_S) : 0;
    if (ppoll(polls, count, &wait, NULL) < 0 && errno != EINTR) {
        fail("ppoll");
    }
    for (unsigned i = 0; i < count; i++) {
        struct client *client = &clients[i];
        bool readable = polls[i].revents != 0;
        if (client->dead) {
            polls[i].fd = -1;
            continue;
        }
        if (readable) {
            read_packets(client);
        }
        bool due = !client->dead && ngtcp2_conn_get_expiry(client->quic) <= now();
        if (due && ngtcp2_conn_handle_expiry(client->quic, now()) != 0) {
            die(client, "a time-out");
        }
        if (!client->dead && (readable || due)) {
            write_packets(client);
        }
    }
}

static double percentile(const struct load *load, double share)
{
    uint64_t wanted = (uint64_t)((double)load->requests * share), seen = 0;
    for (size_t i = 0; i < STEPS; i++) {
        seen += load->steps[i];
        if (seen > wanted) {
            return (double)(i + 1) * STEP_NS / 1e6;
        }
    }
    return 0;
}

static void report(const struct load *load, double seconds)
{
    printf("  %u connections, %u streams each\n", load->connections, load->streams);
    printf("  Latency Distribution\n     50%%    %.2fms\n     99%%    %.2fms\n",
           percentile(load, 0.5), percentile(load, 0.99));
    printf("  %llu requests in %.2fs, %.2fMB read\n", (unsigned long long)load->requests, seconds,
           (double)load->bytes / 1e6);
    if (load->lost > 0) {
        printf("  Socket errors: %llu\n", (unsigned long long)load->lost);
    }
    if (load->bad > 0) {
        printf("  Non-2xx or 3xx responses: %llu\n", (unsigned long long)load->bad);
    }
    printf("Requests/sec: %.2f\n", (double)load->requests / seconds);
}

static void run(struct load *load)
{
    struct client *clients = calloc(load->connections, sizeof(*clients));
    struct pollfd *polls = calloc(load->connections, sizeof(*polls));

    if (clients == NULL || polls == NULL) {
        fail("memory");
    }
    for (unsigned i = 0; i < load->connections; i++) {
        start(&clients[i], load);
        polls[i] = (struct pollfd){clients[i].fd, POLLIN, 0};
        write_packets(&clients[i]);
    }
    uint64_t began = now(), end = began + load->seconds * NS_PER_S;
    while (now() < end) {
        turn(clients, polls, load->connections, end);
    }
    report(load, (double)(now() - began) / 1e9);
    load->stopping = true;
    for (unsigned i = 0; i < load->connections; i++) {
        uint8_t packet[DATAGRAM];
        ngtcp2_ccerr error;
        ngtcp2_pkt_info info;
        ngtcp2_ccerr_default(&error);
        ngtcp2_ccerr_set_application_error(&error, NGHTTP3_H3_NO_ERROR, NULL, 0);
        ngtcp2_ssize length = ngtcp2_conn_write_connection_close(
            clients[i].quic, NULL, &info, packet, sizeof(packet), &error, now());
        if (length > 0) {
            (void)!send(clients[i].fd, packet, (size_t)length, 0);
        }
        finish(&clients[i]);
    }
    free(clients);
    free(polls);
}

int main(int argc, char **argv)
{
    struct load load = {.connections = 10, .streams = 10, .seconds = 5};
    int option;

    while ((option = getopt(argc, argv, "c:m:d:")) != -1) {
        unsigned value = optarg != NULL ? (unsigned)strtoul(optarg, NULL, 10) : 0;
        *(option == 'c'   ? &load.connections
          : option == 'm' ? &load.streams
                          : &load.seconds) = value;
    }
    if (argc - optind != 3 || load.connections == 0 || load.streams == 0 || load.seconds == 0) {
        fprintf(stderr,
                "usage: h3load [-c connections] [-m streams] [-d seconds] HOST PORT TARGET\n");
        return 2;
    }
    load.host = argv[optind], load.port = argv[optind + 1], load.target = argv[optind + 2];
    load.steps = calloc(STEPS, sizeof(*load.steps));
    ngtcp2_crypto_ossl_init();
    load.tls = SSL_CTX_new(TLS_client_method());
    if (load.steps == NULL || load.tls == NULL) {
        fail("memory");
    }
    SSL_CTX_set1_groups_list(load.tls, "X25519");
    run(&load);
    SSL_CTX_free(load.tls);
    free(load.steps);
    return load.requests > 0 && load.lost == 0 && load.bad == 0 ? 0 : 1;
}
