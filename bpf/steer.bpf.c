/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Decides which frames of an interface are the dataplane's; everything else stays with the kernel.
 *
 * The dataplane's are: TCP to a listener, TCP to the NAT ports of a NAT address, fragments of TCP to either
 * one's address (any fragment: only the first has ports), ICMP errors to either one's address about such
 * TCP, and ICMP errors to outer source addresses of tunnels. In mode dnat, TCP from a backend's port, too,
 * and ICMP errors about TCP to it, but for what is addressed to the host itself. What cannot be parsed is the
 * kernel's, which drops it without an answer. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/steer_maps.h"

/* Extension headers looked at before TCP. A packet with more goes to the kernel, where the guard has it. */
#define MAX_EXTENSION_HEADERS 8
#define IPV4_FRAGMENT_MASK 0x3fff /* more-fragments flag and offset */
#define IPV4_OFFSET_MASK 0x1fff
#define IPV6_OFFSET_MASK 0xfff8
#define VLAN_HEADER_SIZE 4
#define LONGEST_HEADERS 0x3fff /* bytes up to TCP or ICMP; no frame is longer */
#define ICMP_HEADER_SIZE 8     /* of an error, both families: what the embedded packet follows */

/* ICMP types that are errors about a packet: RFC 792, RFC 4443. <linux/icmp.h> needs libc. */
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_FIRST_ERROR 1 /* unreachable, 2 too big, 3 time exceeded */
#define ICMPV6_LAST_ERROR 4  /* parameter problem */

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, STEER_MAX_QUEUES);
  __type(key, __u32);
  __type(value, __u32);
} xsks_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, STEER_MAX_LISTENERS);
  __type(key, struct steer_endpoint);
  __type(value, __u32);
} listeners SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, STEER_MAX_NAT);
  __type(key, struct steer_address);
  __type(value, struct steer_port_range);
} nat SEC(".maps");

/* Outer source addresses of tunnels. */
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, STEER_MAX_TUNNELS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct steer_prefix);
  __type(value, __u32);
} tunnels SEC(".maps");

/* Every address of `listeners` and `nat`. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, STEER_MAX_ADDRESSES);
  __type(key, struct steer_address);
  __type(value, __u32);
} addresses SEC(".maps");

/* Where replies come from that are under way to clients: backends' ports behind services in mode dnat. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, STEER_MAX_DNAT);
  __type(key, struct steer_endpoint);
  __type(value, __u32);
} dnat SEC(".maps");

/* The host's own addresses, if there are such services. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, STEER_MAX_OWN);
  __type(key, struct steer_address);
  __type(value, __u32);
} own SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, STEER_VERDICTS);
  __type(key, __u32);
  __type(value, __u64);
} verdicts SEC(".maps");

struct ports {
  __be16 source, destination;
};

struct ipv6_extension {
  __u8 next_header;
  __u8 length; /* in 8 bytes, without the first 8 */
  __u8 options[6];
};

struct ipv6_fragment {
  __u8 next_header;
  __u8 reserved;
  __be16 offset_and_flags;
  __be32 identification;
};

/* An IP packet, outer or embedded in an ICMP error. */
struct packet {
  struct steer_address source, destination;
  void* payload; /* what follows the IP headers looked at */
  __u8 protocol;
  __u8 is_fragment; /* first or later */
  __u8 is_later;    /* not the first one: no ports */
};

static __always_inline struct steer_address mapped(__be32 v4) {
  struct steer_address a = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}};
  __builtin_memcpy(a.bytes + 12, &v4, sizeof v4);
  return a;
}

