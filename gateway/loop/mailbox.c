/* SPDX-License-Identifier: MIT */
/*
 * The way into a loop from other threads: a list under a lock, and an eventfd that wakes the poll.
 * It owns the messages from the post to the delivery.
 */
#include "loop/mailbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/metrics.h"
#include "loop/loop_state.h"

void mailbox_wake(struct loop *loop)
{
    uint64_t one = 1;

    /* The only failures are a full counter (the loop is woken anyway) and a signal. */
    while (write(loop->mailbox_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

void mailbox_post(struct loop *loop, struct mail *mail)
{
    REQUIRE_OBJECT(loop, LOOP_MAGIC);
    REQUIRE(mail->deliver != NULL && mail->discard != NULL);
    pthread_mutex_lock(&loop->mailbox_lock);
    bool was_empty = mail_list_empty(&loop->mailbox_inbox);
    mail_list_append(&loop->mailbox_inbox, mail);
    pthread_mutex_unlock(&loop->mailbox_lock);
    METRIC_INCREMENT(mailbox_messages);
    if (was_empty) {
        mailbox_wake(loop);
    }
}

/* Runs as a callback of its own for the counting, and each message as another. */
static void mailbox_ready(struct loop_io *io, unsigned events)
{
    struct loop *loop = io->loop;
    uint64_t count;

    (void)events;
    /* First the descriptor, then the list: a message that comes between the two is taken, and
     * wakes once too often. */
    ssize_t got = read(loop->mailbox_fd, &count, sizeof(count));
    REQUIRE(got == (ssize_t)sizeof(count) || errno == EAGAIN || errno == EINTR);
    pthread_mutex_lock(&loop->mailbox_lock);
    mail_list_concat(&loop->mailbox_opened, &loop->mailbox_inbox);
    pthread_mutex_unlock(&loop->mailbox_lock);
}

void mailbox_deliver(struct loop *loop)
{
    struct mail *mail;

    while ((mail = mail_list_pop(&loop->mailbox_opened)) != NULL) {
        loop_callback_begin(loop);
        mail->deliver(mail, loop);
        loop_callback_end(loop);
    }
}

enum error mailbox_init(struct loop *loop)
{
    loop->mailbox_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->mailbox_fd < 0) {
        return ERROR_IO;
    }
    loop_io_init(&loop->mailbox_io, loop, loop->mailbox_fd, mailbox_ready);
    return loop_io_set(&loop->mailbox_io, LOOP_READ);
}

static void mailbox_discard(struct mail_list *list)
{
    struct mail *mail;

    while ((mail = mail_list_pop(list)) != NULL) {
        mail->discard(mail);
    }
}

void mailbox_done(struct loop *loop)
{
    mailbox_discard(&loop->mailbox_opened);
    mailbox_discard(&loop->mailbox_inbox);
    loop_io_done(&loop->mailbox_io);
    if (loop->mailbox_fd >= 0) {
        close(loop->mailbox_fd);
        loop->mailbox_fd = -1;
    }
}
