# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # `junit` is read by run_test
# The tests that are not scripts of tests/e2e: builds, unit tests, sanitizers, fuzzing, lint.

fuzz_seconds=${PORTICO_FUZZ_SECONDS:-60}

# Whether those that take longest are meant, too; of modes that share all but their headers, each test in one.
is_whole() { [ "${full:-false}" = true ] || [ "${only:-*}" != '*' ]; }

# All names, in the order in which they run. Those that take longest are left to `--full` or `--only`.
all_tests() {
  echo build
  if [ "${nic:-false}" = true ]; then
    echo nic
    return
  fi
  echo unit-and-packet-tests
  echo lint
  echo web-bundle
  find tests/e2e -maxdepth 1 -type f -perm -u+x ! -name '*.*' -printf '%f\n' 2>/dev/null | sort | if is_whole; then cat; else grep -v -e '-dsr-ipip$' -e '-full$' -e '^blackhole-dsr-l2$'; fi
  echo sanitized-core-tests
  echo fuzz
  if is_whole; then
    echo tidy
    echo sanitized-tests
  fi
}

configure() {
  local dir=$1
  shift
  if [ -f "$dir/build.ninja" ]; then meson configure "$dir" "$@"; else meson setup "$dir" "$@"; fi
}

step_build() {
  configure build -Dwerror=true && ninja -C build
}

step_unit_and_packet_tests() {
  local status=0
  [ -f build/build.ninja ] || step_build
  meson test -C build --no-rebuild --print-errorlogs --timeout-multiplier 4 || status=$?
  junit=build/meson-logs/testlog.junit.xml
  return $status
}

step_nic() { tests/nic/run && tests/nic/vlan && tests/nic/bench; }
step_web_bundle() { scripts/web check; }
step_lint() { scripts/lint --fast; }
step_tidy() { scripts/lint; }

# configure_sanitized: one build with ASan and UBSan serves tests and fuzzing. clang's, because libFuzzer is; -O1, because
# that compiles in half of the time and runs at a third less.
configure_sanitized() {
  CC=clang CXX=clang++ configure build-fuzz -Dfuzz=true -Dbenchmarks=false -Db_lundef=false -Db_sanitize=address,undefined \
    -Dbuildtype=custom -Doptimization=1 -Ddebug=false -Dcpp_args=-gline-tables-only
}

# begin_sanitized_build: on what the end-to-end tests, which mostly wait, leave of the processors. It takes as long as they do.
sanitized_build=
begin_sanitized_build() {
  chrt --idle 0 bash -c "$(declare -f configure configure_sanitized)
    configure_sanitized && exec ninja -C build-fuzz core-tests fuzzers" >"${logs:?}/sanitized-build.log" 2>&1 </dev/null &
  sanitized_build=$!
  trap 'kill "$sanitized_build" 2>/dev/null || true' EXIT
}

# end_sanitized_build: whether one that began is done well, or none did.
end_sanitized_build() {
  [ -n "$sanitized_build" ] || return 0
  local status=0
  wait "$sanitized_build" || status=$?
  sanitized_build=
  trap - EXIT
  if [ "$status" != 0 ]; then tail -n 40 "${logs:?}/sanitized-build.log"; fi
  return "$status"
}

# run_sanitized MESON_TEST_ARGUMENTS...: in that build.
run_sanitized() {
  local status=0
  ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0" \
    meson test -C build-fuzz --no-rebuild --print-errorlogs --timeout-multiplier 10 "$@" || status=$?
  junit=build-fuzz/meson-logs/testlog.junit.xml
  return $status
}

# Packets, shared memory, tables, configuration texts.
step_sanitized_core_tests() {
  end_sanitized_build && configure_sanitized && ninja -C build-fuzz core-tests || return 1
  run_sanitized --suite core
}

step_sanitized_tests() {
  configure_sanitized && ninja -C build-fuzz || return 1
  run_sanitized --no-suite model
}

# fuzz_one TARGET: for its time, from its seeds and what earlier runs found.
fuzz_one() {
  local name corpus log
  name=$(basename "$1")
  corpus=build-fuzz/corpus/$name log=build-fuzz/$name.log
  mkdir -p "$corpus" "tests/fuzz/seeds/$name"
  # Without entropic scheduling: its bookkeeping took half of the time.
  "$1" -entropic=0 -max_total_time="$fuzz_seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 "$corpus" "tests/fuzz/seeds/$name" \
    >"$log" 2>&1
}

# All fuzz targets side by side, each for its time.
step_fuzz() {
  configure_sanitized && ninja -C build-fuzz fuzzers || return 1
  local -A running=()
  local target name failed_targets=0
  for target in build-fuzz/tests/fuzz/fuzz-*; do
    if [ -d "$target" ]; then continue; fi  # meson's folder of object files
    fuzz_one "$target" &
    running[$(basename "$target")]=$!
  done
  for name in "${!running[@]}"; do
    if wait "${running[$name]}"; then
      echo "ok - $name: $fuzz_seconds s without a finding, $(sed -n 's/stat::number_of_executed_units: *//p' "build-fuzz/$name.log") runs"
    else
      tail -n 40 "build-fuzz/$name.log"
      echo "not ok - $name"
      failed_targets=$((failed_targets + 1))
    fi
  done
  [ "${#running[@]}" -gt 0 ] && [ "$failed_targets" = 0 ]
}
