# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The lab's hosts and the wires between them.
#
#   two:  client ── front bridge ── front │ balancer │ back ── back bridge ── portals
#   one:  client, balancer (front) and portals on one bridge; portals hold the VIPs on lo, so that they may answer
#         clients directly (dsr-l2, and with tunnels dsr-ipip and dsr-gue)
# The bridges stand in a namespace of their own: the host's network is not touched.

ns() { ip -n "$NAME-$1" "${@:2}"; }

# Sets keys of /proc/sys/net in a host. The namespace decides whose keys they are, not the mount.
set_net_keys() { # HOST KEY=VALUE...
  local host=$1
  shift
  # shellcheck disable=SC2016  # expands inside
  ip netns exec "$NAME-$host" sh -c 'for s; do echo "${s#*=}" >"/proc/sys/net/${s%%=*}"; done' keys "$@"
}

add_host() {
  ip netns add "$NAME-$1"
  # No duplicate address detection: an address must be usable the moment it is set, here and in the tests.
  set_net_keys "$1" ipv6/conf/all/accept_dad=0 ipv6/conf/default/accept_dad=0 ipv6/conf/default/dad_transmits=0 \
    ipv6/conf/default/accept_ra=0 ipv6/conf/all/accept_ra=0 ipv6/conf/default/router_solicitations=0 \
    ipv4/conf/all/rp_filter=0 ipv4/conf/default/rp_filter=0 ipv4/ping_group_range="0 2147483647"
  ns "$1" link set lo up
}

add_bridge() {
  ns switch link add "$1" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  ns switch link set "$1" up
}

# A wire from a host's interface to a bridge. Offloads are off at both ends: what crosses it are frames as a real wire
# carries them, at most 1500 bytes of payload, with checksums filled in and VLAN tags in their bytes.
connect() { # HOST INTERFACE BRIDGE MAC
  local port=$1
  if [ "$1" = balancer ]; then port=$1-$2; fi
  ns switch link add "$port" type veth peer name "$2" netns "$NAME-$1" address "$4"
  ns switch link set "$port" master "$3" up
  wire_only switch "$port"
  wire_only "$1" "$2"
  ns "$1" link set "$2" up
}

wire_only() { # HOST INTERFACE
  ip netns exec "$NAME-$1" ethtool -K "$2" tx off rx off tso off gso off gro off txvlan off tx-vlan-stag-hw-insert off >/dev/null
}

addresses() { # HOST INTERFACE ADDRESS/LENGTH...
  local host=$1 interface=$2 address
  shift 2
  for address; do
    case $address in
      *:*) echo "address add $address dev $interface nodad" ;;
      *) echo "address add $address dev $interface" ;;
    esac
  done | ip -n "$NAME-$host" -batch -
}

make_balancer() {
  add_host balancer
  # It routes like the edge appliance it stands for, so that client and portals reach each other's own addresses.
  set_net_keys balancer ipv4/ip_forward=1 ipv6/conf/all/forwarding=1 \
    ipv4/conf/all/send_redirects=0 ipv4/conf/default/send_redirects=0
  connect balancer front "$1" 02:00:00:00:00:01
  addresses balancer front "$FRONT_V4/24" "$FRONT_V6/64"
  if [ "$TOPOLOGY" = two ]; then
    connect balancer back "$2" 02:00:00:00:01:01
    addresses balancer back "$BACK_V4/24" "$BACK_V6/64"
  else
    addresses balancer front "$BACK_V4/24" "$BACK_V6/64"
  fi
}

make_second_balancer() {
  add_host balancer-2
  set_net_keys balancer-2 ipv4/ip_forward=1 ipv6/conf/all/forwarding=1 \
    ipv4/conf/all/send_redirects=0 ipv4/conf/default/send_redirects=0
  connect balancer-2 front front 02:00:00:00:00:04
  addresses balancer-2 front "$FRONT2_V4/24" "$FRONT2_V6/64" "$BACK2_V4/24" "$BACK2_V6/64"
}

# What spreads clients' connections over both balancers (RFC 2992), by addresses and ports. One-armed: it sends on by the
# interface that it receives by, and the portals answer past it.
make_router() {
  add_host router
  set_net_keys router ipv4/ip_forward=1 ipv6/conf/all/forwarding=1 ipv4/conf/all/send_redirects=0 \
    ipv4/conf/default/send_redirects=0 ipv4/fib_multipath_hash_policy=1 ipv6/fib_multipath_hash_policy=1
  connect router eth0 front 02:00:00:00:00:03
  addresses router eth0 "$ROUTER_V4/24" "$ROUTER_V6/64"
  ns router route add "$VIP_V4" nexthop via "$FRONT_V4" nexthop via "$FRONT2_V4"
  ns router route add "$VIP_V6" nexthop via "$FRONT_V6" nexthop via "$FRONT2_V6"
  ns client route add "$VIP_V4" via "$ROUTER_V4"
  ns client route add "$VIP_V6" via "$ROUTER_V6"
}

