/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The portals' end of the balancer's tunnels: takes IPIP and GUE headers off packets to VIPs and leaves the
 * inner packet to the kernel, or, where its connection is another portal's, passes it on (docs/gue.md). At
 * XDP, or at tc's ingress where XDP is not possible. At tc's egress it clamps the MSS that SYN-ACKs announce.
 * Whatever is not a tunnel packet of a VIP passes untouched. */
#include "bpf/agent_parse.h"

#include "bpf/agent_clamp.h"
#include "bpf/agent_owner.h"
#include "bpf/agent_rewrite.h"

#include <linux/pkt_cls.h>

/* Of Linux 6.3. */
#define DECAP_TO_IPV4 (1ULL << 7)
#define DECAP_TO_IPV6 (1ULL << 8)
/* All that is looked at of a usual packet: link, IPv6, UDP and GUE headers with hops, IPv6, TCP. */
#define USUAL_HEADERS 192

const volatile struct agent_settings settings SEC(AGENT_SETTINGS_MAP);

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, AGENT_MAX_VIPS);
  __type(key, struct agent_address);
  __type(value, __u8);
} vips SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, AGENT_MAX_LOCALS);
  __type(key, struct agent_address);
  __type(value, __u8);
} locals SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, AGENT_MAX_PEERS);
  __type(key, struct agent_address);
  __type(value, struct agent_hop);
} hops SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, AGENT_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} agent_counters SEC(".maps");

static __always_inline void count(__u32 what) {
  __u64* counter = bpf_map_lookup_elem(&agent_counters, &what);
  if (counter) ++*counter;
}

static __always_inline int is_from_balancer(const struct agent_address* source) {
  for (__u32 i = 0; i < AGENT_MAX_BALANCERS; ++i) {
    if (i >= settings.balancer_count) return 0;
    const volatile struct agent_prefix* prefix = &settings.balancers[i];
    if ((source->words[0] & prefix->mask.words[0]) == prefix->address.words[0] &&
        (source->words[1] & prefix->mask.words[1]) == prefix->address.words[1])
      return 1;
  }
  return 0;
}

static __always_inline int is_near(const volatile struct agent_address* addresses, __u32 count,
                                   const struct agent_address* address) {
  for (__u32 i = 0; i < AGENT_NEAR; ++i) {
    if (i >= count) return 0;
    if (addresses[i].words[1] == address->words[1] && addresses[i].words[0] == address->words[0]) return 1;
  }
  return 0;
}

static __always_inline int is_vip(const struct agent_address* address) {
  return is_near(settings.near_vips, settings.near_vip_count, address) || bpf_map_lookup_elem(&vips, address);
}

static __always_inline int is_local(const struct agent_address* address) {
  return is_near(settings.near_locals, settings.near_local_count, address) ||
         bpf_map_lookup_elem(&locals, address);
}

/* What becomes of a frame: the counter says it. */
static __always_inline enum agent_counter judge(void* context, void* data, void* end, struct tunnel* t) {
  if (!parse_tunnel(data, end, &settings, t)) return AGENT_OTHER;
  const struct agent_address vip = inner_destination(t);
  if (!is_vip(&vip)) return AGENT_NOT_VIP;
  if (!is_local(&t->destination)) return AGENT_NOT_LOCAL;
  if (!is_from_balancer(&t->source)) return AGENT_FORGED;
  if (!t->is_gue) return AGENT_TAKEN_IPIP;
  if (t->is_malformed) return AGENT_MALFORMED;
  if (!t->hops || !settings.second_chance) return AGENT_TAKEN_GUE;
  const struct gue_hops* left = t->hops;
  if (left->next >= left->count) return AGENT_TAKEN_LAST;
  return judge_owner(context, end, t, settings.sockets_netns);
}

/* Rewrites a frame for its next hop; the counter that says how it went. */
static __always_inline enum agent_counter send_on(struct tunnel* t, void* data, void* end,
                                                  struct agent_hop* hop) {
  struct agent_address to;
  if (!next_hop(t, end, &to)) return AGENT_MALFORMED;
  const struct agent_hop* known = bpf_map_lookup_elem(&hops, &to);
  if (!known || known->ifindex == 0) return AGENT_NO_HOP;
  *hop = *known;
  struct ethhdr* ethernet = data;
  if (t->link_size != sizeof *ethernet) {
    __be16* tag = (void*)(ethernet + 1);
    if ((void*)(tag + 1) > end || hop->vlan == 0) return AGENT_NO_HOP;
    *tag = (*tag & bpf_htons((__u16)~VLAN_ID)) | hop->vlan;
  }
  if ((void*)(ethernet + 1) > end || !pass_on(t, end, &to)) return AGENT_TTL;
  __builtin_memcpy(ethernet->h_dest, hop->to, ETH_ALEN);
  __builtin_memcpy(ethernet->h_source, hop->from, ETH_ALEN);
  return AGENT_PASSED_ON;
}

