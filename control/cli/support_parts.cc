// SPDX-License-Identifier: Apache-2.0
// The parts of a support bundle.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "contract/run_dir.h"
#include "control/cli/client.h"
#include "control/cli/run_program.h"
#include "control/cli/support_bundle.h"
#include "control/doctor/finding.h"

namespace portico::cli {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kUsualConfig = "/etc/portico/portico.yaml";
constexpr size_t kKeptVersions = 10;          // of the configurations that were applied
constexpr size_t kLogTail = size_t{1} << 20;  // bytes
constexpr const char* kLogLines = "5000";

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// What a command says with --json.
void add_command(Bundle& bundle, const Context& context, const std::string& name,
                 const std::function<int(const Context&)>& command) {
  std::ostringstream out, err;
  try {
    command(Context{context.run_dir, true, Style(false), out, err});
  } catch (const std::exception& e) {
    return bundle.miss(name, e.what());
  }
  const json answer = json::parse(out.str(), nullptr, false);
  // Of `status` there is something besides the error.
  if (answer.is_object() && answer.contains("error") && answer.size() <= 2)
    return bundle.miss(name + ".json", answer["error"].dump());
  bundle.add_json(name + ".json", "portico " + name + " --json", out.str());
}

// An answer of control; "" if there is none, which is said then.
std::string ask(Bundle& bundle, const Context& context, const std::string& name, const std::string& target) {
  const ApiReply reply = ApiClient(context.run_dir).get(target);
  if (reply.ok()) return reply.body;
  bundle.miss(name, reply.reached() ? fmt::format("control answered {}", reply.status) : reply.problem);
  return "";
}

void add_command_lines(Bundle& bundle, const Context& context) {
  for (const auto& [name, writer] : {std::pair{"control", table_writer(context.run_dir)},
                                     std::pair{"dataplane", feedback_writer(context.run_dir)}}) {
    if (!writer.alive || writer.pid == 0) {
      bundle.miss(fmt::format("process-{}.txt", name), "it does not run");
      continue;
    }
    const std::string folder = fmt::format("/proc/{}/", writer.pid);
    std::string line = read_text(folder + "cmdline");
    std::ranges::replace(line, '\0', ' ');
    bundle.add_text(fmt::format("process-{}.txt", name), folder,
                    redact_words(line) + read_text(folder + "status") + read_text(folder + "limits"));
  }
}

// What a line of a credentials or token file ends in: the value behind `=`, the last word.
void add_secrets_of(Scrubber& scrubber, const fs::path& path) {
  constexpr const char* kAround = " \t\r\"'";
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("user") || line.starts_with('#')) continue;
    line.erase(line.find_last_not_of(kAround) + 1);
    const std::string value = line.substr(line.find('=') + 1);
    scrubber.add(value.substr(std::min(value.find_first_not_of(kAround), value.size())));
    scrubber.add(line.substr(line.find_last_of(" \t=") + 1));
  }
}

// Those of the credentials files that a configuration names, if only half of it makes sense.
void add_credentials(Scrubber& scrubber, const YamlNode& node, const fs::path& folder) {
  for (size_t i = 0; i < node.keys.size(); ++i)
    if (node.keys[i].text == "credentials" && !node.items[i].text.empty())
      add_secrets_of(scrubber, folder / node.items[i].text);
  for (const YamlNode& item : node.items) add_credentials(scrubber, item, folder);
}

// What the files with secrets have should be nowhere: this is for a reason or a log that somebody put one
// into.
void add_secrets(Bundle& bundle, const Context& context, const std::string& config_path) {
  const auto tree = parse_yaml(read_text(config_path));
  if (const auto* root = std::get_if<YamlNode>(&tree))
    add_credentials(bundle.scrubber, *root, fs::path(config_path).parent_path());
  const fs::path process = fmt::format("/proc/{}", table_writer(context.run_dir).pid);
  std::istringstream words(read_text(process / "cmdline"));
  constexpr std::string_view kTokens = "--http-tokens";
  std::string before;
  for (std::string word; std::getline(words, word, '\0'); before = word) {
    if (before == kTokens) add_secrets_of(bundle.scrubber, process / "cwd" / word);
    if (word.starts_with(kTokens) && word.size() > kTokens.size())
      add_secrets_of(bundle.scrubber, process / "cwd" / word.substr(kTokens.size() + 1));
  }
}

void add_versions(Bundle& bundle, const Context& context) {
  const json list = json::parse(ask(bundle, context, "configs/", "/v1/configs"), nullptr, false);
  if (!list.is_object()) return;
  std::vector<uint64_t> versions;
  for (const json& one : list.value("configs", json::array()))
    versions.push_back(one.value("version", uint64_t{0}));
  std::ranges::sort(versions, std::greater<>());
  if (versions.size() > kKeptVersions) versions.resize(kKeptVersions);
  for (const uint64_t version : versions) {
    const std::string target = fmt::format("/v1/configs/{}", version);
    const json entry = json::parse(ask(bundle, context, target, target), nullptr, false);
    if (entry.is_object())
      bundle.add_config(fmt::format("configs/{}.json", version), target, entry.value("text", ""));
  }
}

