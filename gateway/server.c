/* SPDX-License-Identifier: MIT */
/*
 * The server's main thread: it puts the modules together, waits for orders of the master, and takes
 * everything apart again in the reverse order. It serves no client itself.
 */
#include "server.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "control.h"
#include "h3/quic_endpoint.h"
#include "net/tls_context.h"
#include "server_admin.h"
#include "server_generation.h"
#include "server_listeners.h"
#include "server_loop.h"
#include "server_older.h"
#include "server_quic.h"
#include "server_reload.h"
#include "server_upgrade.h"
#include "signals.h"

/* How often a drain is looked at. */
#define DRAIN_LOOK_MS 20
/* While the workers of an upgrade are waited for. */
#define AWAIT_LOOK_MS 10
/* How often the memory of buffered bodies is compared with gateway.buffer_memory: while little
 * of it is used, and while a quarter or more is. */
#define PRESSURE_LOOK_MS 100
#define PRESSURE_LOOK_OFTEN_MS 10
/* A loop that does not answer an order for so long hangs: a bug, which must not keep the process
 * alive. */
#define ANSWER_TIMEOUT (10 * CLOCK_NS_PER_S)

enum server_wish { WISH_SERVE, WISH_DRAIN, WISH_STOP };

/* --- orders from the master --- */

static void raise_wish(enum server_wish *wish, enum server_wish to)
{
    if (*wish < to) {
        *wish = to;
    }
}

/* True: the descriptor was taken. */
static bool replace_log(const struct control_message *message)
{
    if (message->fd < 0 || message->argument < 0 || message->argument >= LOG_SINK_COUNT) {
        return false;
    }
    log_replace_take((enum log_sink)message->argument, message->fd);
    return true;
}

static void obey(struct server *server, const struct control_message *message,
                 enum server_wish *wish)
{
    switch (message->kind) {
    case CONTROL_STOP:
        raise_wish(wish, WISH_DRAIN);
        break;
    case CONTROL_STOP_NOW:
        raise_wish(wish, WISH_STOP);
        break;
    case CONTROL_LOG:
        if (replace_log(message)) {
            return;
        }
        break;
    case CONTROL_RESULT:
        server_tell(server, message);
        break;
    case CONTROL_RELOAD_BEGIN:
    case CONTROL_RELOAD_FILE:
    case CONTROL_RELOAD_SOCKET:
    case CONTROL_RELOAD_END:
    case CONTROL_RELOAD_RELEASE:
        server_reload_take(server, message);
        return;
    case CONTROL_RETIRE:
        server->retired = true;
        raise_wish(wish, WISH_DRAIN);
        break;
    default:
        (void)server_upgrade_take(server, message);
    }
    if (message->fd >= 0) {
        close(message->fd);
    }
}

static void read_control(struct server *server, enum server_wish *wish)
{
    static char text[CONTROL_TEXT_MAX + 1]; /* of the main thread only */
    struct control_message message;

    for (;;) {
        enum error error = control_receive(server->inputs->control, &message, text);
        if (error == ERROR_NONE) {
            obey(server, &message, wish);
        } else if (error == ERROR_AGAIN) {
            return;
        } else {
            if (*wish < WISH_STOP) {
                log_error("server", "the master process is gone: stopping");
            }
            *wish = WISH_STOP;
            return;
        }
    }
}

/* What operators wish is the master's to do. */
static void pass_on_wishes(struct server *server)
{
    for (int i = 0; i < CONTROL_WISHES; i++) {
        uint32_t number = atomic_load(&server->wishes[i]);
        struct control_message message = {
            .kind = CONTROL_WISH, .argument = i, .number = number, .fd = -1};
        if (number != server->passed_on[i] &&
            control_send(server->inputs->control, &message, 1000) == ERROR_NONE) {
            server->passed_on[i] = number;
        }
    }
}

