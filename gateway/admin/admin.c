/* SPDX-License-Identifier: MIT */
/*
 * The admin side's sockets: accepting, who may ask, reading a request, sending the answer, and the end. What is asked and answered
 * is admin_command.c's and admin_http.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/admin_conn.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"

#define ACCEPT_PAUSE                                                                               \
    (100 * CLOCK_NS_PER_MS) /* after accept failed for want of descriptors or memory */

/* --- connections ---------------------------------------------------------------------------------------------------- */

static void conn_bury(struct loop_grave *grave)
{
    struct admin_conn *conn = LIST_CONTAINER(grave, struct admin_conn, grave);

    conn->magic = MAGIC_FREED;
    strbuf_done(&conn->answer);
    mem_free(conn);
}

void admin_conn_close(struct admin_conn *conn)
{
    REQUIRE_OBJECT(conn, ADMIN_CONN_MAGIC);
    if (!admin_conn_list_linked(conn)) {
        return; /* closed already, in this turn */
    }
    admin_conn_list_remove(&conn->admin->conns, conn);
    admin_gather_detach(conn);
    loop_timer_clear(&conn->timer);
    loop_unmark_dirty(conn->admin->settings.loop, &conn->dirty);
    loop_io_done(&conn->io);
    close(conn->io.fd);
    METRIC_DECREMENT(admin_connections);
    loop_bury(conn->admin->settings.loop, &conn->grave, conn_bury);
}

static void on_timeout(struct loop_timer *timer)
{
    struct admin_conn *conn = LIST_CONTAINER(timer, struct admin_conn, timer);

    METRIC_INCREMENT(admin_timeouts);
    log_info("admin", "a connection was closed after admin.timeout: its request %s",
             conn->answered ? "was answered, but the answer was not read"
                            : "was not complete or its rows did not come");
    admin_conn_close(conn);
}

void admin_conn_answer(struct admin_conn *conn)
{
    conn->answered = true;
    if (conn->answer.failed || loop_io_set(&conn->io, 0) != ERROR_NONE) {
        admin_conn_close(conn);
        return;
    }
    loop_mark_dirty(conn->admin->settings.loop, &conn->dirty);
}

static enum loop_flush flush(struct loop_dirty *dirty)
{
    struct admin_conn *conn = LIST_CONTAINER(dirty, struct admin_conn, dirty);

    while (conn->sent < conn->answer.length) {
        ssize_t sent = send(conn->io.fd, conn->answer.data + conn->sent,
                            conn->answer.length - conn->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN && loop_io_set(&conn->io, LOOP_WRITE) == ERROR_NONE) {
            return LOOP_FLUSH_CLEAN;
        }
        if (sent < 0) {
            break;
        }
        conn->sent += (size_t)sent;
    }
    shutdown(conn->io.fd, SHUT_WR);
    admin_conn_close(conn);
    return LOOP_FLUSH_CLEAN;
}

static void on_ready(struct loop_io *io, unsigned events)
{
    struct admin_conn *conn = LIST_CONTAINER(io, struct admin_conn, io);
    ssize_t got;

    if (conn->answered) {
        if ((events & LOOP_WRITE) != 0) {
            loop_mark_dirty(conn->admin->settings.loop, &conn->dirty);
        }
        return;
    }
    do {
        got = recv(io->fd, conn->request + conn->request_length,
                   ADMIN_REQUEST_MAX - conn->request_length, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0) {
        admin_conn_close(conn);
        return;
    }
    conn->request_length += (size_t)got;
    conn->request[conn->request_length] = '\0';
    bool complete = conn->is_http ? admin_http_read(conn) : admin_command_read(conn);
    if (complete) {
        METRIC_INCREMENT(admin_requests);
        /* Nothing more is read; a client that goes away is met by the answer or the timeout. */
        if (!conn->answered && admin_conn_list_linked(conn) && loop_io_set(io, 0) != ERROR_NONE) {
            admin_conn_close(conn);
        }
    } else if (conn->request_length == ADMIN_REQUEST_MAX) {
        admin_conn_close(conn);
    }
}

/* --- accepting ------------------------------------------------------------------------------------------------------ */

/* Only root and our own user: the socket's mode says who may connect, this says who is answered even if it is too wide. */
static bool may_ask(int fd, char *text, size_t size)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
        snprintf(text, size, "error: your user id is unknown: %s\n", strerror(errno));
        return false;
    }
    if (peer.uid != 0 && peer.uid != geteuid()) {
        snprintf(text, size, "error: user id %u may not ask; only root and user id %u may\n",
                 (unsigned)peer.uid, (unsigned)geteuid());
        return false;
    }
    return true;
}

static void refuse(int fd, const char *text)
{
    ssize_t sent = send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);

    (void)sent; /* it is a courtesy */
    METRIC_INCREMENT(admin_refused);
    close(fd);
}