/* Takes the outer headers off. MAC addresses and tag move as whole words. */
static __always_inline int strip_xdp(struct xdp_md* context, const struct tunnel* t) {
  void* data = (void*)(long)context->data;
  void* end = (void*)(long)context->data_end;
  const __be16 type = t->inner_is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
  if (data + sizeof(struct ethhdr) + VLAN_HEADER_SIZE > end) return 0;
  const __u64 first = *(__u64*)data;
  const __u32 second = *(__u32*)(data + 8), tag = *(__u32*)(data + 12);
  if (bpf_xdp_adjust_head(context, (int)t->stripped) != 0) return 0;
  data = (void*)(long)context->data;
  end = (void*)(long)context->data_end;
  if (data + sizeof(struct ethhdr) + VLAN_HEADER_SIZE > end) return 0;
  *(__u64*)data = first;
  *(__u32*)(data + 8) = second;
  if (t->link_size == sizeof(struct ethhdr)) {
    *(__be16*)(data + 12) = type;
  } else {
    *(__u32*)(data + 12) = tag;
    *(__be16*)(data + 16) = type;
  }
  return 1;
}

static __always_inline int strip_tc(struct __sk_buff* skb, const struct tunnel* t, __u32 difference) {
  __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
  const __be16 type = t->inner_is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
  if (t->inner_is_v6 != t->outer_is_v6) flags |= t->inner_is_v6 ? DECAP_TO_IPV6 : DECAP_TO_IPV4;
  if (difference != 0) bpf_csum_update(skb, difference);
  if (bpf_skb_adjust_room(skb, -(__s32)t->stripped, BPF_ADJ_ROOM_MAC, flags) != 0) return 0;
  return bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &type, sizeof type, 0) == 0;
}

SEC("xdp.frags")
int agent_xdp(struct xdp_md* context) {
  void* data = (void*)(long)context->data;
  void* end = (void*)(long)context->data_end;
  struct tunnel t;
  struct agent_hop hop = {0};
  __u32 difference;
  enum agent_counter verdict = judge(context, data, end, &t);
  if (verdict == AGENT_PASSED_ON) verdict = send_on(&t, data, end, &hop);
  const int is_taken = verdict >= AGENT_TAKEN_IPIP && verdict <= AGENT_TAKEN_LAST;
  if (is_taken) {
    if (!combine_ecn(&t, end, &difference))
      verdict = AGENT_ECN;
    else if (!strip_xdp(context, &t))
      verdict = AGENT_NO_ROOM;
  }
  count(verdict);
  if (verdict <= AGENT_TAKEN_LAST) return XDP_PASS;
  if (verdict != AGENT_PASSED_ON) return XDP_DROP;
  if (hop.ifindex == context->ingress_ifindex) return XDP_TX;
  return (int)bpf_redirect(hop.ifindex, 0);
}

SEC("tc")
int agent_ingress(struct __sk_buff* skb) {
  struct tunnel t;
  struct agent_hop hop = {0};
  __u32 difference;
  /* Else headers may lie apart from the packet's first bytes. */
  if ((void*)(long)skb->data + USUAL_HEADERS > (void*)(long)skb->data_end)
    bpf_skb_pull_data(skb, skb->len < USUAL_HEADERS ? skb->len : USUAL_HEADERS);
  void* data = (void*)(long)skb->data;
  void* end = (void*)(long)skb->data_end;
  enum agent_counter verdict = judge(skb, data, end, &t);
  if (verdict == AGENT_PASSED_ON) verdict = send_on(&t, data, end, &hop);
  const int is_taken = verdict >= AGENT_TAKEN_IPIP && verdict <= AGENT_TAKEN_LAST;
  if (is_taken) {
    if (!combine_ecn(&t, end, &difference))
      verdict = AGENT_ECN;
    else if (!strip_tc(skb, &t, difference))
      verdict = AGENT_NO_ROOM;
  }
  count(verdict);
  if (verdict <= AGENT_TAKEN_LAST) return TC_ACT_UNSPEC;
  if (verdict != AGENT_PASSED_ON) return TC_ACT_SHOT;
  return (int)bpf_redirect(hop.ifindex, 0);
}

SEC("tc")
int agent_egress(struct __sk_buff* skb) {
  struct agent_address source;
  const struct tcphdr* tcp = parse_syn_ack(skb, &source);
  const __u16 most = skb->protocol == bpf_htons(ETH_P_IP) ? settings.mss_v4 : settings.mss_v6;
  if (!tcp || most == 0 || !is_vip(&source)) return TC_ACT_UNSPEC;
  const __u32 offset = (__u32)((void*)tcp - (void*)(long)skb->data);
  const __u32 options = tcp->doff * 4 - sizeof *tcp;
  if (clamp_mss(skb, offset, options, most)) count(AGENT_MSS_CLAMPED);
  return TC_ACT_UNSPEC;
}

char agent_license[] SEC("license") = "GPL";