/* Waits for news, at most `timeout_ms` (negative: for ever). */
static void wait_for_news(struct server *server, int timeout_ms, enum server_wish *wish)
{
    struct pollfd watched[] = {
        {.fd = server->inputs->control, .events = POLLIN},
        {.fd = server->signal_fd, .events = POLLIN},
        {.fd = server->answer_fd, .events = POLLIN},
    };

    if (poll(watched, sizeof(watched) / sizeof(*watched), timeout_ms) <= 0) {
        return;
    }
    if (watched[0].revents != 0) {
        read_control(server, wish);
    }
    /* A service manager may send it to every process of the service: to drain twice is to drain
     * once. */
    while (watched[1].revents != 0 && signals_next(server->signal_fd) == SIGTERM) {
        raise_wish(wish, WISH_DRAIN);
    }
    if (watched[2].revents != 0) {
        uint64_t count;
        ssize_t got = read(server->answer_fd, &count, sizeof(count));
        (void)got;
        pass_on_wishes(server);
    }
}

/* Whether no connection is left and none can come. */
static bool is_drained(struct server *server)
{
    atomic_store(&server->open_listeners, 0);
    server_order_all(server, SERVER_ORDER_REPORT);
    return atomic_load(&server->open_listeners) == 0 &&
           atomic_load(&server->limits.connections) == 0;
}

static void drain_all(struct server *server, enum server_wish *wish)
{
    uint64_t deadline = clock_now() + server->generation->config->gateway.drain_timeout;

    log_info("server", "stopping: no new connections, %u open",
             atomic_load(&server->limits.connections));
    server_order_all(server, server->retired ? SERVER_ORDER_RETIRE : SERVER_ORDER_DRAIN);
    if (server->retired) {
        server_upgrade_retired(server);
    }
    while (*wish < WISH_STOP && !is_drained(server)) {
        uint64_t now = clock_now();
        if (now >= deadline) {
            log_warning("server",
                        "%u connections did not end within gateway.drain_timeout: they are cut",
                        atomic_load(&server->limits.connections));
            return;
        }
        wait_for_news(server, DRAIN_LOOK_MS, wish);
    }
}

/* Steps of the overload ladder: the loops hear of a change only. Returns how many milliseconds
 * later to look again. */
static int look_at_pressure(struct server *server)
{
    int64_t used = metrics_sum(METRIC_buffered_bytes);
    enum pressure level = pressure_level(used > 0 ? (uint64_t)used : 0, server->buffer_budget);

    int again =
        used > (int64_t)(server->buffer_budget / 4) ? PRESSURE_LOOK_OFTEN_MS : PRESSURE_LOOK_MS;

    if (level == server->pressure) {
        return again;
    }
    log_at(level > server->pressure ? LOG_WARNING : LOG_INFO, "server",
           "%" PRId64 " of %" PRIu64 " bytes of gateway.buffer_memory are used: %s", used,
           server->buffer_budget, pressure_name(level));
    server->pressure = level;
    server_order_all(server, SERVER_ORDER_PRESSURE);
    return again;
}

static void serve(struct server *server)
{
    struct control_message ready = {.kind = CONTROL_READY, .fd = -1};
    enum server_wish wish = WISH_SERVE;

    /* Ready is said when every loop runs: one that fails at its start ends the server before, and the master tells whoever started
     * it instead of trying again for ever. */
    server_order_all(server, SERVER_ORDER_BARRIER);
    if (control_send(server->inputs->control, &ready, 1000) != ERROR_NONE) {
        log_error("server", "the master process does not listen: %s", strerror(errno));
        wish = WISH_STOP;
    }
    while (wish == WISH_SERVE) {
        int again = look_at_pressure(server);
        wait_for_news(server, server->await_workers ? AWAIT_LOOK_MS : again, &wish);
        server_older_look(server);
        if (server->await_workers) {
            server_upgrade_look(server);
        }
        if (server->sweep_at != 0 && clock_now() >= server->sweep_at) {
            server_reload_sweep(server);
        }
    }
    if (wish == WISH_DRAIN) {
        drain_all(server, &wish);
    }
    server_order_all(server, SERVER_ORDER_CLOSE);
    /* What closing posted from loop to loop, and what that posted. Then again, for what could
     * not end the first time. */
    server_order_all(server, SERVER_ORDER_BARRIER);
    server_order_all(server, SERVER_ORDER_CLOSE);
    server_order_all(server, SERVER_ORDER_BARRIER);
    server_order_all(server, SERVER_ORDER_BARRIER);
}

