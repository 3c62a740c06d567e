# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the end-to-end tests: a lab with real servers, Portico in it, and checks that print `ok - …` or `not ok - …`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

LAB=t$$
BUILD=${PORTICO_BUILD:-build}
export VIP4=198.18.0.10
export VIP6=2001:db8::10
export PATH=$PWD/$BUILD/dataplane:$PWD/$BUILD/control:$PWD/$BUILD/control/cli:$PATH

lab() { local command=$1; shift; scripts/lab "$command" --name "$LAB" "$@"; }
on() { lab exec "$@"; }                       # on HOST COMMAND...
client() { on client /usr/bin/python3 tests/e2e/client.py "$@"; }
portico() { command portico --run-dir "$RUN" "$@"; }

cleanup() {
  local status=$?
  trap - EXIT INT TERM
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null
  if [ "${not_ok:-0}" != 0 ] && [ -n "${STATE:-}" ]; then
    for label in control dataplane; do
      echo "# the last lines of $label's log:"
      tail -n 25 "$STATE/supervised/$label.log" 2>/dev/null | sed 's/^/#   /'
    done
  fi
  lab down >/dev/null 2>&1
  exit "$status"
}

# Run by every test first: the lab, and everything gone at the end, however it ends.
start_lab() {
  trap cleanup EXIT
  trap 'exit 130' INT TERM
  lab up "$@" || { echo "not ok - the lab comes up"; exit 1; }
  STATE=$(lab dir)
  RUN=$STATE/run
  CONFIG=$STATE/portico.yaml
}

control_options=() # more of portico-control's

# start_portico [lab config options]: both processes, supervised; returns when all backends are up.
start_portico() {
  lab config "$@" >"$CONFIG" || exit 1
  chmod 0640 "$CONFIG" # it has the hash key
  lab supervise --as control -- portico-control --config "$CONFIG" --run-dir "$RUN" "${control_options[@]}"
  lab supervise --as dataplane -- portico-dataplane --run-dir "$RUN"
  wait_for 30 well || { echo "not ok - Portico comes up"; portico status; exit 1; }
}

stop_portico() {
  lab unsupervise dataplane
  lab unsupervise control
  on balancer portico-control --config "$CONFIG" --run-dir "$RUN" --cleanup
}

# What `portico status --json` prints, whatever its exit status says.
status_json() { portico status --json || true; }
well() { portico status >/dev/null 2>&1; }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
  local deadline=$(($(date +%s%N) + $1 * 1000000000))
  shift
  until "$@"; do
    [ "$(date +%s%N)" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

# stop PID...: ends what `client … &` or `on HOST … &` runs (a child of the shell that $! names), and nothing else.
stop() {
  local pid
  for pid; do pkill -TERM -P "$pid"; done
  wait "$@"
}

not_ok=0
# check DESCRIPTION COMMAND...: its output is shown if it fails.
check() {
  local description=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok - $description"
  else
    echo "not ok - $description"
    { head -c 2000 <<<"$output"; echo; } | sed 's/^/#   /'
    not_ok=$((not_ok + 1))
  fi
}

finish() { exit "$((not_ok > 0))"; }

# json FILTER: a jq filter that must be true of the JSON on standard input (else the input is shown).
json_is() {
  local input
  input=$(cat)
  jq -e "$1" <<<"$input" >/dev/null || { echo "not so: $1"; echo "$input"; return 1; }
}

# wrong_packets CAPTURE: the first with a wrong checksum or malformed up to TCP. A checksum of 0xffff is as right as 0, but
# tshark calls it bad; and what TCP carries is data, since tshark goes by port numbers, the client's too.
wrong_packets() {
  local found
  if ! found=$(tshark -nr "$1" -d tcp.port==1-65535,data -o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE \
    -Y '(tcp.checksum.status == "Bad" && tcp.checksum != 0xffff) || ip.checksum.status == "Bad" || _ws.malformed' 2>&1); then
    echo "tshark fails: $found"
  fi
  grep -v '^Running as user' <<<"$found" | head -3
}

pid_of() { cat "$STATE/supervised/$1.pid"; }

# All of COUNT connections succeeded, and each of two portals had 45 to 55 % of them (from `client.py short`).
evenly_spread() { json_is ".failed == 0 and ([.by_instance[] * 100 / $1] | length == 2 and all(. >= 45 and . <= 55))"; }

# health_is PORTAL HEALTH: in every pool.
health_is() { status_json | json_is "[.pools[].backends[] | select(.name == \"$1\") | .health] | unique == [\"$2\"]"; }
