# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034  # used by the other parts
#
# What the lab's parts share: names, places, addresses, and how to run something inside one of its hosts.
#
# A lab called N has the hosts client, balancer, portal-1..K and switch, and may have balancer-2 and router, each a network namespace N-HOST. Everything it
# writes lies in one tmpfs, $STATE, so that removing it leaves nothing behind. What is the same for all labs and costs
# time to make (an initialised database, a 100 MiB file, a certificate) lies in $CACHE.

STATE_ROOT=${PORTICO_LAB_STATE:-/run/portico-lab}
CACHE=${PORTICO_LAB_CACHE:-/var/cache/portico-lab}

# Addresses. Portal k is 198.18.1.(20+k) and 2001:db8:1::(20+k), the digits read as decimal: portal-1 is ::21.
readonly CLIENT_V4=198.18.0.2 CLIENT_V6=2001:db8::2
readonly FRONT_V4=198.18.0.1 FRONT_V6=2001:db8::1
readonly BACK_V4=198.18.1.1 BACK_V6=2001:db8:1::1
readonly FRONT2_V4=198.18.0.4 FRONT2_V6=2001:db8::4 BACK2_V4=198.18.1.4 BACK2_V6=2001:db8:1::4 # balancer-2
readonly ROUTER_V4=198.18.0.3 ROUTER_V6=2001:db8::3
readonly FRONT_NET_V4=198.18.0.0/24 FRONT_NET_V6=2001:db8::/64
readonly BACK_NET_V4=198.18.1.0/24 BACK_NET_V6=2001:db8:1::/64
readonly VIP_V4=198.18.0.10 VIP_V6=2001:db8::10
readonly TUNNEL_V4=198.18.2.0/24 TUNNEL_V6=2001:db8:2::/64 # outer sources
readonly NAT_V4=(198.18.1.200 198.18.1.201) NAT_V6=(2001:db8:1::200)
# The client host speaks for this many clients more: 198.18.0.101.. and 2001:db8::101.. (see `curl --interface`).
readonly EXTRA_CLIENTS=100 EXTRA_CLIENT_FIRST=101

portal_v4() { echo "198.18.1.$((20 + $1))"; }
portal_v6() { echo "2001:db8:1::$((20 + $1))"; }

say() { printf 'lab %s: %s\n' "$NAME" "$*" >&2; }
die() {
  printf 'lab: %s\n' "$*" >&2
  exit 1
}

# Sets NAME and STATE. Names become parts of namespace and file names.
set_name() {
  [[ $1 =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] || die "name '$1': use up to 31 of a-z, 0-9 and -"
  NAME=$1
  STATE=$STATE_ROOT/$NAME
}

need_root() { [ "$(id -u)" -eq 0 ] || die "namespaces need root: run it with sudo"; }

# Reads PORTALS, TOPOLOGY, PROXY_PROTOCOL and TUNNELS of a lab that is up.
read_settings() {
  PROXY_PROTOCOL=none TUNNELS=none
  [ -r "$STATE/settings" ] || die "no lab called '$NAME' is up: scripts/lab up --name $NAME"
  # shellcheck source=/dev/null
  . "$STATE/settings"
}

# The lab's namespaces, by name, whether or not the lab is whole.
namespaces() { ip netns list | awk '{print $1}' | grep -xE "$NAME-(client|balancer|balancer-2|router|switch|portal-[0-9]+)" || true; }

host_exists() { [ -e "/run/netns/$NAME-$1" ]; }

# Runs a command in a host of the lab: its network, its bpffs, its /etc/hosts. Replaces nothing on this machine.
in_host() { # HOST COMMAND...
  ip netns exec "$NAME-$1" "$LAB_D/enter" "$STATE" "${@:2}"
}

# The same in place of this process, so that who started us in the background has the command's own process id.
become_in_host() { # HOST COMMAND...
  exec ip netns exec "$NAME-$1" "$LAB_D/enter" "$STATE" "${@:2}"
}

# Calls a command until it succeeds; status 1 when the time (in ms) is over.
wait_until() { # TIMEOUT_MS COMMAND...
  local left=$1
  shift
  until "$@"; do
    left=$((left - 20))
    [ "$left" -gt 0 ] || return 1
    sleep 0.02
  done
}
