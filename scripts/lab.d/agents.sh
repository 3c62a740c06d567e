# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# portico-agent on the portals: their end of the balancer's tunnels.

# The one of this build, unless the environment names another.
agent_program() { echo "${PORTICO_AGENT:-$(realpath "$LAB_D/../..")/${PORTICO_BUILD:-build}/agent/portico-agent}"; }

# agent.yaml of a portal. With second chance all portals are named as peers.
print_agent_config() { # PORTAL
  local k separator=''
  cat <<YAML
version: 1
instance: $1
interface: eth0
vips: [$VIP_V4, "$VIP_V6"]
balancers: [$TUNNEL_V4, "$TUNNEL_V6"]
YAML
  if [ "$TUNNELS" != second-chance ]; then
    echo 'clamp_mss: false # tests watch the balancer tell clients what fits'
    return
  fi
  printf 'peers: ['
  for ((k = 1; k <= PORTALS; ++k)); do
    printf '%s%s, "%s"' "$separator" "$(portal_v4 "$k")" "$(portal_v6 "$k")"
    separator=', '
  done
  echo ']'
}

agent_command() { # PORTAL COMMAND...
  in_host "$1" "$(agent_program)" --run-dir "$STATE/$1/agent-run" "${@:2}"
}

# Told so by its exit status: 2 is not attached, 1 that peers are not known yet.
agent_is_attached() {
  local status=0
  agent_command "$1" status --instance "$1" >/dev/null 2>&1 || status=$?
  [ "$status" -lt 2 ]
}

start_agents() {
  local k portal
  [ "$TUNNELS" != none ] || return 0
  for ((k = 1; k <= PORTALS; ++k)); do
    portal=portal-$k
    mkdir -p "$STATE/$portal"
    print_agent_config "$portal" >"$STATE/$portal/agent.yaml"
    supervise "$portal" "agent-$k" "$(agent_program)" run --config "$STATE/$portal/agent.yaml" \
      --run-dir "$STATE/$portal/agent-run"
  done
  for ((k = 1; k <= PORTALS; ++k)); do
    wait_until 10000 agent_is_attached "portal-$k" || die "portal-$k: portico-agent does not attach, see $STATE/supervised/agent-$k.log"
  done
}
