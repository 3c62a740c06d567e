/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The MSS of SYN-ACKs that leave a portal: what the client then sends fits the tunnel it will come in. */
#pragma once

#include <linux/tcp.h>

#include "bpf/agent_parse.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_SIZE 4
#define MAX_TCP_OPTIONS 40 /* bytes */
#define TCP_CHECKSUM_OFFSET 16

/* The TCP header of a SYN-ACK without IPv6 extensions, and its source; 0 if the packet is none. */
static __always_inline struct tcphdr* parse_syn_ack(struct __sk_buff* skb, struct agent_address* source) {
  void* end = (void*)(long)skb->data_end;
  void* ip = (void*)(long)skb->data + sizeof(struct ethhdr);
  struct tcphdr* tcp;
  if (skb->protocol == bpf_htons(ETH_P_IP)) {
    struct iphdr* v4 = ip;
    if ((void*)(v4 + 1) > end || v4->protocol != IPPROTO_TCP || v4->ihl < 5) return 0;
    if ((v4->frag_off & bpf_htons(IPV4_FRAGMENT)) != 0) return 0;
    *source = mapped(v4->saddr);
    tcp = ip + v4->ihl * 4;
  } else {
    struct ipv6hdr* v6 = ip;
    if (skb->protocol != bpf_htons(ETH_P_IPV6) || (void*)(v6 + 1) > end || v6->nexthdr != IPPROTO_TCP)
      return 0;
    *source = wide(&v6->saddr);
    tcp = (void*)(v6 + 1);
  }
  if ((void*)(tcp + 1) > end || !tcp->syn || !tcp->ack || tcp->doff < 5) return 0;
  return tcp;
}

/* Offset of the MSS option's value among `size` bytes of options; 0 if there is none. */
static __always_inline __u32 find_mss(const __u8* options, __u32 size) {
  __u32 at = 0;
  for (int i = 0; i < MAX_TCP_OPTIONS; ++i) {
    if (at + TCP_OPTION_MSS_SIZE > size || at > MAX_TCP_OPTIONS - TCP_OPTION_MSS_SIZE) return 0;
    const __u8 kind = options[at];
    if (kind == TCP_OPTION_END) return 0;
    if (kind == TCP_OPTION_NOP) {
      ++at;
      continue;
    }
    const __u8 length = options[at + 1];
    if (kind == TCP_OPTION_MSS) return length == TCP_OPTION_MSS_SIZE ? at + 2 : 0;
    if (length < 2) return 0;
    at += length;
  }
  return 0;
}

/* 1 if the SYN-ACK announced more than `most`, and does not any longer. `tcp` is its header's offset. */
static __always_inline int clamp_mss(struct __sk_buff* skb, __u32 tcp, __u32 options_size, __u16 most) {
  __u8 options[MAX_TCP_OPTIONS + 4] = {0}; /* and some that is never an option */
  if (options_size == 0 || options_size > MAX_TCP_OPTIONS) return 0;
  if (bpf_skb_load_bytes(skb, tcp + sizeof(struct tcphdr), options, options_size) != 0) return 0;
  const __u32 at = find_mss(options, options_size);
  if (at == 0 || at > MAX_TCP_OPTIONS - 2) return 0;
  const __u16 had = (__u16)(options[at] << 8 | options[at + 1]);
  if (had <= most) return 0;
  /* At an odd offset its bytes belong to two words of the checksum, each in the other's place. */
  const int is_odd = at & 1;
  const __be16 value = bpf_htons(most);
  const __u16 old = is_odd ? had : bpf_htons(had), new = is_odd ? most : value;
  if (bpf_l4_csum_replace(skb, tcp + TCP_CHECKSUM_OFFSET, old, new, sizeof new) != 0) return 0;
  return bpf_skb_store_bytes(skb, tcp + sizeof(struct tcphdr) + at, &value, sizeof value, 0) == 0;
}
