// SPDX-License-Identifier: Apache-2.0
// TSC cycles per packet of one worker: receive, all of the packet path, transmit and the sweep, less the same
// loop that only receives and transmits. Bursts of 64 come from an in-memory device of 8192 buffers; the
// generator runs on the same core, outside the timed part: distinct flows in random order, 64-byte frames.
// The bare loop takes every other burst, so that both see the same machine. Each figure is the median of
// several processes of the median burst.
//
//   bench-packet-path [--only PATTERN] [--processes 5] [--bursts 4000] [--ahead 1] [--cpu N] [--json FILE]
//                     [--list] [--quick] [--warm]
//
// --warm leaves out the rows of cold tables. PATTERN is part of a row's name, such as nat-in/v4/1k/warm.
// `--ahead N` generates N bursts before they are timed one by one: with 64, packets come from the
// second-level cache and beyond, as without DDIO.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "bench/memory_reads.h"
#include "bench/packet_run.h"

namespace portico::bench {
namespace {

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  const auto add = [&](Family family, uint32_t flows, bool is_cold) {
    rows.push_back({"dsr-l2", Mode::dsr_l2, What::established, family, flows, is_cold});
    rows.push_back({"nat-in", Mode::nat, What::established, family, flows, is_cold});
    rows.push_back({"nat-out", Mode::nat, What::reply, family, flows, is_cold});
    rows.push_back({"dsr-l2-new", Mode::dsr_l2, What::opening, family, flows, is_cold});
    rows.push_back({"nat-new", Mode::nat, What::opening, family, flows, is_cold});
  };
  for (const bool is_cold : {false, true}) {
    for (const uint32_t flows : {1000u, 64000u, 1000000u, 10000000u}) add(Family::v4, flows, is_cold);
  }
  for (const uint32_t flows : {1000u, 64000u, 1000000u}) add(Family::v6, flows, false);
  for (const uint32_t flows : {1000u, 1000000u}) {
    rows.push_back({"dsr-ipip", Mode::dsr_ipip, What::established, Family::v4, flows});
    rows.push_back({"proxy-in", Mode::nat, What::established, Family::v4, flows, false, true});
    rows.push_back({"proxy-out", Mode::nat, What::reply, Family::v4, flows, false, true});
    const auto add_stages = [&](const char* kind, Mode mode, What what) {
      rows.push_back({kind, mode, what, Family::v4, flows, false, false, true});
    };
    add_stages("stages-dsr-l2", Mode::dsr_l2, What::established);
    add_stages("stages-nat-in", Mode::nat, What::established);
    add_stages("stages-dsr-l2-new", Mode::dsr_l2, What::opening);
    add_stages("stages-nat-new", Mode::nat, What::opening);
    rows.push_back({"two-workers-dsr-l2", Mode::dsr_l2, What::pair, Family::v4, flows});
    rows.push_back({"two-workers-nat-in", Mode::nat, What::pair, Family::v4, flows});
    rows.push_back({"memory", Mode::dsr_l2, What::memory, Family::v4, flows});
  }
  rows.push_back({"memory", Mode::dsr_l2, What::memory, Family::v4, 10000000});
  rows.push_back({"syn-flood-dsr-l2", Mode::dsr_l2, What::flood, Family::v4, 64000});
  rows.push_back({"syn-flood-nat-in", Mode::nat, What::flood, Family::v4, 64000});
  rows.push_back({"table-full-dsr-l2", Mode::dsr_l2, What::full, Family::v4, 64000});
  rows.push_back({"device-loop", Mode::dsr_l2, What::device, Family::v4, 1000});
  return rows;
}

void pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) throw std::runtime_error("no such CPU");
}

// The throughput of two workers at a time by that of one, each on a CPU of its own; the device's part
// included.
double measure_pair(const Row& row, const Options& options, rte_mempool* pool, bool huge_pages) {
  Run first(row, options, pool, huge_pages), second(row, options, pool, huge_pages, 1);
  double alone = 0, together[2] = {};
  std::barrier both(2);
  const auto run = [&](Run& one, int cpu) {
    pin(cpu);
    if (cpu == 0) alone = one.measure_whole();
    both.arrive_and_wait();
    together[cpu] = one.measure_whole();
  };
  std::thread other([&] { run(second, 1); });
  run(first, 0);
  other.join();
  return alone / together[0] + alone / together[1];
}

std::vector<double> run_here(const Row& row, const Options& options, bool huge_pages) {
  if (row.what == What::memory) return measure_memory(row.flows, huge_pages);
  rte_mempool* const pool = start_dpdk(huge_pages);
  if (row.what == What::pair) return {measure_pair(row, options, pool, huge_pages)};
  return Run(row, options, pool, huge_pages).measure();
}

