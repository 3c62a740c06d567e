// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The end of tunnels on a portal whose kernel has none: takes the outer headers off packets of protocols 4
// and 41, and of GUE on UDP port 6080 whatever further hops it names (docs/gue.md), and leaves the inner
// packet to the kernel. XDP, on untagged frames; outer headers with options or extensions are left alone. An
// outer CE mark goes to an inner packet that can bear one (RFC 6040).
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_helpers.h>

#define GUE_PORT 6080
#define UDP_AND_GUE_SIZE 12
#define V4_SIZE 20
#define V6_SIZE 40
#define CE 3

static __always_inline __u16 be16(__u16 value) {
  return __builtin_bswap16(value);
}

/* Sets both ECN bits of what had ECT, and mends the IPv4 header's sum (RFC 1624). */
static __always_inline void mark(__u8* inner, int is_v6) {
  int shift = is_v6 ? 4 : 0;
  __u8* byte = inner + 1;
  __u8 ecn = *byte >> shift & CE, added;
  if (ecn == 0 || ecn == CE) return;
  added = CE ^ ecn;
  *byte |= (__u8)(added << shift);
  if (is_v6) return;
  __u16* sum = (__u16*)(inner + 10);
  __u32 wide = (__u16)~be16(*sum) + added;
  wide = (wide & 0xffff) + (wide >> 16);
  *sum = be16((__u16)~wide);
}

SEC("xdp")
int decapsulate(struct xdp_md* ctx) {
  __u8* data = (__u8*)(long)ctx->data;
  __u8* end = (__u8*)(long)ctx->data_end;
  struct ethhdr l2;
  if (data + sizeof l2 + V6_SIZE + V4_SIZE > end) return XDP_PASS;
  __builtin_memcpy(&l2, data, sizeof l2);
  __u8* outer = data + sizeof l2;
  int outer_is_v6 = l2.h_proto == be16(ETH_P_IPV6);
  __u8 protocol, ecn;
  if (outer_is_v6) {
    protocol = outer[6];
    ecn = outer[1] >> 4 & CE;
  } else if (l2.h_proto == be16(ETH_P_IP) && outer[0] == 0x45) {
    protocol = outer[9];
    ecn = outer[1] & CE;
  } else {
    return XDP_PASS;
  }
  int size = outer_is_v6 ? V6_SIZE : V4_SIZE;
  if (protocol == 17) {
    __u8* udp = outer + size;
    if (udp + UDP_AND_GUE_SIZE > end || *(__u16*)(udp + 2) != be16(GUE_PORT) || udp[8] & 0xe0)
      return XDP_PASS;
    size += UDP_AND_GUE_SIZE + (udp[8] & 0x1f) * 4;
    protocol = udp[9];
  }
  if (protocol != 4 && protocol != 41) return XDP_PASS;
  int inner_is_v6 = protocol == 41;
  if (bpf_xdp_adjust_head(ctx, size)) return XDP_DROP;
  data = (__u8*)(long)ctx->data;
  end = (__u8*)(long)ctx->data_end;
  if (data + sizeof l2 + V4_SIZE > end) return XDP_DROP;
  l2.h_proto = be16(inner_is_v6 ? ETH_P_IPV6 : ETH_P_IP);
  __builtin_memcpy(data, &l2, sizeof l2);
  if (ecn == CE) mark(data + sizeof l2, inner_is_v6);
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
