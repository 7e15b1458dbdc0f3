/* SPDX-License-Identifier: MIT */
/*
 * Accepting: takes clients from a bound socket within the bounds, pauses when a bound is reached or descriptors run out,
 * and gives each client to a seat, in its own loop or by mail. Owns the listening descriptor; knows neither TLS nor codecs.
 */
#include "net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "net/listener_limits.h"
#include "net/listener_seat.h"

#define ACCEPT_BUDGET 64
#define DRAIN_ROUNDS 2
#define PAUSE_LIMIT (10 * CLOCK_NS_PER_MS)
#define PAUSE_DESCRIPTORS (100 * CLOCK_NS_PER_MS)

/* How a round of accepting ended. */
enum accepted { ACCEPTED_ALL, ACCEPTED_BUDGET, ACCEPTED_PAUSED };

struct client_mail {
    struct mail mail;
    struct listener_seat *seat;
    struct listener_client client;
};

static void drain_step(struct listener *listener);

static void listener_unref(struct listener *listener)
{
    if (atomic_fetch_sub(&listener->references, 1) == 1) {
        tls_context_unref(listener->tls);
        mem_free(listener->seats);
        mem_free(listener);
    }
}

/* --- dealing out ---------------------------------------------------------------------------------------------------- */

static void client_deliver(struct mail *mail, struct loop *loop)
{
    (void)loop;
    struct client_mail *message = LIST_CONTAINER(mail, struct client_mail, mail);
    struct listener *listener = message->seat->listener;
    listener_seat_admit(message->seat, &message->client);
    mem_free(message);
    listener_unref(listener);
}

static void client_discard(struct mail *mail)
{
    struct client_mail *message = LIST_CONTAINER(mail, struct client_mail, mail);
    struct listener *listener = message->seat->listener;
    listener_client_drop(listener, &message->client);
    mem_free(message);
    listener_unref(listener);
}

static void deal(struct listener *listener, struct listener_client *client)
{
    struct listener_seat *seat = &listener->seats[listener->next_seat];
    listener->next_seat = (listener->next_seat + 1) % listener->seat_count;
    if (seat->loop == listener->loop) {
        listener_seat_admit(seat, client);
        return;
    }
    struct client_mail *message = mem_calloc(1, sizeof(*message));
    if (message == NULL) {
        listener_client_drop(listener, client);
        return;
    }
    message->mail.deliver = client_deliver;
    message->mail.discard = client_discard;
    message->seat = seat;
    message->client = *client;
    atomic_fetch_add(&listener->references, 1);
    mailbox_post(seat->loop, &message->mail);
}

/* --- pausing -------------------------------------------------------------------------------------------------------- */

/* Stops accepting until the timer looks again. A pause that ends without an accepted client is the same one going on. */
static enum accepted pause_accepting(struct listener *listener, bool descriptors)
{
    if (!listener->paused) {
        listener->paused = true;
        METRIC_INCREMENT(accept_paused);
        listener_log_limited(&listener->pause_gate, loop_now(listener->loop), &listener->addr,
                             "accepting is paused: %s",
                             descriptors ? strerror(errno)
                                         : "max_connections are open; it goes on when one ends");
    }
    listener->short_of_descriptors = descriptors;
    /* Without memory for the timer the watch stays, and the loop tries again each turn: busy, but never deaf. */
    if (loop_timer_set(&listener->pause, descriptors ? PAUSE_DESCRIPTORS : PAUSE_LIMIT) ==
        ERROR_NONE) {
        (void)!loop_io_set(&listener->io, 0);
    }
    return ACCEPTED_PAUSED;
}

static void pause_on_timer(struct loop_timer *timer)
{
    struct listener *listener = LIST_CONTAINER(timer, struct listener, pause);
    struct listener_limits *limits = listener->limits;
    if (!listener->short_of_descriptors &&
        atomic_load_explicit(&limits->connections, memory_order_relaxed) >=
            limits->max_connections) {
        (void)pause_accepting(listener, false);
        return;
    }
    if (listener->drain_rounds > 0) {
        drain_step(listener);
    } else if (!listener->held && loop_io_set(&listener->io, LOOP_READ) != ERROR_NONE) {
        (void)pause_accepting(listener, true);
    }
}

/* --- accepting ------------------------------------------------------------------------------------------------------ */

/* What to do after a failed accept: true to go on with the next client. Errors of the network that accept() passes on
 * belong to the one client (accept(2), "Error handling"). */
