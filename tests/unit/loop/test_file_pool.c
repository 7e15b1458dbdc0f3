/* SPDX-License-Identifier: MIT */
/* loop/file_pool.c: reads that come back as mail, closing, and what becomes of jobs when the pool ends. */
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "loop/file_pool.h"

#define JOBS 200

static struct loop *loop;
static struct file_pool *pool;
static unsigned delivered, discarded, wanted;

struct read {
    struct file_job job;
    char bytes[8];
};

static void deliver(struct mail *mail, struct loop *in)
{
    (void)mail;
    CHECK(in == loop);
    if (++delivered == wanted) {
        loop_stop(loop);
    }
}

static void discard(struct mail *mail)
{
    (void)mail;
    discarded++;
}

static void begin(unsigned threads)
{
    struct loop_settings settings = {64, 500};
    loop = loop_new(0, &settings);
    pool = file_pool_new(threads);
    CHECK(loop != NULL && pool != NULL);
    delivered = discarded = 0;
}

static void end(void)
{
    CHECK(file_pool_stop(pool, 10 * CLOCK_NS_PER_S));
    loop_free(loop);
    file_pool_free(pool);
}

static void prepare(struct read *read, int fd, uint64_t offset, size_t length)
{
    *read = (struct read){.job = {.mail = {.deliver = deliver, .discard = discard},
                                  .loop = loop,
                                  .fd = fd,
                                  .offset = offset,
                                  .length = length}};
    read->job.buffer = read->bytes;
}

static int ten_bytes(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL && fputs("0123456789", file) >= 0 && fflush(file) == 0);
    int fd = dup(fileno(file));
    fclose(file);
    return fd;
}

TEST(reads_come_back_to_their_loop)
{
    static struct read reads[JOBS];
    CHECK_EQ_INT(metrics_register_thread(), ERROR_NONE);
    uint64_t live = mem_live();
    begin(3);
    int fd = ten_bytes();
    wanted = JOBS;
    for (unsigned i = 0; i < JOBS; i++) {
        prepare(&reads[i], fd, i % 10, 4);
        CHECK_EQ_INT(file_pool_read(pool, &reads[i].job), ERROR_NONE);
    }
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(delivered, JOBS);
    for (unsigned i = 0; i < JOBS; i++) {
        unsigned left = 10 - i % 10;
        CHECK_EQ_INT(reads[i].job.result, left < 4 ? left : 4);
        CHECK_EQ_INT(reads[i].bytes[0], '0' + (int)(i % 10));
    }
    close(fd);
    end();
    CHECK_EQ_INT(mem_live(), live);
}

TEST(the_end_and_failures_are_told)
{
    struct read at_end, bad;
    begin(1);
    int fd = ten_bytes();
    wanted = 2;
    prepare(&at_end, fd, 10, 4);
    prepare(&bad, -1, 0, 4);
    CHECK_EQ_INT(file_pool_read(pool, &at_end.job), ERROR_NONE);
    CHECK_EQ_INT(file_pool_read(pool, &bad.job), ERROR_NONE);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(at_end.job.result, 0);
    CHECK_EQ_INT(bad.job.result, -1);
    CHECK_EQ_INT(bad.job.error, EBADF);
    close(fd);
    end();
}

TEST(a_descriptor_is_closed)
{
    int ends[2];
    char byte;
    begin(1);
    CHECK_EQ_INT(pipe(ends), 0);
    file_pool_close(pool, ends[1]);
    CHECK_EQ_INT(read(ends[0], &byte, 1), 0); /* waits until no writer is left */
    close(ends[0]);
    end();
}

TEST(a_pool_that_never_worked_has_no_threads_to_wait_for)
{
    begin(4);
    end();
    file_pool_free(NULL);
}

CHECK_MAIN