/* --- putting together --- */

static void add_socket(struct server *server, enum control_socket kind,
                       const struct endpoint *endpoint)
{
    if (endpoint->fd >= 0) {
        server->sockets[server->socket_count++] =
            (struct server_socket){kind, endpoint->id, endpoint->fd};
    }
}

static enum error init_sockets(struct server *server)
{
    const struct endpoints *endpoints = server->inputs->endpoints;

    server->sockets = mem_calloc(endpoints->app_count + 2, sizeof(*server->sockets));
    if (server->sockets == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < endpoints->app_count; i++) {
        add_socket(server, CONTROL_SOCKET_APP, &endpoints->apps[i]);
        server->generation->app_sockets[i] = endpoints->apps[i].fd;
    }
    add_socket(server, CONTROL_SOCKET_ADMIN, &endpoints->admin_socket);
    add_socket(server, CONTROL_SOCKET_ADMIN_HTTP, &endpoints->admin_http);
    return ERROR_NONE;
}

static enum error init_generation(struct server *server)
{
    const struct server_inputs *inputs = server->inputs;
    char text[256];

    enum error error = server_generation_new(inputs->config, inputs->tls, inputs->loops,
                                             &server->generation, text, sizeof(text));
    if (error != ERROR_NONE) {
        log_error("server", "%s", text);
        return error;
    }
    server->number = inputs->number;
    server_generation_redirect(server->generation, inputs->endpoints->listeners,
                               inputs->endpoints->listener_count);
    return init_sockets(server);
}

static enum error init_apps(struct server *server)
{
    server->apps = apps_new(&server->generation->apps, server->loop_pointers, server->loop_count);
    if (server->apps == NULL) {
        return ERROR_NO_MEMORY;
    }
    server->apps->closed = server->standby;
    return server->standby ? ERROR_NONE : apps_start(server->apps);
}

void server_limits_fill(struct listener_limits *limits, const struct config *config)
{
    *limits = (struct listener_limits){
        .max_connections = config_max_connections(config),
        .max_connections_per_ip = config->gateway.max_connections_per_ip,
        .max_handshakes = config->gateway.max_handshakes,
        .handshake_timeout_ns = config->gateway.handshake_timeout,
        .trusted = config->trusted,
        .trusted_count = config->trusted_count,
    };
}

static enum error init_limits(struct server *server)
{
    server_limits_fill(&server->limits, server->inputs->config);
    return listener_limits_init(&server->limits);
}

static enum error init_loops(struct server *server)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        enum error error = server_loop_init(&server->loops[i], server, i);
        if (error != ERROR_NONE) {
            return error;
        }
        server->loop_pointers[i] = server->loops[i].loop;
    }
    return ERROR_NONE;
}