static void conn_new(struct admin *admin, int fd, bool is_http)
{
    struct admin_conn *conn = mem_calloc(1, sizeof(*conn));

    if (conn == NULL) {
        close(fd);
        return;
    }
    conn->magic = ADMIN_CONN_MAGIC;
    conn->admin = admin;
    conn->is_http = is_http;
    strbuf_init(&conn->answer);
    loop_io_init(&conn->io, admin->settings.loop, fd, on_ready);
    loop_timer_init(&conn->timer, admin->settings.loop, on_timeout);
    loop_dirty_init(&conn->dirty, LOOP_STAGE_CONN, flush);
    admin_conn_list_append(&admin->conns, conn);
    METRIC_INCREMENT(admin_connections);
    if (loop_timer_set(&conn->timer, admin->settings.timeout) != ERROR_NONE ||
        loop_io_set(&conn->io, LOOP_READ) != ERROR_NONE) {
        admin_conn_close(conn);
    }
}

static void pause_accepting(struct admin_listener *listener)
{
    log_warning("admin", "cannot accept a connection: %s; trying again soon", strerror(errno));
    if (loop_timer_set(&listener->pause, ACCEPT_PAUSE) == ERROR_NONE) {
        enum error error = loop_io_set(&listener->io, 0);
        (void)error; /* switching off takes no memory */
    }
}

static void on_acceptable(struct loop_io *io, unsigned events)
{
    struct admin_listener *listener = LIST_CONTAINER(io, struct admin_listener, io);
    struct admin *admin = listener->admin;
    char text[128];

    (void)events;
    for (;;) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (fd < 0) {
            if (errno != EAGAIN) {
                pause_accepting(listener);
            }
            return;
        }
        if (!listener->is_http && !may_ask(fd, text, sizeof(text))) {
            log_warning("admin", "refused a connection: %.*s", (int)strcspn(text + 7, "\n"),
                        text + 7);
            refuse(fd, text);
        } else if (admin->conns.length >= admin->settings.max_connections) {
            refuse(fd, listener->is_http
                           ? "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                             "Content-Length: 0\r\n\r\n"
                           : "error: admin.max_connections are open; try again\n");
        } else {
            conn_new(admin, fd, listener->is_http);
        }
    }
}

static void on_pause_over(struct loop_timer *timer)
{
    struct admin_listener *listener = LIST_CONTAINER(timer, struct admin_listener, pause);

    if (loop_io_set(&listener->io, LOOP_READ) != ERROR_NONE) {
        pause_accepting(listener);
    }
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

static enum error listen_on(struct admin_listener *listener, struct admin *admin, int fd,
                            bool is_http)
{
    listener->admin = admin;
    listener->is_http = is_http;
    loop_io_init(&listener->io, admin->settings.loop, fd, on_acceptable);
    loop_timer_init(&listener->pause, admin->settings.loop, on_pause_over);
    return fd >= 0 ? loop_io_set(&listener->io, LOOP_READ) : ERROR_NONE;
}

struct admin *admin_new(const struct admin_settings *settings)
{
    struct admin *admin = mem_calloc(1, sizeof(*admin));

    REQUIRE(settings->loop_count > 0 && settings->sources.rows != NULL &&
            settings->sources.ready != NULL && settings->sources.wish != NULL);
    if (admin == NULL) {
        return NULL;
    }
    admin->magic = ADMIN_MAGIC;
    admin->settings = *settings;
    admin->started_at = clock_now();
    admin_conn_list_init(&admin->conns);
    if (listen_on(&admin->listeners[0], admin, settings->socket, false) != ERROR_NONE ||
        listen_on(&admin->listeners[1], admin, settings->http, true) != ERROR_NONE) {
        loop_io_done(&admin->listeners[0].io);
        loop_io_done(&admin->listeners[1].io);
        mem_free(admin);
        return NULL;
    }
    return admin;
}

static enum error listen_anew(struct admin_listener *listener, int fd)
{
    if (listener->io.fd == fd) {
        return ERROR_NONE;
    }
    loop_timer_clear(&listener->pause);
    loop_io_done(&listener->io);
    return listen_on(listener, listener->admin, fd, listener->is_http);
}

enum error admin_change(struct admin *admin, const struct admin_settings *settings)
{
    REQUIRE_OBJECT(admin, ADMIN_MAGIC);
    admin->settings.max_connections = settings->max_connections;
    admin->settings.timeout = settings->timeout;
    admin->settings.socket = settings->socket;
    admin->settings.http = settings->http;
    enum error first = listen_anew(&admin->listeners[0], settings->socket);
    enum error second = listen_anew(&admin->listeners[1], settings->http);
    return first != ERROR_NONE ? first : second;
}

static void admin_bury(struct loop_grave *grave)
{
    struct admin *admin = LIST_CONTAINER(grave, struct admin, grave);

    admin->magic = MAGIC_FREED;
    mem_free(admin);
}

void admin_free(struct admin *admin)
{
    if (admin == NULL) {
        return;
    }
    REQUIRE_OBJECT(admin, ADMIN_MAGIC);
    for (size_t i = 0; i < 2; i++) {
        loop_timer_clear(&admin->listeners[i].pause);
        loop_io_done(&admin->listeners[i].io);
    }
    while (!admin_conn_list_empty(&admin->conns)) {
        admin_conn_close(admin_conn_list_first(&admin->conns));
    }
    loop_bury(admin->settings.loop, &admin->grave, admin_bury);
}