make_client() {
  local i n
  add_host client
  # Ten thousand connections in a row need more ports than the default range has in TIME-WAIT.
  set_net_keys client ipv4/ip_local_port_range="1024 65535" ipv4/tcp_tw_reuse=1
  connect client eth0 "$1" 02:00:00:00:00:02
  addresses client eth0 "$CLIENT_V4/24" "$CLIENT_V6/64"
  for ((i = 0; i < EXTRA_CLIENTS; ++i)); do
    n=$((EXTRA_CLIENT_FIRST + i))
    echo "address add 198.18.0.$n/24 dev eth0"
    # preferred_lft 0: bound when asked for, never chosen as the source by itself.
    echo "address add 2001:db8::$n/64 dev eth0 nodad preferred_lft 0"
  done | ns client -batch -
  if [ "$TOPOLOGY" = two ]; then
    ns client route add "$BACK_NET_V4" via "$FRONT_V4"
    ns client route add "$BACK_NET_V6" via "$FRONT_V6"
  else
    ns client route add "$BACK_NET_V4" dev eth0 src "$CLIENT_V4"
    ns client route add "$BACK_NET_V6" dev eth0 src "$CLIENT_V6"
  fi
}

make_portal() { # K BRIDGE
  local host=portal-$1
  add_host "$host"
  connect "$host" eth0 "$2" "$(printf '02:00:00:00:01:%02x' $((0x20 + $1)))"
  addresses "$host" eth0 "$(portal_v4 "$1")/24" "$(portal_v6 "$1")/64"
  if [ "$TOPOLOGY" = two ]; then
    ns "$host" route add default via "$BACK_V4"
    ns "$host" route add default via "$BACK_V6"
    return
  fi
  ns "$host" route add "$FRONT_NET_V4" dev eth0
  ns "$host" route add "$FRONT_NET_V6" dev eth0
  # It holds the VIP but must not say so on the wire, or clients would go past the balancer: no ARP answers for
  # addresses of other interfaces, none used as a sender. (IPv6 answers for an interface's own addresses only.)
  set_net_keys "$host" ipv4/conf/all/arp_ignore=1 ipv4/conf/all/arp_announce=2
  addresses "$host" lo "$VIP_V4/32" "$VIP_V6/128"
}

make_network() {
  local k portal_bridge=front
  ip netns add "$NAME-switch"
  set_net_keys switch ipv6/conf/all/disable_ipv6=1 ipv6/conf/default/disable_ipv6=1
  add_bridge front
  if [ "$TOPOLOGY" = two ]; then
    portal_bridge=back
    add_bridge back
  fi
  make_balancer front "$portal_bridge"
  make_client front
  if [ "$BALANCERS" = 2 ]; then
    make_second_balancer
    make_router
  fi
  for ((k = 1; k <= PORTALS; ++k)); do make_portal "$k" "$portal_bridge"; done
}

# Pulls a host's cable, or puts it back: the failure in which nothing answers, not even a RST.
set_cable() { # HOST up|down
  local port=$1
  host_exists "$1" || die "no host '$1' in lab $NAME"
  case $1 in
    balancer) die "the balancer has several cables: use 'scripts/lab exec switch ip link set balancer-front down'" ;;
    switch) die "the switch is what cables go to: name a host" ;;
  esac
  ns switch link set "$port" "$2"
}

# Ends what runs in a namespace: politely first where programs may have to tidy up, then for good.
end_processes() { # NAMESPACE GRACE_MS
  if [ "$2" -gt 0 ]; then
    signal_namespace TERM "$1"
    wait_until "$2" namespace_idle "$1" || true
  fi
  # Again until none is left: one that is just being started has no namespace yet when the list is made.
  until namespace_idle "$1"; do
    signal_namespace KILL "$1"
    sleep 0.02
  done
}

namespace_idle() { [ -z "$(ip netns pids "$1" 2>/dev/null)" ]; }

signal_namespace() {
  local pid
  for pid in $(ip netns pids "$2" 2>/dev/null); do kill -s "$1" "$pid" 2>/dev/null || true; done
}

remove_network() {
  local namespace
  for namespace in $(namespaces); do
    case $namespace in
      *-portal-*) end_processes "$namespace" 0 ;; # their data goes, too
      *) end_processes "$namespace" 3000 ;;
    esac
  done
  for namespace in $(namespaces); do ip netns delete "$namespace"; done
}
