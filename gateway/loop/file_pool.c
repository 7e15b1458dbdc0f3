/* SPDX-License-Identifier: MIT */
/*
 * The file threads: one queue under a lock, threads that take from it. It owns jobs from file_pool_read to the post, and descriptors that
 * are to be closed.
 */
#include "loop/file_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"

/* A descriptor on its way to close(). */
struct closing {
    struct list_node in_pool;
    int fd;
};

LIST_DEFINE(file_job_list, struct file_job, in_pool);
LIST_DEFINE(closing_list, struct closing, in_pool);

struct file_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_cond_t ended; /* a thread has */
    struct file_job_list jobs;
    struct closing_list closings;
    unsigned max_threads, threads, idle;
    bool stopping;
};

struct file_pool *file_pool_new(unsigned max_threads)
{
    struct file_pool *pool = mem_calloc(1, sizeof(*pool));
    pthread_condattr_t monotonic;

    if (pool == NULL) {
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    file_job_list_init(&pool->jobs);
    closing_list_init(&pool->closings);
    pool->max_threads = max_threads;
    return pool;
}

void file_pool_limit(struct file_pool *pool, unsigned max_threads)
{
    pthread_mutex_lock(&pool->lock);
    pool->max_threads = max_threads;
    pthread_mutex_unlock(&pool->lock);
}

static void run_job(struct file_job *job)
{
    do {
        job->result = pread(job->fd, job->buffer, job->length, (off_t)job->offset);
    } while (job->result < 0 && errno == EINTR);
    job->error = job->result < 0 ? errno : 0;
    mailbox_post(job->loop, &job->mail);
}

/* Takes one piece of work and does it without the lock. */
static void work_once(struct file_pool *pool)
{
    struct file_job *job = file_job_list_pop(&pool->jobs);
    struct closing *closing = job == NULL ? closing_list_pop(&pool->closings) : NULL;

    pthread_mutex_unlock(&pool->lock);
    if (job != NULL) {
        run_job(job);
    } else {
        close(closing->fd);
        mem_free(closing);
    }
    pthread_mutex_lock(&pool->lock);
}

static void *thread_main(void *argument)
{
    struct file_pool *pool = argument;

    pthread_setname_np(pthread_self(), "gw-file");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        if (!file_job_list_empty(&pool->jobs) || !closing_list_empty(&pool->closings)) {
            work_once(pool);
        } else if (pool->stopping) {
            break;
        } else {
            pool->idle++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->idle--;
        }
    }
    pool->threads--;
    pthread_cond_signal(&pool->ended);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Sees to it that somebody looks at the queue, which has `waiting` pieces of work; under the lock. */
static bool call_thread(struct file_pool *pool, size_t waiting)
{
    if (waiting > pool->idle && pool->threads < pool->max_threads) {
        pthread_t thread;
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        if (pthread_create(&thread, NULL, thread_main, pool) == 0) {
            pthread_detach(thread);
            pool->threads++;
        }
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_cond_signal(&pool->work);
    return pool->threads > 0;
}

enum error file_pool_read(struct file_pool *pool, struct file_job *job)
{
    REQUIRE(job->mail.deliver != NULL && job->mail.discard != NULL);
    METRIC_INCREMENT(file_waits);
    pthread_mutex_lock(&pool->lock);
    REQUIRE(!pool->stopping);
    file_job_list_append(&pool->jobs, job);
    bool called = call_thread(pool, pool->jobs.length + pool->closings.length);
    if (!called) {
        file_job_list_remove(&pool->jobs, job);
    }
    pthread_mutex_unlock(&pool->lock);
    return called ? ERROR_NONE : ERROR_NO_MEMORY;
}

void file_pool_close(struct file_pool *pool, int fd)
{
    struct closing *closing = mem_calloc(1, sizeof(*closing));
    bool called = false;

    if (closing != NULL) {
        closing->fd = fd;
        pthread_mutex_lock(&pool->lock);
        closing_list_append(&pool->closings, closing);
        called = !pool->stopping && call_thread(pool, pool->jobs.length + pool->closings.length);
        if (!called) {
            closing_list_remove(&pool->closings, closing);
        }
        pthread_mutex_unlock(&pool->lock);
    }
    if (!called) {
        mem_free(closing);
        close(fd);
    }
}

bool file_pool_stop(struct file_pool *pool, uint64_t timeout_ns)
{
    uint64_t at = clock_now() + timeout_ns;
    struct timespec until = {.tv_sec = (time_t)(at / CLOCK_NS_PER_S),
                             .tv_nsec = (long)(at % CLOCK_NS_PER_S)};
    struct file_job_list left;
    struct file_job *job;
    int result = 0;

    file_job_list_init(&left);
    pthread_mutex_lock(&pool->lock);
    file_job_list_concat(&left, &pool->jobs);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    while (pool->threads > 0 && result == 0) {
        result = pthread_cond_timedwait(&pool->ended, &pool->lock, &until);
    }
    bool ended = pool->threads == 0;
    pthread_mutex_unlock(&pool->lock);
    while ((job = file_job_list_pop(&left)) != NULL) {
        job->mail.discard(&job->mail);
    }
    return ended;
}

void file_pool_free(struct file_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    REQUIRE(pool->threads == 0 && file_job_list_empty(&pool->jobs) &&
            closing_list_empty(&pool->closings));
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->ended);
    mem_free(pool);
}
