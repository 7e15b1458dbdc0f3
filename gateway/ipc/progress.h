/* SPDX-License-Identifier: MIT */
/*
 * What a dead worker had begun: the memory page whose word 0 names the last request that was handed to the application
 * (SPEC section 15), and the descriptor that tells whether the process is dead. The page is never mapped here.
 */
#ifndef GATEWAY_IPC_PROGRESS_H
#define GATEWAY_IPC_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* A new page of FRAME_PAGE_SIZE zero bytes, sealed against growing, shrinking and further seals; a descriptor owned by the caller.
 * ERROR_IO: errno says why. */
enum error progress_page_new(int *ret_fd) MUST_CHECK;
/* The id of the last request that was begun; UINT32_MAX (everything) when the page cannot be read wholly (SPEC R109). */
uint32_t progress_started(int page_fd);
/* The heartbeat of the worker's helper thread (SPEC R108); false when it cannot be read. */
bool progress_heartbeat(int page_fd, uint32_t *ret_value);

/* A pidfd of the process at the other end of a connected Unix socket: SO_PEERPIDFD, else pidfd_open of the kernel's `pid`; -1 when
 * there is none to be had (another PID namespace on an old kernel). */
int progress_pidfd(int socket_fd, pid_t pid);
/* Whether the process of a pidfd has ended. Does not wait. */
bool progress_is_dead(int pidfd);

#endif
