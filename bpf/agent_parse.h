/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a frame on a portal host is: whether it is a tunnel packet, and what is in it. Nothing here writes. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/agent_maps.h"
#include "bpf/gue.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "mapped() and users of words[]");

#define VLAN_HEADER_SIZE 4
#define VLAN_ID 0x0fff
#define IPV4_FRAGMENT 0x3fff /* more-fragments flag and offset */
#define ECN 3

/* A tunnel packet. The outer header has neither options nor extensions, and is whole. */
struct tunnel {
  void* outer;                              /* IP header */
  void* hops;                               /* GUE's private data, whole; null: none of ours */
  void* inner;                              /* IP header, at least 20 or 40 bytes of it */
  struct agent_address source, destination; /* outer */
  __u32 stripped;                           /* bytes from `outer` to `inner` */
  __u8 link_size;                           /* bytes before `outer`: 14, or 18 with a VLAN tag */
  __u8 outer_is_v6, inner_is_v6;
  __u8 outer_ecn;
  __u8 is_gue, is_malformed;
};

static __always_inline struct agent_address mapped(__be32 v4) {
  /* ::ffff:0:0/96 */
  const struct agent_address address = {{0, (__u64)v4 << 32 | bpf_htonl(0xffff)}};
  return address;
}

/* In two loads: of structures whose alignment is not known the compiler reads single bytes. */
static __always_inline struct agent_address wide(const void* v6) {
  const __u64* words = v6;
  const struct agent_address address = {{words[0], words[1]}};
  return address;
}

/* ECN bits of an IP header of which two bytes are there. */
static __always_inline __u8 ecn_of(const __u8* ip, int is_v6) {
  return is_v6 ? ip[1] >> 4 & ECN : ip[1] & ECN;
}

/* Finds the header in GUE, of which `at` is the first byte: 1 if it carries an IP packet. */
static __always_inline int parse_gue(void* at, void* end, struct tunnel* t, __u8* protocol) {
  struct gue_header* gue = at;
  if ((void*)(gue + 1) > end || (gue->first & GUE_VARIANT_AND_CONTROL) != 0) return 0;
  *protocol = gue->protocol;
  t->is_gue = 1;
  const __u32 words = gue->first & GUE_WORDS;
  t->is_malformed = gue->flags != 0;
  t->stripped += sizeof *gue + words * 4;
  if (words == 0) return 1;
  struct gue_hops* hops = (void*)(gue + 1);
  if ((void*)(hops + 1) > end) return 0;
  if (hops->type != bpf_htons(GUE_HOPS_TYPE)) return 1;
  t->hops = hops;
  if (hops->count == 0 || hops->count > GUE_MAX_HOPS || hops->next > hops->count ||
      words != GUE_HOPS_WORDS(hops->count, t->outer_is_v6 ? 16 : 4))
    t->is_malformed = 1;
  return 1;
}

/* The outer IP header; 1 if it is one without options, extensions and fragments. */
static __always_inline int parse_outer(__be16 type, void* end, struct tunnel* t, __u8* protocol) {
  t->outer_is_v6 = type == bpf_htons(ETH_P_IPV6);
  if (t->outer_is_v6) {
    struct ipv6hdr* ip = t->outer;
    if ((void*)(ip + 1) > end || ip->version != 6) return 0;
    t->source = wide(&ip->saddr);
    t->destination = wide(&ip->daddr);
    *protocol = ip->nexthdr;
    t->stripped = sizeof *ip;
  } else {
    struct iphdr* ip = t->outer;
    if (type != bpf_htons(ETH_P_IP) || (void*)(ip + 1) > end || *(__u8*)ip != 0x45) return 0;
    if ((ip->frag_off & bpf_htons(IPV4_FRAGMENT)) != 0) return 0;
    t->source = mapped(ip->saddr);
    t->destination = mapped(ip->daddr);
    *protocol = ip->protocol;
    t->stripped = sizeof *ip;
  }
  t->outer_ecn = ecn_of(t->outer, t->outer_is_v6);
  return 1;
}

/* 1 if the frame is a tunnel packet of a kind that the settings name, with an inner header of which the
 * addresses are there. */
static __always_inline int parse_tunnel(void* data, void* end, const volatile struct agent_settings* settings,
                                        struct tunnel* t) {
  struct ethhdr* ethernet = data;
  if ((void*)(ethernet + 1) > end) return 0;
  __be16 type = ethernet->h_proto;
  t->link_size = sizeof *ethernet;
  t->outer = ethernet + 1;
  if (type == bpf_htons(ETH_P_8021Q)) {
    if (t->outer + VLAN_HEADER_SIZE > end) return 0;
    type = *(__be16*)(t->outer + 2);
    t->link_size += VLAN_HEADER_SIZE;
    t->outer += VLAN_HEADER_SIZE;
  }
  __u8 protocol;
  if (!parse_outer(type, end, t, &protocol)) return 0;
  t->hops = 0;
  t->is_gue = 0;
  t->is_malformed = 0;
  if (protocol == IPPROTO_UDP) {
    struct udphdr* udp = t->outer + t->stripped;
    if (settings->gue_port == 0 || (void*)(udp + 1) > end || udp->dest != settings->gue_port) return 0;
    t->stripped += sizeof *udp;
    if (!parse_gue(udp + 1, end, t, &protocol)) return 0;
  } else if (!settings->ipip) {
    return 0;
  }
  if (protocol != IPPROTO_IPIP && protocol != IPPROTO_IPV6) return 0;
  t->inner_is_v6 = protocol == IPPROTO_IPV6;
  t->inner = t->outer + t->stripped;
  if (t->inner + (t->inner_is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > end) return 0;
  return *(__u8*)t->inner >> 4 == (t->inner_is_v6 ? 6 : 4);
}

static __always_inline struct agent_address inner_destination(const struct tunnel* t) {
  if (t->inner_is_v6) return wide(&((struct ipv6hdr*)t->inner)->daddr);
  return mapped(((struct iphdr*)t->inner)->daddr);
}
