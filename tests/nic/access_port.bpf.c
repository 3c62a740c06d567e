// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// An access port of a switch, for bridges of kernels that know no VLANs: what its host sends gets the tag
// VLAN, which is given to the compiler, and of what goes to the host only frames with this tag pass, without
// it.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define VLAN_MASK 0x0fff

SEC("tc/from_host")
int from_host(struct __sk_buff* skb) {
  if (skb->vlan_present || bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VLAN) != 0) return TC_ACT_SHOT;
  return TC_ACT_OK;
}

SEC("tc/to_host")
int to_host(struct __sk_buff* skb) {
  if (!skb->vlan_present || (skb->vlan_tci & VLAN_MASK) != VLAN) return TC_ACT_SHOT;
  return bpf_skb_vlan_pop(skb) == 0 ? TC_ACT_OK : TC_ACT_SHOT;
}

char access_port_license[] SEC("license") = "GPL";
