# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # `junit` is read by run_test
# The tests that are not scripts of tests/e2e: builds, unit tests, sanitizers, fuzzing, lint.

fuzz_seconds=${PORTICO_FUZZ_SECONDS:-60}

# All names, in the order in which they run.
all_tests() {
  echo build
  echo unit-and-packet-tests
  echo lint
  find tests/e2e -maxdepth 1 -type f -perm -u+x -printf '%f\n' 2>/dev/null | sort
  echo sanitized-tests
  echo fuzz
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

step_lint() { scripts/lint; }

step_sanitized_tests() {
  local status=0
  configure build-asan -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized -Dbenchmarks=false &&
    ninja -C build-asan || return 1
  ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    meson test -C build-asan --no-rebuild --print-errorlogs --timeout-multiplier 10 --no-suite model || status=$?
  junit=build-asan/meson-logs/testlog.junit.xml
  return $status
}

# All fuzz targets side by side on the machine's cores, each for its time.
step_fuzz() {
  CC=clang CXX=clang++ configure build-fuzz -Dfuzz=true -Dbenchmarks=false -Db_lundef=false \
    -Db_sanitize=address,undefined && ninja -C build-fuzz fuzzers || return 1
  local target failed_targets=0
  while read -r target; do
    local seeds=()
    [ ! -d "tests/fuzz/seeds/$(basename "$target")" ] || seeds=("tests/fuzz/seeds/$(basename "$target")")
    echo "fuzzing $target for $fuzz_seconds s"
    mkdir -p "build-fuzz/corpus/$(basename "$target")"
    if "$target" -max_total_time="$fuzz_seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
      "build-fuzz/corpus/$(basename "$target")" "${seeds[@]}" >"build-fuzz/$(basename "$target").log" 2>&1; then
      grep -E 'stat::number_of_executed_units' "build-fuzz/$(basename "$target").log" || true
      echo "ok - $(basename "$target") ran $fuzz_seconds s without a finding"
    else
      tail -n 40 "build-fuzz/$(basename "$target").log"
      echo "not ok - $(basename "$target")"
      failed_targets=$((failed_targets + 1))
    fi
  done < <(find build-fuzz/tests -maxdepth 2 -type f -name 'fuzz-*' -perm -u+x | sort)
  return "$failed_targets"
}
