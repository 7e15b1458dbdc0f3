/* SPDX-License-Identifier: MIT */
/* A loop has a handful of listeners: an array that is walked. */
#include "server_listeners.h"

#include "base/mem.h"
#include "server_generation.h"
#include "server_loop.h"

static bool exists_once(struct slice bind)
{
    return slice_starts_with(bind, SLICE("unix:")) || slice_starts_with(bind, SLICE("fd://"));
}

/* Lets a socket that exists only once (unix:, fd://) serve all loops. */
static enum error deal_out(struct server_loop *server_loop, struct listener *listener)
{
    struct server *server = server_loop->server;
    void **contexts = mem_calloc(server->loop_count, sizeof(*contexts));

    if (contexts == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (unsigned i = 0; i < server->loop_count; i++) {
        contexts[i] = &server->loops[i];
    }
    enum error error = listener_deal(listener, server->loop_pointers, contexts, server->loop_count);
    mem_free(contexts);
    return error;
}

static enum error make_room(struct server_loop *server_loop, size_t count)
{
    size_t room = server_loop->listener_count + count;

    if (room <= server_loop->listener_room) {
        return ERROR_NONE;
    }
    struct server_listener *larger =
        mem_realloc(server_loop->listeners, room * sizeof(*server_loop->listeners));
    if (larger == NULL) {
        return ERROR_NO_MEMORY;
    }
    server_loop->listeners = larger;
    server_loop->listener_room = room;
    return ERROR_NONE;
}

static enum error add(struct server_loop *server_loop, struct listener_socket *socket,
                      const struct server_generation *generation)
{
    struct server *server = server_loop->server;
    const struct listener_settings *settings = &generation->config->listeners[socket->setting];
    struct listener *listener =
        listener_new(server_loop->loop, socket, settings, &server->limits,
                     settings->tls ? generation->tls : NULL, server_loop_accept, server_loop);

    if (listener == NULL) {
        return ERROR_NO_MEMORY;
    }
    socket->fd = -1; /* the listener's now */
    server_loop->listeners[server_loop->listener_count++] = (struct server_listener){
        .listener = listener, .id = socket->id, .fresh = generation != server_loop->generation};
    return exists_once(settings->bind) && server->loop_count > 1 ? deal_out(server_loop, listener)
                                                                 : ERROR_NONE;
}

enum error server_listeners_add(struct server_loop *server_loop, struct listener_socket *sockets,
                                size_t count, const struct server_generation *generation)
{
    enum error error = make_room(server_loop, count);

    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        if (sockets[i].loop == server_loop->index && sockets[i].fd >= 0) {
            error = add(server_loop, &sockets[i], generation);
        }
    }
    return error;
}

static void take_out(struct server_loop *server_loop, size_t index)
{
    listener_free(server_loop->listeners[index].listener);
    server_loop->listeners[index] = server_loop->listeners[--server_loop->listener_count];
}

void server_listeners_abandon(struct server_loop *server_loop)
{
    for (size_t i = server_loop->listener_count; i > 0; i--) {
        if (server_loop->listeners[i - 1].fresh) {
            take_out(server_loop, i - 1);
        }
    }
}

void server_listeners_apply(struct server_loop *server_loop, const struct listener_socket *sockets,
                            size_t count, const struct server_generation *generation)
{
    for (size_t i = 0; i < server_loop->listener_count; i++) {
        struct server_listener *kept = &server_loop->listeners[i];
        const struct listener_socket *socket = NULL;
        for (size_t k = 0; k < count; k++) {
            socket = sockets[k].id == kept->id ? &sockets[k] : socket;
        }
        kept->fresh = false;
        kept->leaving = socket == NULL;
        if (socket != NULL) {
            const struct listener_settings *settings =
                &generation->config->listeners[socket->setting];
            listener_set(kept->listener, settings, settings->tls ? generation->tls : NULL);
        }
    }
}

void server_listeners_release(struct server_loop *server_loop)
{
    for (size_t i = 0; i < server_loop->listener_count; i++) {
        if (server_loop->listeners[i].leaving) {
            listener_drain(server_loop->listeners[i].listener);
        }
    }
}

bool server_listeners_sweep(struct server_loop *server_loop)
{
    bool leaving = false;

    for (size_t i = server_loop->listener_count; i > 0; i--) {
        struct server_listener *listener = &server_loop->listeners[i - 1];
        if (!listener->leaving) {
            continue;
        }
        if (listener_is_open(listener->listener) || listener_busy(listener->listener)) {
            leaving = true;
        } else {
            take_out(server_loop, i - 1);
        }
    }
    return leaving;
}

void server_listeners_stop(struct server_loop *server_loop)
{
    for (size_t i = 0; i < server_loop->listener_count; i++) {
        listener_stop(server_loop->listeners[i].listener);
    }
}

void server_listeners_drain(struct server_loop *server_loop)
{
    for (size_t i = 0; i < server_loop->listener_count; i++) {
        listener_drain(server_loop->listeners[i].listener);
    }
}

void server_listeners_hold(struct server_loop *server_loop, bool hold)
{
    for (size_t i = 0; i < server_loop->listener_count; i++) {
        listener_hold(server_loop->listeners[i].listener, hold);
    }
}

unsigned server_listeners_open(const struct server_loop *server_loop)
{
    unsigned open = 0;

    for (size_t i = 0; i < server_loop->listener_count; i++) {
        open += listener_is_open(server_loop->listeners[i].listener);
    }
    return open;
}

void server_listeners_close(struct server_loop *server_loop)
{
    while (server_loop->listener_count > 0) {
        take_out(server_loop, server_loop->listener_count - 1);
    }
}