static void init_parking(struct server *server)
{
    pthread_condattr_t attributes;

    REQUIRE(pthread_mutex_init(&server->park_lock, NULL) == 0);
    REQUIRE(pthread_condattr_init(&attributes) == 0);
    REQUIRE(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    REQUIRE(pthread_cond_init(&server->parked_changed, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

/* Everything but the threads. On failure server_done undoes it. */
static enum error server_init(struct server *server, const struct server_inputs *inputs)
{
    static const int wanted[] = {SIGTERM};

    *server = (struct server){.buffer_budget = config_buffer_memory(inputs->config),
                              .inputs = inputs,
                              .keyring = inputs->keyring,
                              .standby = inputs->standby,
                              .loop_count = inputs->loops,
                              .signal_fd = -1,
                              .answer_fd = -1};
    init_parking(server);
    server->loops = mem_calloc(inputs->loops, sizeof(*server->loops));
    server->loop_pointers = mem_calloc(inputs->loops, sizeof(struct loop *));
    if (server->loops == NULL || server->loop_pointers == NULL) {
        return ERROR_NO_MEMORY;
    }
    server->signal_fd = signals_open(wanted, 1);
    server->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->signal_fd < 0 || server->answer_fd < 0) {
        return ERROR_IO;
    }
    enum error error = init_generation(server);
    error = error == ERROR_NONE ? init_limits(server) : error;
    error = error == ERROR_NONE ? server_quic_init(server) : error;
    error = error == ERROR_NONE ? init_loops(server) : error;
    error = error == ERROR_NONE ? server_older_init(server) : error;
    error = error == ERROR_NONE ? init_apps(server) : error;
    error = error == ERROR_NONE && !server->standby ? server_admin_init(server) : error;
    for (unsigned i = 0; i < server->loop_count && error == ERROR_NONE; i++) {
        struct server_loop *loop = &server->loops[i];
        loop->group.handler_context = &server->apps->app_loops[i];
        error = server_listeners_add(loop, inputs->endpoints->listeners,
                                     inputs->endpoints->listener_count, server->generation);
        error = error == ERROR_NONE ? server_quic_listen(loop) : error;
        server_listeners_hold(loop, server->standby);
    }
    return error;
}

/* Stops the threads and frees everything; the loops were closed, by order or because no thread
 * ever ran. */
static void server_done(struct server *server)
{
    for (unsigned i = 0; server->loops != NULL && i < server->loop_count; i++) {
        server_loop_join(&server->loops[i]);
    }
    if (!apps_stop_files(server->apps)) {
        server_give_up("reading a file hangs");
    }
    /* Loops first: mail that was never delivered may point into the apps. */
    for (unsigned i = 0; server->loops != NULL && i < server->loop_count; i++) {
        server_loop_done(&server->loops[i]);
    }
    quic_server_free(server->quic);
    server_older_free(server);
    apps_free(server->apps);
    listener_limits_done(&server->limits);
    server_reload_abandon(server);
    while (server->generation != NULL) {
        struct server_generation *generation = server->generation;
        server->generation = generation->older;
        server_generation_free(generation);
    }
    tls_keyring_free(server->keyring);
    mem_free(server->told.text);
    mem_free(server->sockets);
    pthread_cond_destroy(&server->parked_changed);
    pthread_mutex_destroy(&server->park_lock);
    mem_free(server->loop_pointers);
    mem_free(server->loops);
    if (server->signal_fd >= 0) {
        close(server->signal_fd);
    }
    if (server->answer_fd >= 0) {
        close(server->answer_fd);
    }
}

/* Closes loops whose threads do not run. */
static void close_all(struct server *server)
{
    for (unsigned i = 0; server->loops != NULL && i < server->loop_count; i++) {
        if (server->loops[i].loop != NULL) {
            server_loop_close(&server->loops[i]);
        }
    }
}

static enum error start_threads(struct server *server)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        if (server_loop_start(&server->loops[i]) != ERROR_NONE) {
            for (unsigned k = 0; k < i; k++) {
                server_loop_join(&server->loops[k]);
            }
            return ERROR_IO;
        }
    }
    return ERROR_NONE;
}

/* Every object is gone, so every gauge of objects must be zero: whatever is not, was counted
 * wrong or leaked. */
static int check_gauges(void)
{
    const char *strict = getenv("GATEWAYD_STRICT_EXIT");
    int code = EXIT_SUCCESS;

    for (int i = 0; i < METRIC_COUNT; i++) {
        enum metric metric = (enum metric)i;
        int64_t value = metrics_sum(metric);
        if (metrics_kind(metric) == METRIC_KIND_LIVE && value != 0) {
            log_error("server", "bug: at exit the gauge %s is %" PRId64 ", not 0",
                      metrics_name(metric), value);
            code = strict != NULL && strcmp(strict, "1") == 0 ? SERVER_EXIT_GAUGES : code;
        }
    }
    return code;
}

int server_run(const struct server_inputs *inputs)
{
    struct server server;

    if (privileges_drop(inputs->identity) != ERROR_NONE) {
        return EXIT_FAILURE;
    }
    if (log_start() != ERROR_NONE) {
        log_error("server", "cannot start the log writer: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    enum error error = server_init(&server, inputs);
    error = error == ERROR_NONE ? start_threads(&server) : error;
    if (error == ERROR_NONE) {
        serve(&server);
    } else {
        log_error("server", "cannot start: %s",
                  error == ERROR_IO ? strerror(errno) : error_name(error));
        close_all(&server);
    }
    server_done(&server);
    int code = check_gauges();
    log_stop();
    return error == ERROR_NONE ? code : EXIT_FAILURE;
}