// In a child: a fresh process has its own memory layout.
std::vector<double> run_apart(const Row& row, const Options& options, bool huge_pages) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("no pipe");
  std::vector<double> result(row.figures().size());
  const auto size = static_cast<ssize_t>(result.size() * sizeof(double));
  const pid_t child = fork();
  if (child == 0) {
    try {
      const std::vector<double> values = run_here(row, options, huge_pages);
      _exit(write(ends[1], values.data(), static_cast<size_t>(size)) == size ? 0 : 1);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s: %s\n", row.name().c_str(), e.what());
      _exit(1);
    }
  }
  close(ends[1]);
  const bool is_whole = read(ends[0], result.data(), static_cast<size_t>(size)) == size;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!is_whole) throw std::runtime_error(row.name() + ": no result");
  return result;
}

void report_figure(const Row& row, const Row::Figure& figure, std::vector<double>& values,
                   const Options& options, std::FILE* json) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double least = *low, most = *high, middle = median(values);
  const std::string name = row.name() + (*figure.name != 0 ? "/" : "") + figure.name;
  std::printf("%-34s %8.2f %s  (%.2f to %.2f, %u processes)\n", name.c_str(), middle, figure.unit, least,
              most, options.processes);
  std::fflush(stdout);
  if (json == nullptr) return;
  std::fprintf(
      json,
      "%s{\"name\": \"packet-path/%s\", \"parameters\": {\"kind\": \"%s\", \"family\": %d, \"flows\": %u, "
      "\"cold\": %s, \"ahead\": %u, \"processes\": %u}, \"unit\": \"%s\", \"median\": %.2f, "
      "\"min\": %.2f, \"max\": %.2f, \"peer\": null, \"ratio\": null}",
      std::ftell(json) > 2 ? ",\n" : "", name.c_str(), row.kind, static_cast<int>(row.family), row.flows,
      row.is_cold ? "true" : "false", options.ahead, options.processes, figure.unit, middle, least, most);
}

void report(const Row& row, const Options& options, std::FILE* json) {
  const bool huge_pages = access("/dev/hugepages", W_OK) == 0;
  const std::vector<Row::Figure> figures = row.figures();
  std::vector<std::vector<double>> values(figures.size());
  for (uint32_t i = 0; i < options.processes; ++i) {
    const std::vector<double> run = run_apart(row, options, huge_pages);
    for (size_t k = 0; k < run.size(); ++k) values[k].push_back(run[k]);
  }
  if (!huge_pages) std::puts("no huge pages: the next row is of ordinary ones");
  for (size_t k = 0; k < figures.size(); ++k) report_figure(row, figures[k], values[k], options, json);
}

uint32_t number(const char* text) {
  char* end;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (*end != 0 || value == 0 || value > 1000000)
    throw std::invalid_argument(std::string("not a number: ") + text);
  return static_cast<uint32_t>(value);
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--list") {
      o.list = true;
      continue;
    }
    if (word == "--warm") {
      o.warm_only = true;
      continue;
    }
    if (word == "--quick") {
      o.quick = true;
      o.processes = 1;
      o.bursts = 1000;
      continue;
    }
    if (i + 1 == argc) throw std::invalid_argument("unknown argument, or no value: " + word);
    const char* const value = argv[++i];
    if (word == "--only")
      o.only = value;
    else if (word == "--json")
      o.json = value;
    else if (word == "--processes")
      o.processes = number(value);
    else if (word == "--bursts")
      o.bursts = number(value);
    else if (word == "--ahead")
      o.ahead = std::min(number(value), kBuffers / kBurstSize);
    else if (word == "--cpu")
      o.cpu = std::atoi(value);
    else
      throw std::invalid_argument("unknown argument: " + word);
  }
  return o;
}

int run(const Options& options) {
  pin(options.cpu);
  std::FILE* const json = options.json.empty() ? nullptr : std::fopen(options.json.c_str(), "w");
  if (!options.json.empty() && json == nullptr) throw std::runtime_error("cannot write " + options.json);
  if (json != nullptr) std::fputs("[\n", json);
  for (const Row& row : all_rows()) {
    if (row.name().find(options.only) == std::string::npos) continue;
    if (options.quick && (row.flows > 1000000 || row.is_cold)) continue;
    if (options.warm_only && row.is_cold) continue;
    if (options.list) {
      std::puts(row.name().c_str());
      continue;
    }
    report(row, options, json);
  }
  if (json != nullptr) {
    std::fputs("\n]\n", json);
    std::fclose(json);
  }
  return 0;
}

}  // namespace
}  // namespace portico::bench

int main(int argc, char** argv) {
  try {
    return portico::bench::run(portico::bench::parse(argc, argv));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench-packet-path: %s\n", e.what());
    return 1;
  }
}
