# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A Portico configuration that fits the lab: all three services on both VIPs, all portals behind them.

print_config() {
  local mode=nat affinity=connection interval=2000 fast=200 timeout=1000 ports='[front, back]' k
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || die "config: $1 has no value"
    case $1 in
      --mode) mode=$2 ;;
      --affinity) affinity=$2 ;;
      --interval) interval=$2 ;;
      --fast-interval) fast=$2 ;;
      --timeout) timeout=$2 ;;
      *) die "config: unknown option '$1'" ;;
    esac
    shift 2
  done
  [ "$TOPOLOGY" = two ] || ports='[front]'
  case $mode in
    nat) ;;
    dsr-l2) [ "$TOPOLOGY" = one ] || die "dsr-l2 needs portals that hold the VIP: scripts/lab up --topology one" ;;
    *) die "--mode: nat or dsr-l2" ;;
  esac
  write_credentials
  cat <<YAML
# Portico's configuration for the lab '$NAME' (scripts/lab config).
version: 1
instance: $NAME
dataplane:
  ports: $ports
YAML
  [ "$mode" != nat ] || printf 'nat:\n  addresses: [%s, %s, "%s"]\n' "${NAT_V4[@]}" "${NAT_V6[@]}"
  echo 'services:'
  print_service portal-http 80
  print_service portal-https 443
  print_service portal-mysql 3306
  cat <<YAML
    allow: [$FRONT_NET_V4, "$FRONT_NET_V6"]
pools:
  portals:
    backends:
YAML
  for ((k = 1; k <= PORTALS; ++k)); do
    printf '      portal-%d: {address: [%s, "%s"]}\n' "$k" "$(portal_v4 "$k")" "$(portal_v6 "$k")"
  done
  echo '    checks:'
  print_check http 'kind: tcp, port: 80'
  print_check https 'kind: tcp, port: 443'
  print_check mysql "kind: mysql, port: 3306, credentials_file: $STATE/credentials"
}

# Reads mode and affinity of its caller.
print_service() { # NAME PORT
  cat <<YAML
  $1:
    listen: ["$VIP_V4:$2", "[$VIP_V6]:$2"]
    pool: portals
    mode: $mode
    affinity: $affinity
YAML
}

# Reads interval, fast and timeout of its caller.
print_check() { # NAME WHAT
  echo "      $1: {$2, interval: ${interval}ms, fast_interval: ${fast}ms, timeout: ${timeout}ms, fall: 2, rise: 2}"
}

# What the MySQL check logs in with.
write_credentials() {
  (umask 077 && printf 'user: %s\npassword: %s\n' "$CHECK_USER" "$CHECK_PASSWORD" >"$STATE/credentials")
}
