# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A Portico configuration that fits the lab: all three services on both VIPs, all portals behind them.

print_config() {
  local mode=nat outer=both affinity=connection key check=''
  local -a dataplane_lines=() pool_lines=() service_lines=()
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || die "config: $1 has no value"
    case $1 in
      --mode) mode=$2 ;;
      --outer) outer=$2 ;;
      --affinity) affinity=$2 ;;
      --interval | --fast-interval | --timeout | --fall | --rise)
        key=${1#--}
        check+="${key/-/_}: $2, "
        ;;
      --dataplane) dataplane_lines+=("$2") ;;
      --pool) pool_lines+=("$2") ;;
      --service) service_lines+=("$2") ;;
      *) die "config: unknown option '$1'" ;;
    esac
    shift 2
  done
  if [ "$mode" = dnat ] && [ "$TOPOLOGY" != two ]; then
    die "dnat needs a balancer that is the portals' gateway: scripts/lab up --topology two"
  fi
  if [ "$mode" = dsr-l2 ] && [ "$TOPOLOGY" != one ]; then
    die "dsr-l2 needs portals that hold the VIP: scripts/lab up --topology one"
  fi
  if [[ $mode = dsr-ipip || $mode = dsr-gue ]] && [ "$TUNNELS" = none ]; then
    die "$mode needs portals at the end of tunnels: scripts/lab up --topology one --tunnels ipip"
  fi
  write_credentials
  print_head
  echo 'services:'
  print_service portal-http 80
  print_service portal-https 443
  print_service portal-mysql 3306
  printf '    allow: [%s, "%s"]\n' "$FRONT_NET_V4" "$FRONT_NET_V6"
  print_pool
}

# This and the next read the options from print_config, which calls them.
print_head() {
  local ports='front, back'
  if [ "$TOPOLOGY" = one ]; then ports=front; fi
  cat <<YAML
# Portico's configuration for the lab '$NAME' (scripts/lab config).
version: 1
instance: $NAME
hash_key: 000102030405060708090a0b0c0d0e0f  # any other lab's is as good; a real one is secret
dataplane:
  ports: [$ports]
YAML
  print_lines 2 "${dataplane_lines[@]}"
  if [ "$mode" = nat ]; then printf 'nat:\n  addresses: [%s, %s, "%s"]\n' "${NAT_V4[@]}" "${NAT_V6[@]}"; fi
  if [[ $mode = dsr-ipip || $mode = dsr-gue ]]; then print_tunnel; fi
}

print_tunnel() {
  case $outer in
    both) printf 'tunnel:\n  sources: [%s, "%s"]\n' "$TUNNEL_V4" "$TUNNEL_V6" ;;
    v4) printf 'tunnel:\n  sources: [%s]\n' "$TUNNEL_V4" ;;
    v6) printf 'tunnel:\n  sources: ["%s"]\n' "$TUNNEL_V6" ;;
    *) die "--outer: both, v4 or v6" ;;
  esac
}

print_service() { # NAME PORT
  cat <<YAML
  $1:
    listen: ["$VIP_V4:$2", "[$VIP_V6]:$2"]
    pool: portals
    mode: $mode
    affinity: $affinity
YAML
  if [ "$mode" = nat ] && [ "$PROXY_PROTOCOL" != none ]; then echo "    proxy_protocol: $PROXY_PROTOCOL"; fi
  print_lines 4 "${service_lines[@]}"
}

# The checks are those that Portico implies: one per service's port, with a login on 3306.
print_pool() {
  local k
  cat <<YAML
pools:
  portals:
    check: {${check}credentials: $STATE/credentials}
YAML
  print_lines 4 "${pool_lines[@]}"
  echo '    backends:'
  for ((k = 1; k <= PORTALS; ++k)); do
    printf '      portal-%d: [%s, "%s"]\n' "$k" "$(portal_v4 "$k")" "$(portal_v6 "$k")"
  done
}

print_lines() { # INDENT LINE...
  local indent=$1 line
  shift
  for line; do printf "%${indent}s%s\n" '' "$line"; done
}

# What the MySQL check logs in with, in the form of MySQL's own option files.
write_credentials() {
  (umask 077 && printf '[client]\nuser=%s\npassword=%s\n' "$CHECK_USER" "$CHECK_PASSWORD" >"$STATE/credentials")
}