static bool accept_failed(struct listener *listener, int error, enum accepted *ret_end)
{
    if (error == EAGAIN) {
        *ret_end = ACCEPTED_ALL;
        return false;
    }
    if (error == EINTR || error == ECONNABORTED) {
        return true;
    }
    METRIC_INCREMENT(accept_errors);
    errno = error;
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        *ret_end = pause_accepting(listener, true);
        return false;
    }
    listener_log_limited(&listener->error_gate, loop_now(listener->loop), &listener->addr,
                         "accept: %s", strerror(error));
    if (error == EBADF || error == EINVAL || error == ENOTSOCK || error == EOPNOTSUPP) {
        *ret_end = pause_accepting(listener, true); /* will not get better by trying at once */
        return false;
    }
    return true;
}

static void accepted_one(struct listener *listener, struct listener_client *client)
{
    listener->paused = false;
    METRIC_INCREMENT(conns);
    METRIC_INCREMENT(conns_accepted);
    client->local = listener->addr;
    if (listener->local_varies) {
        client->local.length = sizeof(client->local.storage);
        if (getsockname(client->fd, &client->local.sa, &client->local.length) != 0) {
            client->local = listener->addr;
        }
    }
    client->tls = listener->tls != NULL ? tls_context_ref(listener->tls) : NULL;
    client->settings = listener->settings;
    deal(listener, client);
}

static enum accepted accept_round(struct listener *listener)
{
    enum accepted end = ACCEPTED_ALL;
    for (unsigned i = 0; i < ACCEPT_BUDGET; i++) {
        if (!listener_limits_enter(listener->limits)) {
            return pause_accepting(listener, false);
        }
        struct listener_client client;
        memset(&client, 0, sizeof(client));
        client.peer.length = sizeof(client.peer.storage);
        client.fd = accept4(listener->io.fd, &client.peer.sa, &client.peer.length,
                            SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client.fd < 0) {
            int error = errno;
            listener_limits_leave(listener->limits);
            if (!accept_failed(listener, error, &end)) {
                return end;
            }
            continue;
        }
        accepted_one(listener, &client);
        if (listener->io.fd < 0) {
            return ACCEPTED_ALL; /* on_accept freed the listener */
        }
    }
    return ACCEPTED_BUDGET;
}

