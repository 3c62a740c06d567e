# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Counts results. A test is a command; what it prints may hold `ok - …` / `not ok - …` lines (each counts as one),
# or a JUnit file that meson wrote (each case counts). Otherwise its exit status counts as one.

passed=0 failed=0 skipped=0
failures=()
logs=${PORTICO_TEST_LOGS:-build/test-logs}

note_failure() { failures+=("$1"); }

# count_junit FILE NAME: adds the cases of a JUnit file.
count_junit() {
  local counts
  counts=$(/usr/bin/python3 scripts/test.d/junit.py "$1") || { failed=$((failed + 1)); note_failure "$2: no results"; return; }
  local p f s
  read -r p f s < <(head -n 1 <<<"$counts")
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  local line
  while read -r line; do [ -z "$line" ] || note_failure "$2: $line"; done < <(tail -n +2 <<<"$counts")
}

# count_tap LOG NAME STATUS: adds the `ok`/`not ok` lines of a log; with none, the exit status.
count_tap() {
  local p f
  p=$(grep -c '^ok - ' "$1") || true
  f=$(grep -c '^not ok - ' "$1") || true
  skipped=$((skipped + $(grep -c '^skipped - ' "$1" || true)))
  if [ "$p" = 0 ] && [ "$f" = 0 ]; then
    if [ "$3" = 0 ]; then p=1; else f=1; fi
  elif [ "$3" != 0 ] && [ "$f" = 0 ]; then
    f=1
  fi
  passed=$((passed + p)) failed=$((failed + f))
  [ "$f" = 0 ] || note_failure "$2: $(grep -m 3 '^not ok - ' "$1" | tr '\n' ';' || true) (exit $3, log $1)"
}

# run_test NAME: runs the function or script behind a name, shows its output, counts it.
run_test() {
  local name=$1 status=0 log
  mkdir -p "$logs"
  log=$logs/${name//\//-}.log
  echo "=== $name"
  local began=$SECONDS
  junit=
  if [ -x "tests/e2e/$name" ]; then
    timeout -k 10 "${PORTICO_TEST_TIMEOUT:-600}" "tests/e2e/$name" </dev/null 2>&1 | tee "$log" || status=$?
  else
    # A step's function may set `junit`, so it runs in this shell.
    "step_${name//-/_}" >"$log" 2>&1 </dev/null || status=$?
    tail -n "${PORTICO_TEST_TAIL:-25}" "$log"
  fi
  if [ -n "$junit" ]; then
    count_junit "$junit" "$name"
    if [ "$status" != 0 ] && [ "${#failures[@]}" = 0 ]; then
      failed=$((failed + 1))
      note_failure "$name: exit status $status (log $log)"
    fi
  else
    count_tap "$log" "$name" "$status"
  fi
  echo "--- $name: exit $status, $((SECONDS - began)) s"
}

print_totals() {
  if [ "${#failures[@]}" != 0 ]; then
    echo
    echo "Failures:"
    printf '  %s\n' "${failures[@]}"
  fi
  echo
  [ "$skipped" = 0 ] || echo "$skipped skipped: this machine lacks what they need; each says what in its output"
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}
