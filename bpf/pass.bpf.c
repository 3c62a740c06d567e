/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The least that an XDP program can do: what the portal hosts' program is measured beside (bench/agent.cc).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp.frags")
int pass(struct xdp_md* context __attribute__((unused))) {
  return XDP_PASS;
}

char pass_license[] SEC("license") = "GPL";
