// SPDX-License-Identifier: Apache-2.0
// `portico doctor`: looks at this host itself, so that it also works where neither process runs.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "contract/run_dir.h"
#include "control/cli/answer.h"
#include "control/doctor/finding.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using doctor::Examination;
using doctor::Finding;
using doctor::Severity;
using nlohmann::json;

constexpr const char* kUsualConfig = "/etc/portico/portico.yaml";

// The file that control uses; where it does not run, the usual one.
std::string config_path(const Context& context) {
  const ApiReply reply = ApiClient(context.run_dir, std::chrono::seconds(2)).get("/v1/status");
  const json status = json::parse(reply.body, nullptr, false);
  if (!reply.ok() || !status.is_object() || !status.contains("config")) return kUsualConfig;
  return status["config"].value("path", kUsualConfig);
}

Examination begin(const Context& context, const std::string& path) {
  Examination e{
      .config = {}, .config_path = path.empty() ? config_path(context) : path, .run_dir = context.run_dir};
  e.control_alive = table_writer(context.run_dir).alive;
  e.dataplane_alive = feedback_writer(context.run_dir).alive;
  e.is_root = geteuid() == 0;
  const ConfigResult read = load_config(e.config_path, false);
  if (read.config) {
    e.config = *read.config;
    return e;
  }
  const auto first = std::ranges::find(read.messages, true, &ConfigMessage::is_error);
  e.add(Severity::error, "configuration", e.config_path,
        "it cannot be used, so only the host was looked at: " +
            (first == read.messages.end() ? std::string() : first->text),
        "`portico check-config " + e.config_path +
            "` lists all that is wrong; `portico doctor FILE` takes another");
  return e;
}

int exit_of(const std::vector<Finding>& findings) {
  Severity worst = Severity::notice;
  for (const Finding& finding : findings) worst = std::max(worst, finding.severity);
  return worst == Severity::error ? kExitUnserved : worst == Severity::warning ? kExitDegraded : kExitWell;
}

Colour colour_of(Severity severity) {
  return severity == Severity::error     ? Colour::bad
         : severity == Severity::warning ? Colour::warning
                                         : Colour::faint;
}

json to_json(const Examination& e, const std::vector<std::string>& checks) {
  json findings = json::array();
  for (const Finding& one : e.findings)
    findings.push_back({{"severity", doctor::to_string(one.severity)},
                        {"check", one.check},
                        {"subject", one.subject},
                        {"text", one.text},
                        {"remedy", one.remedy}});
  return {{"config", e.config_path}, {"checks", checks}, {"findings", findings}, {"skipped", e.skipped}};
}

std::string to_text(const Examination& e, const std::vector<std::string>& checks, const Style& style) {
  std::string out;
  for (const Finding& one : e.findings) {
    out += style.paint(colour_of(one.severity), fmt::format("{:<8}", doctor::to_string(one.severity)));
    out += one.check + (one.subject.empty() ? "" : " " + to_printable(one.subject)) + ": " +
           to_printable(one.text) + "\n";
    out += "        -> " + to_printable(one.remedy) + "\n";
  }
  for (const std::string& text : e.skipped) out += "not looked at: " + to_printable(text) + "\n";
  out += e.findings.empty() ? style.paint(Colour::good, "nothing found")
                            : fmt::format("{} found", e.findings.size());
  out += " by";
  for (const std::string& name : checks) out += " " + name;
  return out + "\n";
}

}  // namespace

int examine(const Context& context, const std::string& path) {
  Examination e = begin(context, path);
  std::vector<std::string> checks;
  for (const doctor::Check& check : doctor::all_checks()) {
    check.run(e);
    checks.emplace_back(check.name);
  }
  std::ranges::stable_sort(e.findings, std::greater<>(), &Finding::severity);
  context.out << (context.json ? dump(to_json(e, checks)) : to_text(e, checks, context.style));
  return exit_of(e.findings);
}

}  // namespace portico::cli
