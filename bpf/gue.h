/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What stands between a tunnel's outer UDP header and the inner packet in mode dsr-gue: Generic UDP
 * Encapsulation, variant 0 (draft-ietf-intarea-gue-09), with the further hops of a second chance as its
 * private data. For the dataplane, which writes it, and for the programs on the portal hosts, which read it.
 * docs/gue.md has the rules for both. */
#pragma once

#include <linux/types.h>

/* The draft's UDP port. */
#define GUE_DEFAULT_PORT 6080

/* Of UDP source ports, which stand for the flow (draft, section 5.11): the first one, and how many bits of
 * the flow's hash are added. */
#define GUE_FIRST_SOURCE_PORT 49152
#define GUE_SOURCE_PORT_BITS 14

/* First byte: variant in the two high bits, then the control bit, then the words (of 4 bytes) that follow the
 * first one. Variant 0 carries data if the control bit is not set. */
#define GUE_VARIANT_AND_CONTROL 0xe0
#define GUE_WORDS 0x1f

struct gue_header {
  __u8 first;
  __u8 protocol; /* of the inner packet: IPPROTO_IPIP (4) or IPPROTO_IPV6 (41) */
  __be16 flags;  /* of extension fields: none here, 0 */
};

/* The private data, where there is any: then `count` addresses of the outer header's family, 4 or 16 bytes
 * each, in network byte order and in the order in which they are to be tried. */
struct gue_hops {
  __be16 type; /* GUE_HOPS_TYPE: private data has no registry, and others may use it otherwise */
  __u8 next;   /* index of the first hop that has not been tried; 0 as the balancer sends it; count: none is
                  left */
  __u8 count;  /* 1..GUE_MAX_HOPS */
};
#define GUE_HOPS_TYPE 0x5043 /* "PC" */
#define GUE_MAX_HOPS 3

/* GUE_WORDS of a packet with so many hops of addresses of so many bytes; without hops it is 0. */
#define GUE_HOPS_WORDS(count, address_bytes) (1 + (count) * ((address_bytes) / 4))
