/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Names, keys and values of the steering program's maps: for the program and for dataplane/steering.cc.
 * Addresses as in contract/address.h: 16 bytes, IPv4 as ::ffff:a.b.c.d. */
#pragma once

#include <linux/types.h>

/* The kernel cuts names of programs and maps after 15 characters; these are shorter. */
#define STEER_PROGRAM_NAME "portico_steer"
#define STEER_XSKS_MAP "xsks_map" /* the name net_af_xdp looks for: queue -> AF_XDP socket */
#define STEER_LISTENERS_MAP "listeners"
#define STEER_NAT_MAP "nat"
#define STEER_ADDRESSES_MAP "addresses"
#define STEER_TUNNELS_MAP "tunnels"
#define STEER_DNAT_MAP "dnat"
#define STEER_OWN_MAP "own"
#define STEER_VERDICTS_MAP "verdicts"
#define STEER_OWNER_MAP                                                              \
  "owner" /* made and bound to the program by its owner; the program does not use it \
           */

/* Room for two generations: new entries go in before stale ones leave. dataplane/steering.cc asserts the
 * relation to contract/limits.h. */
#define STEER_MAX_LISTENERS 8192
#define STEER_MAX_NAT 128
#define STEER_MAX_ADDRESSES (STEER_MAX_LISTENERS + STEER_MAX_NAT)
#define STEER_MAX_TUNNELS 4 /* one of each family */
#define STEER_MAX_DNAT 16384
#define STEER_MAX_OWN 2048
#define STEER_MAX_QUEUES 256

struct steer_address {
  __u8 bytes[16];
};

/* Key of `listeners` and `dnat`. Their values and those of `addresses` and `own` mean nothing. */
struct steer_endpoint {
  struct steer_address address;
  __be16 port;
  __u16 zero;
};

/* Key of `tunnels`; its value means nothing. `length` in bits of the address's 16 bytes. */
struct steer_prefix {
  __u32 length;
  struct steer_address address;
};

/* Value of `nat`: ports in host byte order, inclusive. */
struct steer_port_range {
  __u16 first, last;
};

/* The one value of `owner`: the process whose sockets are in xsks_map. */
struct steer_owner {
  __u64 start_time; /* /proc/PID/stat, field 22: tells a reused process id */
  __u32 process;
  __u32 zero;
};

/* Indexes of `verdicts`. */
enum steer_verdict {
  STEER_TO_KERNEL = 0,
  STEER_TO_DATAPLANE = 1,
  STEER_NO_SOCKET = 2, /* ours, but nobody polls that queue: dropped, lest the kernel answer */
  STEER_VERDICTS = 3,
};
