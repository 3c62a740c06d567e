# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Programs that run in the lab in the background and come back when they die, as under an init system: Portico's
# processes, mostly. Each has a label, and its files in $STATE/supervised (see `supervisor`).

supervised_file() {
  [[ $1 =~ ^[a-z0-9][a-z0-9-]*$ ]] || die "label '$1': use a-z, 0-9 and -"
  echo "$STATE/supervised/$1"
}

supervise() { # HOST LABEL COMMAND...
  local host=$1 file
  file=$(supervised_file "$2")
  host_exists "$host" || die "no host '$host' in lab $NAME"
  if pid_runs "$file.supervisor"; then die "'$2' runs already: scripts/lab unsupervise --name $NAME $2"; fi
  shift 2
  command -v "$1" >/dev/null || die "no such program: $1"
  mkdir -p "$STATE/supervised"
  in_host "$host" setsid "$LAB_D/supervisor" "$file" "$@" </dev/null >>"$file.log" 2>&1 &
  wait_until 5000 pid_runs "$file.pid" || die "'$1' does not stay up, see $file.log"
}

unsupervise() { # LABEL
  local file child
  file=$(supervised_file "$1")
  pid_runs "$file.supervisor" || die "nothing called '$1' is supervised in lab $NAME"
  child=$(cat "$file.pid" 2>/dev/null || true)
  kill -TERM "$(cat "$file.supervisor")"
  if ! wait_until 10000 supervisor_gone "$file"; then
    say "'$1' ignores SIGTERM for 10 s: killed"
    kill -KILL "$child" 2>/dev/null || true
    wait_until 2000 supervisor_gone "$file"
  fi
}

supervisor_gone() { ! pid_runs "$1.supervisor"; }
