/* SPDX-License-Identifier: MIT */
/*
 * What crosses from one thread to a loop, crosses as a message that moves: the sender gives it up,
 * the loop runs its `deliver` and owns it from then on. The only lock between loops is the
 * mailbox's own.
 */
#ifndef GATEWAY_LOOP_MAILBOX_H
#define GATEWAY_LOOP_MAILBOX_H

#include "base/list.h"
#include "loop/loop.h"

struct mail {
    struct list_node in_mailbox;
    /* Runs in the loop's thread as a callback of a turn and consumes the message. */
    void (*deliver)(struct mail *mail, struct loop *loop);
    /* Frees the message when the loop ends without having delivered it (closes descriptors that
     * it carries). */
    void (*discard)(struct mail *mail);
};

/* Moves the message to the loop and wakes it (one wake-up for many messages). Any thread, any
 * number of senders; a loop's own mail is delivered in the next turn. Order between one sender and
 * one loop is kept. */
void mailbox_post(struct loop *loop, struct mail *mail);

#endif