void add_program(Bundle& bundle, const std::string& name, const std::vector<std::string>& arguments) {
  std::string words;
  for (const std::string& word : arguments) words += (words.empty() ? "" : " ") + word;
  const Finished done = run_program(arguments);
  if (done.output.empty())
    bundle.miss(
        name, words + ": " +
                  (done.messages.empty() ? "no answer" : done.messages.substr(0, done.messages.find('\n'))));
  else
    bundle.add_text(name, words, done.output + done.messages);
}

void add_tail(Bundle& bundle, const std::string& path) {
  const std::string name = "logs/" + fs::path(path).filename().string();
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return bundle.miss(name, path + " cannot be read");
  const auto size = static_cast<size_t>(std::max<std::streamoff>(file.tellg(), 0));
  file.seekg(static_cast<std::streamoff>(size > kLogTail ? size - kLogTail : 0));
  std::ostringstream text;
  text << file.rdbuf();
  bundle.add_text(name, path, text.str());
}

}  // namespace

std::vector<std::string> add_portico(Bundle& bundle, const Context& context, const std::string& config_path) {
  // Status first: it tells whether control is there, and where its configuration is.
  add_command(bundle, context, "status", show_status);
  const ApiReply reply = ApiClient(context.run_dir).get("/v1/status");
  const json status = json::parse(reply.body, nullptr, false);
  std::string path = config_path;
  if (path.empty())
    path = reply.ok() && status.is_object() ? status.value("/config/path"_json_pointer, kUsualConfig)
                                            : kUsualConfig;
  add_command(bundle, context, "version", show_version);
  if (const std::string text = read_text(path); !text.empty())
    bundle.add_config("config.json", path, text);
  else
    bundle.miss("config.json", path + " cannot be read, or is empty");
  if (const std::string text = ask(bundle, context, "config-effective.json", "/v1/config/effective");
      !text.empty())
    bundle.add_config("config-effective.json", "/v1/config/effective", text);
  const ConfigResult read = load_config(path, false);
  add_secrets(bundle, context, path);
  add_versions(bundle, context);
  add_command(bundle, context, "drops", [](const Context& c) { return show_drops(c, true); });
  add_command(bundle, context, "events", [](const Context& c) { return show_events(c, false); });
  add_command(bundle, context, "history", show_history);
  add_command(bundle, context, "topology", show_topology);
  add_command(bundle, context, "check-config",
              [&](const Context& c) { return check_config(c, path, false); });
  add_command(bundle, context, "doctor", [&](const Context& c) { return examine(c, path); });
  if (const std::string text = ask(bundle, context, "timeline.json", "/v1/history"); !text.empty())
    bundle.add_json("timeline.json", "/v1/history", text);
  if (const std::string text = ask(bundle, context, "metrics.txt", "/metrics"); !text.empty())
    bundle.add_text("metrics.txt", "/metrics", text);
  return read.config ? doctor::port_interfaces(*read.config) : std::vector<std::string>();
}

void add_host(Bundle& bundle, const Context& context, const std::vector<std::string>& interfaces,
              const std::vector<std::string>& log_files) {
  bundle.add_text("kernel/cmdline", "/proc/cmdline", redact_words(read_text("/proc/cmdline")));
  for (const char* path : {"/etc/os-release", "/proc/version", "/proc/meminfo", "/proc/interrupts",
                           "/proc/softirqs", "/proc/loadavg", "/proc/net/softnet_stat", "/proc/net/snmp"})
    bundle.add_text("kernel/" + fs::path(path).filename().string(), path, read_text(path));
  add_program(bundle, "kernel/links.txt", {"ip", "-s", "-d", "link"});
  add_program(bundle, "kernel/addresses.txt", {"ip", "address"});
  add_program(bundle, "kernel/routes.txt", {"ip", "route", "show", "table", "all"});
  add_program(bundle, "kernel/routes6.txt", {"ip", "-6", "route", "show", "table", "all"});
  add_program(bundle, "kernel/neighbours.txt", {"ip", "-s", "neighbour"});
  for (const std::string& interface : interfaces)
    for (const char* what : {"-i", "-l", "-k", "-S"})
      add_program(bundle, fmt::format("kernel/ethtool{}-{}.txt", what, interface),
                  {"ethtool", what, interface});
  add_command_lines(bundle, context);
  for (const char* unit : {"portico-control", "portico-dataplane"})
    add_program(
        bundle, fmt::format("logs/{}.txt", unit),
        {"journalctl", "--quiet", "--no-pager", "-o", "short-iso-precise", "-n", kLogLines, "-u", unit});
  for (const std::string& path : log_files) add_tail(bundle, path);
}

}  // namespace portico::cli
