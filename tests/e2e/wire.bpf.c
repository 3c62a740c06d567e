// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A bad wire: loses packets, and swaps a packet with the one behind it. At clsact's egress of a device whose
// offloads are off. LOSS and SWAP, in per mille, are given to the compiler. A packet that is held back for
// the next one and meets none until the wire is mended is lost.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#define LARGEST 1536
#define PASSED 0x70617373 /* the mark of a packet that has been here */

struct held {
  __u32 state; /* 0: none, 1: being taken, 2: one is held */
  __u32 size;
  __u8 bytes[LARGEST];
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct held);
} waiting SEC(".maps");

static __always_inline int chance(__u32 per_mille) {
  return bpf_get_prandom_u32() % 1000 < per_mille;
}

static __always_inline int hold(struct __sk_buff* skb, struct held* held) {
  __u32 size = skb->len;
  if (size < 14 || size > LARGEST) return TC_ACT_OK;
  if (__sync_val_compare_and_swap(&held->state, 0, 1) != 0) return TC_ACT_OK;
  /* For the verifier, which forgets what it knew of the length. */
  asm volatile("" : "+r"(size));
  if (size < 14 || size > LARGEST || bpf_skb_load_bytes(skb, 0, held->bytes, size) < 0) {
    held->state = 0;
    return TC_ACT_OK;
  }
  held->size = size;
  __sync_val_compare_and_swap(&held->state, 1, 2);
  return TC_ACT_SHOT;
}

/* This packet goes on as a copy, and itself becomes the one that was held. */
static __always_inline int swap(struct __sk_buff* skb, struct held* held) {
  skb->mark = PASSED;
  bpf_clone_redirect(skb, skb->ifindex, 0);
  __u32 size = held->size;
  asm volatile("" : "+r"(size));
  int result = TC_ACT_SHOT;
  if (size >= 14 && size <= LARGEST && bpf_skb_change_tail(skb, size, 0) == 0 &&
      bpf_skb_store_bytes(skb, 0, held->bytes, size, 0) == 0)
    result = TC_ACT_OK;
  __sync_val_compare_and_swap(&held->state, 1, 0);
  return result;
}

SEC("tc")
int bad_wire(struct __sk_buff* skb) {
  if (skb->mark == PASSED) return TC_ACT_OK;
  __u32 key = 0;
  struct held* held = bpf_map_lookup_elem(&waiting, &key);
  if (!held) return TC_ACT_OK;
  /* ARP and neighbour discovery are left alone: their losses would hide those of the test. */
  if (skb->protocol != __builtin_bswap16(0x0800) && skb->protocol != __builtin_bswap16(0x86dd))
    return TC_ACT_OK;
  __u8 next = 0;
  if (bpf_skb_load_bytes(skb, skb->protocol == __builtin_bswap16(0x0800) ? 14 + 9 : 14 + 6, &next, 1) < 0 ||
      next != 6)
    return TC_ACT_OK;
  if (chance(LOSS)) return TC_ACT_SHOT;
  if (__sync_val_compare_and_swap(&held->state, 2, 1) == 2) return swap(skb, held);
  return chance(SWAP) ? hold(skb, held) : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
