/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Second chance: whether the connection of an inner packet is this host's. */
#pragma once

#include <linux/tcp.h>

#include "bpf/agent_parse.h"

/* Extension headers of an inner packet that are looked at. */
#define MAX_INNER_EXTENSIONS 4
#define LONGEST_INNER_HEADERS 0x3fff /* bytes; no frame is longer */
#define ICMP_HEADER_SIZE 8
#define TCP_STATE_LISTEN 10
/* ICMP types that are errors about a packet: RFC 792, RFC 4443. <linux/icmp.h> needs libc. */
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_LAST_ERROR 4

struct tcp_ports {
  __be16 source, destination;
};

struct extension {
  __u8 next_header, length; /* in 8 bytes, without the first 8 */
  __u8 options[6];
};

/* Where the payload of the IP packet at `ip` begins and of which protocol it is; null if it is a fragment, or
 * not all there. */
static __always_inline void* ip_payload(void* ip, void* end, int is_v6, __u8* protocol) {
  if (!is_v6) {
    struct iphdr* v4 = ip;
    if ((void*)(v4 + 1) > end || v4->ihl < 5 || (v4->frag_off & bpf_htons(IPV4_FRAGMENT)) != 0) return 0;
    *protocol = v4->protocol;
    return ip + v4->ihl * 4;
  }
  struct ipv6hdr* v6 = ip;
  if ((void*)(v6 + 1) > end) return 0;
  __u8 next = v6->nexthdr;
  __u64 offset = sizeof *v6;
  for (int i = 0; i < MAX_INNER_EXTENSIONS; ++i) {
    if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS) break;
    struct extension* extension = ip + offset;
    if ((void*)(extension + 1) > end) return 0;
    next = extension->next_header;
    offset += 8 + extension->length * 8;
    /* For the verifier: where the ways meet it goes on once. */
    asm volatile("" : "+r"(offset));
    if (offset > LONGEST_INNER_HEADERS) return 0;
  }
  *protocol = next;
  return next == IPPROTO_FRAGMENT ? 0 : ip + offset;
}

/* The key of the socket of this host that has the packet at `ip`. `is_reply`: that it has sent. */
static __always_inline __u32 socket_key(void* ip, int is_v6, const struct tcp_ports* ports, int is_reply,
                                        struct bpf_sock_tuple* key) {
  const __be16 remote = is_reply ? ports->destination : ports->source;
  const __be16 local = is_reply ? ports->source : ports->destination;
  if (is_v6) {
    struct ipv6hdr* v6 = ip;
    __builtin_memcpy(key->ipv6.saddr, is_reply ? &v6->daddr : &v6->saddr, sizeof key->ipv6.saddr);
    __builtin_memcpy(key->ipv6.daddr, is_reply ? &v6->saddr : &v6->daddr, sizeof key->ipv6.daddr);
    key->ipv6.sport = remote;
    key->ipv6.dport = local;
    return sizeof key->ipv6;
  }
  struct iphdr* v4 = ip;
  key->ipv4.saddr = is_reply ? v4->daddr : v4->saddr;
  key->ipv4.daddr = is_reply ? v4->saddr : v4->daddr;
  key->ipv4.sport = remote;
  key->ipv4.dport = local;
  return sizeof key->ipv4;
}

/* Who has a connection: established, in TIME_WAIT or SYN_RECV is here. A listener has every connection that
 * nobody else has, so it counts only for the answer to a SYN cookie of its own. `tcp`: null if the packet is
 * not the client's own segment. */
static __always_inline enum agent_counter ask_sockets(void* context, struct bpf_sock_tuple* key,
                                                      __u32 key_size, __s32 netns, void* ip, int is_v6,
                                                      struct tcphdr* tcp) {
  struct bpf_sock* socket = bpf_skc_lookup_tcp(context, key, key_size, (__u64)(__s64)netns, 0);
  if (!socket) return AGENT_PASSED_ON;
  enum agent_counter verdict = AGENT_TAKEN_SOCKET;
  if (socket->state == TCP_STATE_LISTEN) {
    verdict = AGENT_PASSED_ON;
    if (tcp && bpf_tcp_check_syncookie(socket, ip, is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr), tcp,
                                       sizeof *tcp) == 0)
      verdict = AGENT_TAKEN_COOKIE;
  }
  bpf_sk_release(socket);
  return verdict;
}

static __always_inline int is_error(__u8 protocol, __u8 type, int is_v6) {
  if (is_v6) return protocol == IPPROTO_ICMPV6 && type >= 1 && type <= ICMPV6_LAST_ERROR;
  return protocol == IPPROTO_ICMP &&
         (type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM);
}

/* What is to become of an inner packet that has hops left: one of AGENT_TAKEN_*, or AGENT_PASSED_ON. */
static __always_inline enum agent_counter judge_owner(void* context, void* end, const struct tunnel* t,
                                                      __s32 netns) {
  const int is_v6 = t->inner_is_v6;
  struct bpf_sock_tuple key;
  __u8 protocol = 0;
  void* at = ip_payload(t->inner, end, is_v6, &protocol);
  if (!at) return AGENT_TAKEN_UNTOLD;
  if (protocol == IPPROTO_TCP) {
    struct tcphdr* tcp = at;
    if ((void*)(tcp + 1) > end) return AGENT_TAKEN_UNTOLD;
    if (tcp->syn && !tcp->ack) return AGENT_TAKEN_SYN;
    const __u32 size = socket_key(t->inner, is_v6, at, 0, &key);
    return ask_sockets(context, &key, size, netns, t->inner, is_v6, tcp);
  }
  if (at + ICMP_HEADER_SIZE > end || !is_error(protocol, *(__u8*)at, is_v6)) return AGENT_TAKEN_UNTOLD;
  /* An error about what the connection's host has sent. */
  void* embedded = at + ICMP_HEADER_SIZE;
  void* ports = ip_payload(embedded, end, is_v6, &protocol);
  if (!ports || protocol != IPPROTO_TCP || ports + sizeof(struct tcp_ports) > end) return AGENT_TAKEN_UNTOLD;
  const __u32 size = socket_key(embedded, is_v6, ports, 1, &key);
  return ask_sockets(context, &key, size, netns, embedded, is_v6, 0);
}
