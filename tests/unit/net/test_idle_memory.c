/* SPDX-License-Identifier: MIT */
/* What an idle connection costs in resident memory: 400 real ones, the clients in a process of their own. */
#include "check.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/listener.h"
#include "net/tls_context.h"
#include "support.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif

#define CONNECTIONS 400
#define WARM_UP 50 /* what the first ones bring into memory for good is not theirs */

struct idle_server {
    struct bench bench;
    struct transport *transports[CONNECTIONS];
    unsigned accepted, answered;
    size_t start;
};

static size_t resident(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long total = 0, pages = 0;
    CHECK(file != NULL && fscanf(file, "%lu %lu", &total, &pages) == 2);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

struct idle_connection {
    struct idle_server *server;
    struct transport *transport;
};
static struct idle_connection connections[CONNECTIONS];

static void idle_on_ready(void *user, unsigned events)
{
    (void)events;
    struct idle_connection *connection = user;
    struct idle_server *server = connection->server;
    char request[4096];
    size_t length = 0;
    struct iovec answer = {request, sizeof(request)};
    while (transport_read(connection->transport, request, sizeof(request), &length) == ERROR_NONE) {
        memset(request, 'a', sizeof(request));
        CHECK_EQ_INT(transport_writev(connection->transport, &answer, 1, &length), ERROR_NONE);
        server->answered++;
    }
    if (server->answered == WARM_UP) {
        server->start = resident();
    }
    if (server->answered == CONNECTIONS) {
        loop_stop(server->bench.loop);
    }
}

static void idle_on_accept(void *context, struct transport *transport,
                           const struct listener_settings *settings)
{
    struct idle_server *server = context;
    struct idle_connection *connection = &connections[server->accepted++];
    (void)settings;
    *connection = (struct idle_connection){server, transport};
    transport->on_ready = idle_on_ready;
    transport->user = connection;
    CHECK_EQ_INT(transport_want(transport, TRANSPORT_READ_ON, false), ERROR_NONE);
}

/* The clients: each shakes hands, asks once, and stays until it is killed. */
static void run_clients(const struct addr *target, bool tls)
{
    SSL_CTX *context = support_client_context();
    for (int i = 0; i < CONNECTIONS; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        char answer[4096] = "GET /";
        if (connect(fd, &target->sa, target->length) != 0) {
            _exit(1);
        }
        if (!tls) {
            if (write(fd, answer, 5) != 5 || recv(fd, answer, sizeof(answer), MSG_WAITALL) <= 0) {
                _exit(1);
            }
            continue;
        }
        SSL *ssl = SSL_new(context);
        SSL_set_fd(ssl, fd);
        if (SSL_connect(ssl) != 1 || SSL_write(ssl, answer, 5) != 5 ||
            SSL_read(ssl, answer, sizeof(answer)) <= 0) {
            _exit(1);
        }
    }
    for (;;) {
        pause();
    }
}

static struct tls_context *make_context(struct tls_keyring *keyring)
{
    char cert[128], key[128], text[256];
    support_pair("idle", &(struct wish){"idle", "DNS:localhost", KEY_EC, 0, 0, 0}, NULL);
    snprintf(cert, sizeof(cert), "%s/idle.pem", support_directory());
    snprintf(key, sizeof(key), "%s/idle.key", support_directory());
    struct tls_certificate_settings pair = {.cert = slice_from(cert), .key = slice_from(key)};
    struct tls_settings settings = {.certificates = &pair,
                                    .certificate_count = 1,
                                    .min_version = 0x0303,
                                    .ticket_key_life_ns = 3600 * CLOCK_NS_PER_S,
                                    .ticket_keys_kept = 24,
                                    .tickets = 1,
                                    .key_updates_per_second = 100};
    struct tls_context *context = NULL;
    CHECK_EQ_INT(tls_context_new(&settings, keyring, &context, text, sizeof(text)), ERROR_NONE);
    return context;
}

static void measure(bool tls, size_t bound)
{
#ifdef SANITIZED
    SKIP("a sanitizer's own memory cannot be told from ours");
#endif
    static struct idle_server server;
    memset(&server, 0, sizeof(server));
    bench_init(&server.bench);
    struct tls_keyring *keyring = tls_keyring_new(3600 * CLOCK_NS_PER_S, 24);
    struct tls_context *context = tls ? make_context(keyring) : NULL;
    struct listener_settings settings = {.bind = SLICE("127.0.0.1:0"), .tls = tls, .h1 = true};
    struct listener_limits limits = {.max_connections = CONNECTIONS + 1,
                                     .max_handshakes = CONNECTIONS,
                                     .handshake_timeout_ns = 20 * CLOCK_NS_PER_S};
    struct listener_socket socket;
    char text[256];
    size_t count = 0;
    CHECK_EQ_INT(listener_limits_init(&limits), ERROR_NONE);
    CHECK_EQ_INT(listener_bind(&settings, 0, 1, &socket, 1, &count, text, sizeof(text)),
                 ERROR_NONE);
    pid_t clients = fork();
    if (clients == 0) {
        run_clients(&socket.addr, tls);
    }
    struct listener *listener = listener_new(server.bench.loop, &socket, &settings, &limits,
                                             context, idle_on_accept, &server);
    bool done = bench_run(&server.bench);
    size_t each = (resident() - server.start) / (CONNECTIONS - WARM_UP);
    kill(clients, SIGKILL);
    waitpid(clients, NULL, 0);
    CHECK(done);
    printf("# an idle %s connection: %zu bytes resident\n", tls ? "TLS" : "plain", each);
    for (unsigned i = 0; i < server.accepted; i++) {
        struct addr peer = connections[i].transport->peer;
        transport_destroy(connections[i].transport, false);
        listener_connection_closed(&limits, &peer);
    }
    listener_free(listener);
    bench_done(&server.bench);
    listener_limits_done(&limits);
    tls_context_unref(context);
    tls_keyring_free(keyring);
    CHECK(each <= bound);
}

/* The whole connection with its codec may cost 16 KiB plain and 64 KiB with TLS: the transport must leave room. */
TEST(idle_plain_connection_is_small)
{
    measure(false, 4096);
}

TEST(idle_tls_connection_is_small)
{
    measure(true, 48 * 1024);
}

CHECK_MAIN
