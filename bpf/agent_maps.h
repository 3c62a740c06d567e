/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Names, keys and values of the maps of the portal hosts' program (agent.bpf.c): for the program and for
 * agent/. Addresses as in contract/address.h: 16 bytes, IPv4 as ::ffff:a.b.c.d. */
#pragma once

#include <linux/types.h>

/* The kernel cuts names after 15 characters; these are shorter. */
#define AGENT_XDP_PROGRAM "agent_xdp"
#define AGENT_INGRESS_PROGRAM "agent_ingress"
#define AGENT_EGRESS_PROGRAM "agent_egress"
#define AGENT_SETTINGS_MAP ".rodata.agent" /* of libbpf: a section of read-only data is a map */
#define AGENT_VIPS_MAP "vips"
#define AGENT_LOCALS_MAP "locals"
#define AGENT_HOPS_MAP "hops"
#define AGENT_COUNTERS_MAP "agent_counters"

#define AGENT_MAX_BALANCERS 32 /* prefixes */
#define AGENT_NEAR 8           /* addresses */
#define AGENT_MAX_VIPS 1024
#define AGENT_MAX_LOCALS 1024 /* addresses of the host */
#define AGENT_MAX_PEERS 1024  /* addresses */

/* Key of `vips`, `locals` and `hops`. The values of the first two mean nothing. */
struct agent_address {
  __u64 words[2]; /* network byte order */
};

struct agent_prefix {
  struct agent_address address, mask;
};

/* Does not change while a program runs: the kernel compiles it in. */
struct agent_settings {
  struct agent_prefix balancers[AGENT_MAX_BALANCERS]; /* outer sources that may send tunnel packets */
  /* The first of `vips` and `locals`: compared with before the maps are asked, which costs more. */
  struct agent_address near_vips[AGENT_NEAR], near_locals[AGENT_NEAR];
  __u32 balancer_count, near_vip_count, near_local_count;
  __s32 sockets_netns; /* id of the namespace that has the VIPs' sockets, seen from the interface's; -1: the
                          same one */
  __be16 gue_port;     /* 0: UDP is nobody's tunnel */
  __u16 mss_v4;        /* the most that a SYN-ACK over IPv4 may announce; 0: as it is */
  __u16 mss_v6;
  __u8 ipip;          /* protocols 4 and 41 are tunnels */
  __u8 second_chance; /* 0: whatever comes in GUE is taken here */
};

/* Value of `hops`: how the peer with that address is reached. */
struct agent_hop {
  __u32 ifindex; /* 0: nobody knows */
  __be16 vlan;   /* VLAN id; 0: none */
  __u8 to[6], from[6];
  __u8 zero[2];
};

/* Indexes of `agent_counters`, one value per CPU: packets by what became of them. agent/counters.cc has names
 * and texts in the same order. */
enum agent_counter {
  AGENT_OTHER,        /* passed: not a tunnel packet */
  AGENT_NOT_VIP,      /* passed: its inner packet is not to a VIP */
  AGENT_NOT_LOCAL,    /* passed: its outer packet is not to this host */
  AGENT_TAKEN_IPIP,   /* decapsulated */
  AGENT_TAKEN_GUE,    /* decapsulated, no second chance asked for */
  AGENT_TAKEN_SYN,    /* decapsulated with hops left: begins a connection */
  AGENT_TAKEN_SOCKET, /* ... its connection is here */
  AGENT_TAKEN_COOKIE, /* ... answers a SYN cookie of this host */
  AGENT_TAKEN_UNTOLD, /* ... a fragment or cut off: whose it is cannot be told */
  AGENT_TAKEN_LAST,   /* decapsulated: other portals have passed it on, and none is left */
  AGENT_PASSED_ON,    /* to the next hop */
  AGENT_FORGED,       /* dropped: not from a balancer */
  AGENT_MALFORMED,    /* dropped: its GUE header contradicts itself */
  AGENT_ECN,          /* dropped: congestion that its inner packet cannot tell of (RFC 6040) */
  AGENT_NO_HOP,       /* dropped: its next hop is no peer, or not resolved */
  AGENT_TTL,          /* dropped: its outer TTL is used up */
  AGENT_NO_ROOM,      /* dropped: the kernel would not take its header off */
  AGENT_MSS_CLAMPED,  /* SYN-ACK, sent with a smaller MSS */
  AGENT_COUNTERS,
};
