/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is changed in tunnel packets before they are taken or passed on, with their checksums (RFC 1624, in
 * any byte order: RFC 1071). */
#pragma once

#include "bpf/agent_parse.h"

static __always_inline __u16 folded(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)sum;
}

/* The checksum of what had `old` in it and now has `new`: sums of 16- or 32-bit words. */
static __always_inline __u16 adjusted(__u16 checksum, __u64 old, __u64 new) {
  return (__u16)~folded((__u64)(__u16)~checksum + (__u16)~folded(old) + folded(new));
}

/* Gives the inner header the ECN bits that outer and inner make together (RFC 6040, section 4.2). 0 if the
 * packet must be dropped: it met congestion and cannot say so. `difference` is what the sum of an IPv6
 * header's 16-bit words grew by, for the kernel's own sum of the packet; an IPv4 header makes up for it. */
static __always_inline int combine_ecn(struct tunnel* t, void* end, __u32* difference) {
  if (t->inner + sizeof(struct iphdr) > end) return 0;
  __u8* byte = t->inner + 1;
  const __u8 inner = ecn_of(t->inner, t->inner_is_v6);
  *difference = 0;
  if (t->outer_ecn == 0 || t->outer_ecn == inner || inner == ECN) return 1;
  if (inner == 0) return t->outer_ecn != ECN; /* ECT on what has none: an old ingress, no congestion */
  if (t->outer_ecn == 2) return 1;            /* ECT(0) says no more than inner ECT(1) */
  const __u16 old = *(__u16*)t->inner;
  const __u8 shift = t->inner_is_v6 ? 4 : 0;
  *byte = (__u8)((*byte & ~(ECN << shift)) | t->outer_ecn << shift);
  const __u16 new = *(__u16*)t->inner;
  if (t->inner_is_v6) {
    *difference = (__u32) new + (__u16)~old;
  } else {
    struct iphdr* ip = t->inner;
    ip->check = adjusted(ip->check, old, new);
  }
  return 1;
}

static __always_inline __u64 sum_of(const struct agent_address* address) {
  return (address->words[0] & 0xffffffff) + (address->words[0] >> 32) + (address->words[1] & 0xffffffff) +
         (address->words[1] >> 32);
}

/* The next hop of a packet that has one left; 0 if it lies beyond the frame's end, which it cannot. */
static __always_inline int next_hop(const struct tunnel* t, void* end, struct agent_address* address) {
  struct gue_hops* hops = t->hops;
  void* first = hops + 1;
  if (first > end) return 0;
  const __u32 next = hops->next;
  if (next >= GUE_MAX_HOPS) return 0;
  if (t->outer_is_v6) {
    void* at = first + next * 16;
    if (at + 16 > end) return 0;
    *address = wide(at);
  } else {
    __be32* at = first + next * 4;
    if ((void*)(at + 1) > end) return 0;
    *address = mapped(*at);
  }
  return 1;
}

/* Addresses the outer header to the next hop and notes that it was tried. 0 if the outer TTL is used up. */
static __always_inline int pass_on(struct tunnel* t, void* end, const struct agent_address* to) {
  struct gue_hops* hops = t->hops;
  struct udphdr* udp;
  const __u16 old_index = *(__u16*)&hops->next;
  __u64 old, new = sum_of(to);
  if (t->outer_is_v6) {
    struct ipv6hdr* ip = t->outer;
    if ((void*)(ip + 1) + sizeof *udp > end || ip->hop_limit <= 1) return 0;
    --ip->hop_limit;
    __builtin_memcpy(&ip->daddr, to, sizeof ip->daddr);
    udp = (void*)(ip + 1);
    old = sum_of(&t->destination);
  } else {
    struct iphdr* ip = t->outer;
    if ((void*)(ip + 1) + sizeof *udp > end || ip->ttl <= 1) return 0;
    const __u16 old_ttl = *(__u16*)&ip->ttl;
    --ip->ttl;
    old = ip->daddr;
    ip->daddr = (__be32)(to->words[1] >> 32);
    new = ip->daddr;
    ip->check = adjusted(ip->check, old + old_ttl, new + *(__u16*)&ip->ttl);
    udp = (void*)(ip + 1);
  }
  ++hops->next;
  if (udp->check != 0) {
    const __u16 sum = adjusted(udp->check, old + old_index, new + *(__u16*)&hops->next);
    udp->check = sum != 0 ? sum : 0xffff;
  }
  return 1;
}
