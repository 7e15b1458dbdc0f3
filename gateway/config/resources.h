/* SPDX-License-Identifier: MIT */
/*
 * What the machine and the cgroup give: processors, memory, descriptors. For the options whose default is "auto".
 */
#ifndef GATEWAY_CONFIG_RESOURCES_H
#define GATEWAY_CONFIG_RESOURCES_H

#include <stdint.h>

#include "base/error.h"

#define RESOURCES_DESCRIPTORS_RESERVED 90u /* for apps, logs, listeners, the admin socket */

/* Processors: the affinity mask, and the quota of the cgroup (v2 cpu.max, v1 cfs_quota_us) rounded up; at least 1. */
unsigned resources_cpus(void);
/* Bytes of memory: the smaller of the machine's and the cgroup's limit (v2 memory.max, v1 limit_in_bytes). */
uint64_t resources_memory(void);
/* The hard limit of descriptors. */
uint64_t resources_descriptors(void);
/* Raises the soft limit of descriptors to the hard one. ERROR_IO: errno says why not. Once, at start. */
enum error resources_raise_descriptors(void) MUST_CHECK;

#endif
