/* SPDX-License-Identifier: MIT */
/*
 * Flow control against a model: a sender and a receiver with a wire between them that delays frames and WINDOWs as the input
 * says. Whatever the order: bytes in = bytes out + buffered, buffered <= window, the peer is never overrun, and nobody waits for
 * ever when all was consumed.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "ipc/credit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WIRE 512 /* frames and WINDOWs under way; a power of two */
#define WINDOW 65536u

struct wire {
    uint32_t items[WIRE];
    size_t first, count;
};

struct model {
    struct credit_out out;
    struct credit_in in;
    struct wire frames, windows;
    uint64_t sent, received, consumed; /* payload bytes */
    uint64_t on_wire, grants_on_wire;  /* costs, increments */
};

static int wire_put(struct wire *wire, uint32_t item)
{
    if (wire->count == WIRE) {
        return 0;
    }
    wire->items[(wire->first + wire->count++) % WIRE] = item;
    return 1;
}

static uint32_t wire_take(struct wire *wire)
{
    uint32_t item = wire->items[wire->first];

    wire->first = (wire->first + 1) % WIRE;
    wire->count--;
    return item;
}

static void check(const struct model *m)
{
    REQUIRE(m->sent >= m->received && m->received == m->consumed + m->in.held);
    REQUIRE((uint64_t)m->in.available + m->in.consumed + m->in.held + m->in.overhead == WINDOW);
    REQUIRE(m->in.held <= WINDOW);
    /* What the receiver believes the sender to have is what it has, and what is under way. */
    REQUIRE(m->in.available == m->out.available + m->on_wire + m->grants_on_wire);
}

static void send_frame(struct model *m, uint32_t most)
{
    uint32_t room = credit_out_room(&m->out, most);

    if (room == 0 || m->frames.count == WIRE) {
        return;
    }
    credit_out_pay(&m->out, room + FRAME_DATA_OVERHEAD);
    REQUIRE(wire_put(&m->frames, room));
    m->sent += room;
    m->on_wire += room + FRAME_DATA_OVERHEAD;
}

static void deliver_frame(struct model *m)
{
    if (m->frames.count == 0) {
        return;
    }
    uint32_t length = wire_take(&m->frames);
    REQUIRE(credit_in_take(&m->in,
                           length)); /* a sender that keeps the rules is never found in breach */
    m->received += length;
    m->on_wire -= length + FRAME_DATA_OVERHEAD;
}

static void flush_window(struct model *m)
{
    if (credit_in_due(&m->in) > 0 && m->windows.count < WIRE) {
        uint32_t increment = credit_in_grant(&m->in);
        REQUIRE(wire_put(&m->windows, increment));
        m->grants_on_wire += increment;
    }
}

static void deliver_window(struct model *m)
{
    if (m->windows.count > 0) {
        uint32_t increment = wire_take(&m->windows);
        m->grants_on_wire -= increment;
        REQUIRE(credit_out_grant(&m->out, increment));
    }
}

static void consume(struct model *m, uint32_t length)
{
    length = length < m->in.held ? length : m->in.held;
    credit_in_release(&m->in, length);
    m->consumed += length;
}

/* A sender that overruns is always found out, and nothing is taken from it. */
static void overrun(struct model *m)
{
    struct credit_in before = m->in;

    REQUIRE(!credit_in_take(&m->in, m->in.available));
    REQUIRE(!credit_in_take(&m->in, UINT32_MAX));
    REQUIRE(before.available == m->in.available && before.held == m->in.held);
    struct credit_out out = m->out;
    REQUIRE(!credit_out_grant(&out, WINDOW - out.available + 1));
    REQUIRE(!credit_out_grant(&out, UINT32_MAX));
    REQUIRE(out.available == m->out.available);
}

/* With everything delivered and consumed the sender can go on. */
static void settle(struct model *m)
{
    for (int i = 0; i < 8 * WIRE; i++) {
        deliver_frame(m);
        consume(m, UINT32_MAX);
        flush_window(m);
        deliver_window(m);
    }
    check(m);
    REQUIRE(m->frames.count == 0 && m->windows.count == 0);
    REQUIRE(m->sent == m->consumed);
    REQUIRE(m->out.available >= CREDIT_LEAST);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model m;

    m = (struct model){.sent = 0};
    credit_out_init(&m.out, WINDOW, WINDOW);
    credit_in_init(&m.in, WINDOW);
    for (size_t i = 0; i + 2 < size; i += 3) {
        uint32_t amount = (uint32_t)data[i + 1] << 8 | data[i + 2];
        switch (data[i] % 6) {
        case 0:
            send_frame(&m, amount + 1);
            break;
        case 1:
            deliver_frame(&m);
            break;
        case 2:
            consume(&m, amount);
            break;
        case 3:
            flush_window(&m);
            break;
        case 4:
            deliver_window(&m);
            break;
        default:
            overrun(&m);
            break;
        }
        check(&m);
    }
    settle(&m);
    return 0;
}
