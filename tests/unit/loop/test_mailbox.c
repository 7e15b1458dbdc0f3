/* SPDX-License-Identifier: MIT */
/* loop/mailbox.c: many senders, order, messages between two loops, and what is left when a loop
 * ends. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "loop/mailbox.h"

#define SENDERS 4
#define MESSAGES 5000

static struct loop *loops[2];
static size_t delivered, discarded;

struct message {
    struct mail mail;
    int sender, number;
};

static int next_number[SENDERS];

static struct loop *open_loop(unsigned index)
{
    struct loop_settings settings = {64, 500};
    struct loop *loop = loop_new(index, &settings);

    CHECK(loop != NULL);
    delivered = discarded = 0;
    return loop;
}

static void discard(struct mail *mail)
{
    discarded++;
    mem_free(LIST_CONTAINER(mail, struct message, mail));
}

static void deliver(struct mail *mail, struct loop *loop)
{
    struct message *message = LIST_CONTAINER(mail, struct message, mail);

    loop_assert_owner(loop);
    CHECK_EQ_INT(message->number, next_number[message->sender]++);
    mem_free(message);
    if (++delivered == (size_t)SENDERS * MESSAGES) {
        loop_stop(loop);
    }
}

static struct message *message_new(void (*on_delivery)(struct mail *mail, struct loop *loop))
{
    struct message *message = mem_calloc(1, sizeof(*message));

    REQUIRE(message != NULL);
    message->mail.deliver = on_delivery;
    message->mail.discard = discard;
    return message;
}

static void *send_many(void *sender)
{
    for (int i = 0; i < MESSAGES; i++) {
        struct message *message = message_new(deliver);
        message->sender = *(int *)sender;
        message->number = i;
        mailbox_post(loops[0], &message->mail);
    }
    return NULL;
}

TEST(mailbox_keeps_all_messages_of_many_senders_in_order)
{
    uint64_t live = mem_live();
    pthread_t threads[SENDERS];
    int numbers[SENDERS];

    loops[0] = open_loop(0);
    memset(next_number, 0, sizeof(next_number));
    for (int i = 0; i < SENDERS; i++) {
        numbers[i] = i;
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, send_many, &numbers[i]), 0);
    }
    CHECK_EQ_INT(loop_run(loops[0]), ERROR_NONE);
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ_INT(next_number[i], MESSAGES);
    }
    loop_free(loops[0]);
    CHECK(mem_live() <= live + 1); /* this thread's metrics shard stays */
}

/* One message goes to and fro between two loops; each touches it without a lock while it has it. */
static void bounce(struct mail *mail, struct loop *loop)
{
    struct message *message = LIST_CONTAINER(mail, struct message, mail);

    loop_assert_owner(loop);
    CHECK_EQ_INT(loop_index(loop), message->number % 2);
    if (++message->number == 2000) {
        mem_free(message);
        loop_stop(loops[0]);
        loop_stop(loops[1]);
        return;
    }
    mailbox_post(loops[message->number % 2], mail);
}

static void *run_loop(void *loop)
{
    REQUIRE(loop_run(loop) == ERROR_NONE);
    return NULL;
}

TEST(mailbox_moves_messages_between_loops)
{
    pthread_t threads[2];
    struct message *message = message_new(bounce);

    for (unsigned i = 0; i < 2; i++) {
        loops[i] = open_loop(i);
    }
    mailbox_post(loops[0], &message->mail);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, run_loop, loops[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 2; i++) {
        loop_free(loops[i]);
    }
}

static _Atomic int stops_wanted;

static void *stop_later(void *loop)
{
    while (atomic_load(&stops_wanted) == 0) {
    }
    loop_stop(loop);
    return NULL;
}

static void first_delivery(struct mail *mail, struct loop *loop)
{
    (void)loop;
    mem_free(LIST_CONTAINER(mail, struct message, mail));
    atomic_store(&stops_wanted, 1);
}

TEST(loop_stop_wakes_a_sleeping_loop)
{
    pthread_t thread;

    loops[0] = open_loop(0);
    atomic_store(&stops_wanted, 0);
    mailbox_post(loops[0], &message_new(first_delivery)->mail);
    CHECK_EQ_INT(pthread_create(&thread, NULL, stop_later, loops[0]), 0);
    CHECK_EQ_INT(loop_run(loops[0]), ERROR_NONE);
    pthread_join(thread, NULL);
    loop_free(loops[0]);
}

static void own_mail_again(struct mail *mail, struct loop *loop)
{
    struct message *message = LIST_CONTAINER(mail, struct message, mail);

    delivered++;
    if (++message->number < 10) {
        mailbox_post(loop, mail);
        return;
    }
    mem_free(message);
    loop_stop(loop);
}

TEST(own_mail_comes_in_the_next_turn)
{
    loops[0] = open_loop(0);
    mailbox_post(loops[0], &message_new(own_mail_again)->mail);
    CHECK_EQ_INT(loop_run(loops[0]), ERROR_NONE);
    CHECK_EQ_INT(delivered, 10);
    loop_free(loops[0]);
}

TEST(undelivered_mail_is_discarded)
{
    uint64_t live = mem_live();

    loops[0] = open_loop(0);
    for (int i = 0; i < 3; i++) {
        mailbox_post(loops[0], &message_new(deliver)->mail);
    }
    loop_free(loops[0]);
    CHECK_EQ_INT(delivered, 0);
    CHECK_EQ_INT(discarded, 3);
    CHECK_EQ_INT(mem_live(), live);
}

CHECK_MAIN
