// SPDX-License-Identifier: Apache-2.0
#include "control/cli/offline.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "contract/adopter.h"
#include "contract/feedback_file.h"
#include "control/config_text.h"

namespace portico::cli {

namespace {

using nlohmann::json;
using namespace std::chrono_literals;

// `is_secret`: this user may not read the feedback file.
json dataplane_json(const FeedbackResult& result, const Feedback& feedback, bool is_secret) {
  json out = {{"alive", result.writer_alive}, {"pid", result.pid}};
  const bool working = result.ok() && result.writer_alive && !result.stale;
  out["working"] = working;
  if (result.ok()) {
    uint64_t flows = 0, drops = 0;
    for (uint32_t i = 0; i < std::min(feedback.header.worker_count, kMaxWorkers); ++i)
      flows += feedback.workers[i].flows;
    for (const uint64_t count : feedback.drops) drops += count;
    out["started_ms"] = feedback.header.start_realtime_ns / 1'000'000;
    out["adopted"] = feedback.header.adopted_generation;
    out["workers"] = feedback.header.worker_count;
    out["flows"] = flows;
    out["drops"] = drops;
  }
  if (is_secret) {
    out["state"] = "unknown";
    out["text"] = "whether the dataplane runs is not known: " + result.text + "; run this as root";
  } else if (!result.writer_alive) {
    out["state"] = "absent";
    out["text"] = result.status == FeedbackStatus::absent
                      ? "the dataplane has not run here; start portico-dataplane"
                      : "the dataplane is not running; nothing is forwarded: start portico-dataplane";
  } else if (!result.ok()) {
    out["state"] = "unknown";
    out["text"] = result.text;
  } else {
    out["state"] = to_string(DataplaneState{feedback.header.state});
    out["text"] = result.stale ? "the dataplane is there but gives no sign of life; look at its log" : "";
  }
  return out;
}

// Names and flows, from the table that control published last and the dataplane's counters.
void add_flows(json& out, const std::string& run_dir, const Feedback& feedback) {
  Adopter adopter(run_dir);
  const AdoptResult adopted = adopter.poll();
  if (adopted.kind != AdoptResult::Kind::adopted) return;
  const Snapshot& snapshot = *adopted.snapshot;
  out["services"] = json::array();
  for (const ServiceRecord& service : snapshot.services->records<ServiceRecord>()) {
    json listen = json::array();
    for (const ListenerRecord& listener : snapshot.listeners->records<ListenerRecord>()) {
      if (listener.service == service.id)
        listen.push_back(format_endpoint({listener.address, listener.port}));
    }
    // A service that was removed keeps its record while it has flows.
    if (listen.empty()) continue;
    out["services"].push_back(
        {{"name", service.name}, {"listen", listen}, {"flows", feedback.services[service.id].flows}});
  }
  out["backends"] = json::array();
  for (const Snapshot::Pool& pool : snapshot.pools) {
    for (const BackendRecord& backend : pool.backends->records<BackendRecord>()) {
      out["backends"].push_back({{"pool", pool.pool().name},
                                 {"name", backend.name},
                                 {"flows", feedback.backends[backend.id].flows}});
    }
  }
}

}  // namespace

json read_offline(const std::string& run_dir) {
  const auto feedback = std::make_unique<Feedback>();
  const FeedbackResult result = FeedbackReader(run_dir).read(*feedback);
  const TableStatus table = read_table_status(run_dir);
  json out;
  out["now_ms"] = realtime_ns() / 1'000'000;
  const std::string file = run_dir + "/" + kFeedbackFile;
  const bool is_secret = access(file.c_str(), R_OK) != 0 && errno == EACCES;
  out["dataplane"] = dataplane_json(result, *feedback, is_secret);
  out["table"] = {{"generation", table.generation},
                  {"control_alive", table.writer.alive},
                  {"control_pid", table.writer.pid},
                  {"text", table.text}};
  if (result.ok() && result.writer_alive) add_flows(out, run_dir, *feedback);
  return out;
}

std::string offline_text(const json& offline, const Style& style) {
  const json& dataplane = offline.at("dataplane");
  const json& table = offline.at("table");
  std::string out = "dataplane  ";
  if (dataplane.at("working") == true) {
    const int64_t up = offline.at("now_ms").get<int64_t>() - dataplane.value("started_ms", int64_t{0});
    out += style.paint(Colour::good, dataplane.value("state", ""));
    out +=
        fmt::format(", process {}, up {}, workers {}, table {} in use, flows {}\n", dataplane.value("pid", 0),
                    format_age(up), dataplane.value("workers", 0), dataplane.value("adopted", uint64_t{0}),
                    format_count(dataplane.value("flows", uint64_t{0})));
  } else {
    out += style.paint(Colour::bad, dataplane.value("text", "")) + "\n";
  }
  const std::string problem = table.value("text", "");
  out += problem.empty() ? fmt::format("table      {} published\n", table.value("generation", uint64_t{0}))
                         : "table      " + problem + "\n";
  if (!offline.contains("services")) return out;
  using enum Table::Align;
  Table flows({left, left, right});
  flows.add({{"SERVICE"}, {"LISTEN"}, {"FLOWS"}});
  for (const json& service : offline["services"]) {
    for (size_t i = 0; i < service.at("listen").size(); ++i) {
      flows.add({{i == 0 ? service.value("name", "") : ""},
                 {service["listen"][i].get<std::string>()},
                 {i == 0 ? format_count(service.value("flows", uint64_t{0})) : ""}});
    }
  }
  flows.add({{"BACKEND"}, {"POOL"}, {"FLOWS"}});
  for (const json& backend : offline["backends"]) {
    flows.add({{backend.value("name", "")},
               {backend.value("pool", "")},
               {format_count(backend.value("flows", uint64_t{0}))}});
  }
  return out + flows.print(style);
}

}  // namespace portico::cli