static void listener_on_ready(struct loop_io *io, unsigned events)
{
    (void)events;
    struct listener *listener = LIST_CONTAINER(io, struct listener, io);
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    (void)accept_round(listener);
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

static void stop_listening(struct listener *listener)
{
    if (listener->io.fd < 0) {
        return;
    }
    loop_io_done(&listener->io);
    loop_timer_clear(&listener->pause);
    loop_resume_cancel(listener->loop, &listener->drain_again);
    close(listener->io.fd);
    listener->io.fd = -1;
}

/* Once the queue is empty it is asked again a turn later: a client whose handshake with the kernel ended in between must not
 * be reset by the close. */
static void drain_step(struct listener *listener)
{
    enum accepted end = accept_round(listener);
    if (listener->io.fd < 0 || end == ACCEPTED_PAUSED) {
        return;
    }
    if (end == ACCEPTED_ALL && --listener->drain_rounds == 0) {
        stop_listening(listener);
        return;
    }
    loop_resume_later(listener->loop, &listener->drain_again);
}

static void drain_on_resume(struct loop_resume *resume)
{
    drain_step(LIST_CONTAINER(resume, struct listener, drain_again));
}

void listener_stop(struct listener *listener)
{
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    stop_listening(listener);
}

static bool is_wildcard(const struct addr *addr)
{
    if (addr->sa.sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&addr->storage;
        return in->sin_addr.s_addr == htonl(INADDR_ANY);
    }
    if (addr->sa.sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&addr->storage;
        return IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
    }
    return false;
}

static struct listener_seat *seats_new(struct listener *listener, struct loop *const *loops,
                                       void *const *contexts, size_t count)
{
    struct listener_seat *seats = mem_calloc(count, sizeof(*seats));
    for (size_t i = 0; seats != NULL && i < count; i++) {
        seats[i].listener = listener;
        seats[i].loop = loops[i];
        seats[i].context = contexts[i];
        listener_pending_list_init(&seats[i].pending);
    }
    return seats;
}

struct listener *listener_new(struct loop *loop, const struct listener_socket *socket,
                              const struct listener_settings *settings,
                              struct listener_limits *limits, struct tls_context *tls,
                              listener_accept_fn *on_accept, void *context)
{
    REQUIRE(limits->max_connections > 0 && limits->max_handshakes > 0);
    REQUIRE(limits->peers != NULL);
    REQUIRE(settings->tls == (tls != NULL));
    struct listener *listener = mem_calloc(1, sizeof(*listener));
    if (listener == NULL) {
        return NULL;
    }
    listener->magic = LISTENER_MAGIC;
    listener->loop = loop;
    listener->settings = *settings;
    listener->settings.bind = SLICE("");
    listener->limits = limits;
    listener->on_accept = on_accept;
    listener->addr = socket->addr;
    listener->local_varies = is_wildcard(&socket->addr);
    atomic_init(&listener->references, 1);
    loop_io_init(&listener->io, loop, socket->fd, listener_on_ready);
    loop_timer_init(&listener->pause, loop, pause_on_timer);
    loop_resume_init(&listener->drain_again, drain_on_resume);
    listener->seats = seats_new(listener, &loop, &context, 1);
    listener->seat_count = 1;
    if (listener->seats == NULL || loop_io_set(&listener->io, LOOP_READ) != ERROR_NONE) {
        loop_io_done(&listener->io);
        mem_free(listener->seats);
        mem_free(listener);
        return NULL;
    }
    listener->tls = tls != NULL ? tls_context_ref(tls) : NULL;
    if (!addr_is_unix(&socket->addr)) {
        /* Accepted sockets inherit it (tcp(7) on Linux), which saves a call for each. */
        const int on = 1;
        (void)setsockopt(socket->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    return listener;
}

enum error listener_deal(struct listener *listener, struct loop *const *loops,
                         void *const *contexts, size_t count)
{
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    REQUIRE(count > 0 && listener->seat_count == 1);
    struct listener_seat *seats = seats_new(listener, loops, contexts, count);
    if (seats == NULL) {
        return ERROR_NO_MEMORY;
    }
    REQUIRE(listener_pending_list_empty(&listener->seats[0].pending));
    mem_free(listener->seats);
    listener->seats = seats;
    listener->seat_count = count;
    listener->next_seat = 0;
    return ERROR_NONE;
}

void listener_set(struct listener *listener, const struct listener_settings *settings,
                  struct tls_context *tls)
{
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    REQUIRE(settings->tls == (tls != NULL));
    if (tls != NULL) {
        tls_context_ref(tls);
    }
    tls_context_unref(listener->tls);
    listener->tls = tls;
    if (settings->backlog != listener->settings.backlog && listener->io.fd >= 0) {
        (void)listen(listener->io.fd,
                     settings->backlog); /* listen(2): a second call sets it anew */
    }
    listener->settings = *settings;
    listener->settings.bind = SLICE("");
}

void listener_hold(struct listener *listener, bool hold)
{
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    if (listener->io.fd < 0 || listener->drain_rounds > 0 || listener->held == hold) {
        return;
    }
    listener->held = hold;
    if (hold) {
        METRIC_INCREMENT(accept_paused);
        loop_timer_clear(&listener->pause);
        (void)!loop_io_set(&listener->io, 0);
    } else if (loop_io_set(&listener->io, LOOP_READ) != ERROR_NONE) {
        (void)pause_accepting(listener, true);
    }
}

void listener_drain(struct listener *listener)
{
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    if (listener->io.fd < 0 || listener->drain_rounds > 0) {
        return;
    }
    listener->held = false;
    listener->drain_rounds = DRAIN_ROUNDS;
    if (!loop_timer_is_set(&listener->pause)) {
        drain_step(listener);
    }
}

bool listener_is_open(const struct listener *listener)
{
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    return listener->io.fd >= 0;
}

static void seat_close_deliver(struct mail *mail, struct loop *loop)
{
    (void)loop;
    struct listener_seat *seat = LIST_CONTAINER(mail, struct listener_seat, closing);
    listener_seat_close(seat);
    listener_unref(seat->listener);
}

static void seat_close_discard(struct mail *mail)
{
    seat_close_deliver(mail, NULL);
}

static void listener_reap(struct loop_grave *grave)
{
    listener_unref(LIST_CONTAINER(grave, struct listener, grave));
}

void listener_free(struct listener *listener)
{
    if (listener == NULL) {
        return;
    }
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    listener->magic = MAGIC_FREED;
    stop_listening(listener);
    for (size_t i = 0; i < listener->seat_count; i++) {
        struct listener_seat *seat = &listener->seats[i];
        if (seat->loop == listener->loop) {
            listener_seat_close(seat);
            continue;
        }
        seat->closing.deliver = seat_close_deliver;
        seat->closing.discard = seat_close_discard;
        atomic_fetch_add(&listener->references, 1);
        mailbox_post(seat->loop, &seat->closing);
    }
    loop_bury(listener->loop, &listener->grave, listener_reap);
}

size_t listener_pending(const struct listener *listener)
{
    size_t count = 0;
    for (size_t i = 0; i < listener->seat_count; i++) {
        if (listener->seats[i].loop == listener->loop) {
            count += listener->seats[i].pending.length;
        }
    }
    return count;
}

bool listener_busy(const struct listener *listener)
{
    REQUIRE_OBJECT(listener, LISTENER_MAGIC);
    return atomic_load(&listener->references) > 1 || atomic_load(&listener->handshakes) > 0;
}
