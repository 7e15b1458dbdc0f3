/* SPDX-License-Identifier: MIT */
/*
 * A transport without a peer: bytes to be read are put in, bytes that were written are taken out, and how much of either goes at a time
 * is chosen. Its descriptor is an eventfd, which is always writable. Used by the unit tests and the fuzz target.
 */
#ifndef TESTS_UNIT_H2_H2_FAKE_H
#define TESTS_UNIT_H2_H2_FAKE_H

#include <sys/eventfd.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "net/transport.h"
#include "net/transport_core.h"

struct fake_wire {
    struct strbuf in; /* not yet read by the gateway */
    size_t in_taken;
    struct strbuf out;                  /* written by the gateway */
    size_t read_most, write_most;       /* at a time; write_most 0: the socket is full */
    bool ended, reset;                  /* of the client's side */
    bool shut, closed, closed_by_reset; /* of the gateway's */
};

struct fake_transport {
    struct transport base;
    struct fake_wire *wire; /* outlives it */
};

static inline struct fake_wire *fake_wire_of(struct transport *transport)
{
    return LIST_CONTAINER(transport, struct fake_transport, base)->wire;
}

static inline enum error fake_read(struct transport *transport, void *out, size_t size,
                                   size_t *ret_length)
{
    struct fake_wire *wire = fake_wire_of(transport);
    size_t left = wire->in.length - wire->in_taken;
    if (wire->reset) {
        return transport_fail(transport);
    }
    if (left == 0) {
        return wire->ended ? ERROR_CLOSED : ERROR_AGAIN;
    }
    size_t length = size < left ? size : left;
    length = length < wire->read_most ? length : wire->read_most;
    memcpy(out, wire->in.data + wire->in_taken, length);
    wire->in_taken += length;
    *ret_length = length;
    transport_count_in(transport, length);
    return ERROR_NONE;
}

static inline enum error fake_writev(struct transport *transport, const struct iovec *vectors,
                                     size_t count, size_t *ret_length)
{
    struct fake_wire *wire = fake_wire_of(transport);
    size_t taken = 0;
    if (wire->reset) {
        return transport_fail(transport);
    }
    for (size_t i = 0; i < count && taken < wire->write_most; i++) {
        size_t room = wire->write_most - taken;
        size_t part = vectors[i].iov_len < room ? vectors[i].iov_len : room;
        strbuf_append(&wire->out, vectors[i].iov_base, part);
        taken += part;
    }
    if (taken == 0) {
        return ERROR_AGAIN;
    }
    *ret_length = taken;
    transport_count_out(transport, taken);
    return ERROR_NONE;
}

static inline enum error fake_shutdown(struct transport *transport)
{
    fake_wire_of(transport)->shut = true;
    return ERROR_NONE;
}

static inline void fake_free(struct loop_grave *grave)
{
    struct transport *base = LIST_CONTAINER(grave, struct transport, grave);
    mem_free(LIST_CONTAINER(base, struct fake_transport, base));
}

static inline void fake_destroy(struct transport *transport, bool reset)
{
    struct fake_wire *wire = fake_wire_of(transport);
    wire->closed = true;
    wire->closed_by_reset = reset;
    transport_close(transport, reset, fake_free);
}

static const struct transport_ops fake_ops = {
    .read = fake_read, .writev = fake_writev, .shutdown = fake_shutdown, .destroy = fake_destroy};

static inline void fake_wire_init(struct fake_wire *wire)
{
    *wire = (struct fake_wire){.read_most = SIZE_MAX, .write_most = SIZE_MAX};
    strbuf_init(&wire->in);
    strbuf_init(&wire->out);
}

static inline void fake_wire_done(struct fake_wire *wire)
{
    strbuf_done(&wire->in);
    strbuf_done(&wire->out);
}

/* A transport over `wire`; NULL when memory or descriptors are out. */
static inline struct transport *fake_transport_new(struct loop *loop, struct fake_wire *wire)
{
    static const struct addr nobody = {.length = 0};
    struct fake_transport *fake = mem_calloc(1, sizeof *fake);
    int fd = fake != NULL ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (fd < 0) {
        mem_free(fake);
        return NULL;
    }
    fake->wire = wire;
    transport_init(&fake->base, &fake_ops, loop, fd, &nobody, &nobody);
    return &fake->base;
}

#endif