static __always_inline int parse_ipv4(void* data, void* end, struct packet* packet) {
  struct iphdr* ip = data;
  if ((void*)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return 0;
  const __u16 fragment = bpf_ntohs(ip->frag_off);
  packet->source = mapped(ip->saddr);
  packet->destination = mapped(ip->daddr);
  packet->protocol = ip->protocol;
  packet->is_fragment = (fragment & IPV4_FRAGMENT_MASK) != 0;
  packet->is_later = (fragment & IPV4_OFFSET_MASK) != 0;
  packet->payload = data + ip->ihl * 4;
  return 1;
}

/* Leaves *at as it is, but the verifier knows no more of it than a bound: where many ways meet it goes on
 * once, not once for each. Loading the program takes a sixth of the time, which was half of the dataplane's
 * start. */
static __always_inline int forget_way(void** at, void* start) {
  __u64 offset = *at - start;
  asm volatile("" : "+r"(offset)); /* or the compiler sees that nothing is done */
  if (offset > LONGEST_HEADERS) return 0;
  *at = start + offset;
  return 1;
}

/* Walks the extension headers up to the first that is not one, or to a later fragment's payload. */
static __always_inline int walk_extensions(__u8 next_header, void* at, void* start, void* end,
                                           struct packet* packet) {
  for (int i = 0; i < MAX_EXTENSION_HEADERS; ++i) {
    struct ipv6_extension* extension = at;
    switch (next_header) {
      case IPPROTO_HOPOPTS:
      case IPPROTO_ROUTING:
      case IPPROTO_DSTOPTS:
        if ((void*)(extension + 1) > end) return 0;
        next_header = extension->next_header;
        at += 8 + extension->length * 8;
        break;
      case IPPROTO_FRAGMENT: {
        struct ipv6_fragment* fragment = at;
        if ((void*)(fragment + 1) > end) return 0;
        packet->is_fragment = 1;
        packet->is_later = (fragment->offset_and_flags & bpf_htons(IPV6_OFFSET_MASK)) != 0;
        next_header = fragment->next_header;
        at += sizeof *fragment;
        if (!packet->is_later) break;
      } /* fall through */
      default:
        if (!forget_way(&at, start)) return 0;
        packet->protocol = next_header;
        packet->payload = at;
        return 1;
    }
    if (!forget_way(&at, start)) return 0;
  }
  return 0;
}

static __always_inline int parse_ipv6(void* data, void* start, void* end, struct packet* packet) {
  struct ipv6hdr* ip = data;
  if ((void*)(ip + 1) > end || ip->version != 6) return 0;
  __builtin_memcpy(&packet->source, &ip->saddr, sizeof packet->source);
  __builtin_memcpy(&packet->destination, &ip->daddr, sizeof packet->destination);
  packet->is_fragment = 0;
  packet->is_later = 0;
  return walk_extensions(ip->nexthdr, ip + 1, start, end, packet);
}

static __always_inline int is_our_endpoint(const struct steer_address* address, __be16 port) {
  struct steer_endpoint key = {.address = *address, .port = port};
  if (bpf_map_lookup_elem(&listeners, &key)) return 1;
  const struct steer_port_range* range = bpf_map_lookup_elem(&nat, address);
  const __u16 host_port = bpf_ntohs(port);
  return range && host_port >= range->first && host_port <= range->last;
}

/* Whether TCP from a backend to a client is a reply of mode dnat. The client's address is none of
 * `addresses`. */
static __always_inline int is_dnat_reply(const struct steer_address* backend, __be16 port,
                                         const struct steer_address* client) {
  struct steer_endpoint key = {.address = *backend, .port = port};
  return bpf_map_lookup_elem(&dnat, &key) && !bpf_map_lookup_elem(&own, client);
}

static __always_inline int is_error(__u8 type, int is_v4) {
  if (is_v4) return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
  return type >= ICMPV6_FIRST_ERROR && type <= ICMPV6_LAST_ERROR;
}

/* An ICMP error to an outer source address of tunnels. */
static __always_inline int is_tunnel_error(const struct packet* packet, void* end, int is_v4) {
  void* icmp = packet->payload;
  if (packet->is_fragment || icmp + ICMP_HEADER_SIZE > end || !is_error(*(__u8*)icmp, is_v4)) return 0;
  struct steer_prefix key = {.length = 128, .address = packet->destination};
  return bpf_map_lookup_elem(&tunnels, &key) != 0;
}

/* An ICMP error about TCP from or to an endpoint of ours; or, under way to a client, about TCP that it sent
 * to a backend by way of a service in mode dnat. `is_address`: whether it is to one of `addresses`. */
static __always_inline int is_our_error(const struct packet* packet, void* start, void* end, int is_v4,
                                        int is_address) {
  void* icmp = packet->payload;
  if (packet->is_fragment || icmp + ICMP_HEADER_SIZE > end) return 0;
  const __u8 type = *(__u8*)icmp;
  struct packet embedded;
  if (!is_error(type, is_v4)) return 0;
  if (is_v4) {
    if (!parse_ipv4(icmp + ICMP_HEADER_SIZE, end, &embedded)) return 0;
  } else {
    if (!parse_ipv6(icmp + ICMP_HEADER_SIZE, start, end, &embedded)) return 0;
  }
  struct ports* ports = embedded.payload;
  if (embedded.protocol != IPPROTO_TCP || embedded.is_later || (void*)(ports + 1) > end) return 0;
  if (!is_address) return is_dnat_reply(&embedded.destination, ports->destination, &packet->destination);
  return is_our_endpoint(&embedded.source, ports->source) ||
         is_our_endpoint(&embedded.destination, ports->destination);
}

static __always_inline int is_ours(void* data, void* end) {
  struct ethhdr* ethernet = data;
  if ((void*)(ethernet + 1) > end) return 0;
  if (ethernet->h_dest[0] & 1) return 0; /* group address: TCP is never sent to one */
  __be16 type = ethernet->h_proto;
  void* at = ethernet + 1;
  if (type == bpf_htons(ETH_P_8021Q)) {
    if (at + VLAN_HEADER_SIZE > end) return 0;
    type = *(__be16*)(at + 2);
    at += VLAN_HEADER_SIZE;
  }

  struct packet packet;
  const int is_v4 = type == bpf_htons(ETH_P_IP);
  if (is_v4) {
    if (!parse_ipv4(at, end, &packet)) return 0;
  } else {
    if (type != bpf_htons(ETH_P_IPV6) || !parse_ipv6(at, data, end, &packet)) return 0;
  }
  const int is_tcp = packet.protocol == IPPROTO_TCP;
  const int is_icmp = packet.protocol == (is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
  if (!is_tcp && !is_icmp) return 0;
  if (is_icmp || packet.is_fragment) {
    const int is_address = bpf_map_lookup_elem(&addresses, &packet.destination) != 0;
    if (is_tcp) return is_address;
    return is_tunnel_error(&packet, end, is_v4) || is_our_error(&packet, data, end, is_v4, is_address);
  }
  struct ports* ports = packet.payload;
  if ((void*)(ports + 1) > end) return 0;
  if (is_our_endpoint(&packet.destination, ports->destination)) return 1;
  return is_dnat_reply(&packet.source, ports->source, &packet.destination) &&
         !bpf_map_lookup_elem(&addresses, &packet.destination);
}

static __always_inline void count(__u32 verdict) {
  __u64* counter = bpf_map_lookup_elem(&verdicts, &verdict);
  if (counter) ++*counter;
}

SEC("xdp")
int portico_steer(struct xdp_md* context) {
  if (!is_ours((void*)(long)context->data, (void*)(long)context->data_end)) {
    count(STEER_TO_KERNEL);
    return XDP_PASS;
  }
  const int action = (int)bpf_redirect_map(&xsks_map, context->rx_queue_index, XDP_DROP);
  count(action == XDP_REDIRECT ? STEER_TO_DATAPLANE : STEER_NO_SOCKET);
  return action;
}

char steer_license[] SEC("license") = "GPL";
