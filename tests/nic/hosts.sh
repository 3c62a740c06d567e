# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # addresses are the test's
# Client and portals in namespaces on a bridge; the machine's NIC comes to the same bridge as the tap `nic0`.

OWN4=198.18.0.2 OWN6=2001:db8:18::2
VIP4=198.18.0.10 VIP6=2001:db8:18::10
NAT4=198.18.0.20 NAT6=2001:db8:18::20
PORTAL4=198.18.0.10 PORTAL6=2001:db8:18::10  # of portal N, with N behind
CLIENT4=198.18.0.7 CLIENT6=2001:db8:18::7

in_client() { ip netns exec "$NS-client" "$@"; }
in_portal() { ip netns exec "$NS-portal-$1" "${@:2}"; }

add_host() { # HOST LAST-BYTE ADDRESS...
  local host=$1 mac=02:00:00:00:00:$2 address
  ip netns add "$NS-$host"
  ip -n "$NS-$host" link set lo up
  ip netns exec "$NS-$host" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter'
  ip -n "$NS-switch" link add "$host" type veth peer name net0 netns "$NS-$host" address "$mac"
  ip -n "$NS-switch" link set "$host" master wire up
  # Frames as a wire carries them, with checksums in them.
  ip netns exec "$NS-switch" ethtool -K "$host" tx off tso off gso off gro off >/dev/null
  ip netns exec "$NS-$host" ethtool -K net0 tx off tso off gso off gro off >/dev/null
  ip -n "$NS-$host" link set net0 up
  shift 2
  for address; do
    case $address in
      *:*) ip -n "$NS-$host" address add "$address/64" dev net0 nodad ;;
      *) ip -n "$NS-$host" address add "$address/24" dev net0 ;;
    esac
  done
}

start_portal() { # N
  local root=$WORK/portal-$1
  mkdir -p "$root/www"
  { echo "portal-$1"; head -c 8000 /dev/zero | tr '\0' x; } >"$root/www/index.html"
  cat >"$root/httpd.conf" <<CONF
ServerRoot $root
ServerName portal-$1
PidFile $root/pid
ErrorLog $root/error.log
Listen 80
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
DocumentRoot $root/www
User nobody
Group nogroup
CONF
  chmod 755 "$WORK" "$root" "$root/www"
  # Not by in_portal: the process to end would be a shell's, and Apache would outlive it.
  ip netns exec "$NS-portal-$1" apache2 -f "$root/httpd.conf" -DFOREGROUND >"$root/output" 2>&1 &
  portal_pids+=("$!")
}

# What the client's kernel sends to the services and gets from them.
count_wire() {
  in_client nft -f - <<NFT
table inet wire {
  counter to4 { }
  counter to6 { }
  counter from4 { }
  counter from6 { }
  chain out {
    type filter hook output priority 0
    ip daddr $VIP4 tcp dport 80 counter name to4
    ip6 daddr $VIP6 tcp dport 80 counter name to6
  }
  chain in {
    type filter hook input priority 0
    ip saddr $VIP4 tcp sport 80 counter name from4
    ip6 saddr $VIP6 tcp sport 80 counter name from6
  }
}
NFT
}

# Whatever the client and the portals get, into WORK/HOST.pcap.
capture_pids=()
capture_start() {
  local host
  for host in client portal-1 portal-2; do
    ip netns exec "$NS-$host" tcpdump -i net0 -Q in -U -w "$WORK/$host.pcap" 'tcp port 80' 2>/dev/null &
    capture_pids+=("$!")
  done
  sleep 1
}

capture_stop() {
  local pid
  for pid in "${capture_pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  capture_pids=()
}

# That each host has captured something, and no checksum in it is wrong. 0xffff is right where 0 is; Linux writes it
# instead, and tshark dislikes it.
captured_checksums_right() {
  local host bad
  for host in client portal-1 portal-2; do
    bad=$(tshark -r "$WORK/$host.pcap" -o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE \
      -Y '(tcp.checksum.status == "Bad" && tcp.checksum != 0xffff) || ip.checksum.status == "Bad"' 2>/dev/null | head -n 2)
    [ -z "$bad" ] || { echo "$host got wrong checksums: $bad"; return 1; }
    [ "$(tshark -r "$WORK/$host.pcap" -Y tcp 2>/dev/null | wc -l)" -gt 10 ] || { echo "$host got nothing"; return 1; }
  done
}

portal_pids=()
hosts_up() {
  local n
  ip netns add "$NS-switch"
  ip -n "$NS-switch" link add wire type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  ip -n "$NS-switch" link set wire up
  add_host client 07 "$CLIENT4" "$CLIENT6"
  for n in 1 2; do
    add_host "portal-$n" "1$n" "$PORTAL4$n" "${PORTAL6}$n"
    start_portal "$n"
  done
  count_wire
}

# The wire to the machine's NIC.
hosts_wire() { # QUEUES
  ip -n "$NS-switch" link delete nic0 2>/dev/null || true
  if [ "$1" -gt 1 ]; then
    ip -n "$NS-switch" tuntap add nic0 mode tap multi_queue
  else
    ip -n "$NS-switch" tuntap add nic0 mode tap
  fi
  ip -n "$NS-switch" link set nic0 master wire up
}

# In dsr-l2 the portals have the VIPs, and nobody must hear of it from them.
hosts_mode() { # MODE
  local n address
  for n in 1 2; do
    in_portal "$n" sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce'
    for address in "$VIP4/32" "$VIP6/128"; do
      ip -n "$NS-portal-$n" address del "$address" dev lo 2>/dev/null || true
      if [ "$1" = dsr-l2 ]; then ip -n "$NS-portal-$n" address add "$address" dev lo; fi
    done
  done
}

hosts_down() {
  local pid host
  capture_stop
  for pid in "${portal_pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  for host in client portal-1 portal-2 switch; do ip netns delete "$NS-$host" 2>/dev/null || true; done
}
