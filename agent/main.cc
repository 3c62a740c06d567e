// SPDX-License-Identifier: Apache-2.0
// portico-agent: the portals' end of the balancer's tunnels.
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "agent/config.h"
#include "agent/report.h"
#include "agent/runner.h"

namespace portico {
namespace {

// As portico's.
constexpr int kFailed = 4, kUsage = 64;
constexpr char kFooter[] =
    "Exit status: 0 well; 1 attached, but no agent runs, or a peer's MAC is not known; 2 not attached "
    "(status only);\n"
    "4 refused, failed or an error in the configuration; 64 wrong command line. docs/agent.md says more.";

struct Arguments {
  AgentPaths paths;
  std::string config = "/etc/portico/agent.yaml", instance, log_level = "info";
  bool json = false, force = false, elsewhere = false;
};

int fail(const std::string& what) {
  std::fprintf(stderr, "portico-agent: %s\n", what.c_str());
  return kFailed;
}

// The one that is meant: given, or the only one. "" and a message if that is nobody.
std::string chosen_instance(const Arguments& args) {
  if (!args.instance.empty()) return args.instance;
  const auto all = Attachment::instances(args.paths.bpffs);
  if (all.size() == 1) return all.front();
  fail(all.empty() ? "nothing is attached here: no instance has pins under " + args.paths.bpffs.string()
                   : fmt::format("several instances: name one with --instance ({})", fmt::join(all, ", ")));
  return {};
}

int check_config(const Arguments& args) {
  const auto loaded = load_agent_config(args.config, !args.elsewhere);
  std::fputs(loaded.messages.c_str(), stderr);
  return loaded.config ? 0 : kFailed;
}

int run(const Arguments& args) {
  spdlog::set_default_logger(spdlog::stderr_color_st("agent"));
  const auto level = spdlog::level::from_str(args.log_level);
  if (level == spdlog::level::off && args.log_level != "off")
    return fail("unknown log level " + args.log_level);
  spdlog::set_level(level);
  auto loaded = load_agent_config(args.config, true);
  std::fputs(loaded.messages.c_str(), stderr);
  if (!loaded.config) return kFailed;
  std::string failure;
  const FileHandle lock = lock_instance(args.paths, loaded.config->instance, failure);
  if (!lock.is_open()) return fail(failure);
  auto socket = NetlinkSocket::open(0);
  if (!socket) return fail(std::string("cannot open a netlink socket: ") + std::strerror(errno));
  Runner runner(args.config, std::move(*loaded.config), args.paths, std::move(*socket));
  if (const auto why = runner.start()) return fail(*why);
  return runner.run();
}

int show_status(const Arguments& args) {
  const std::string instance = chosen_instance(args);
  if (instance.empty()) return 2;
  const AgentStatus status = agent_status(args.paths, instance);
  std::fputs((args.json ? status_json(status) : status_text(status)).c_str(), stdout);
  return status.exit_status();
}

int show_metrics(const Arguments& args) {
  std::vector<AgentStatus> all;
  for (const auto& instance : Attachment::instances(args.paths.bpffs))
    if (args.instance.empty() || instance == args.instance) all.push_back(agent_status(args.paths, instance));
  std::fputs(metrics_text(all).c_str(), stdout);
  return 0;
}

int detach(const Arguments& args) {
  const std::string instance = chosen_instance(args);
  if (instance.empty()) return kFailed;
  if (const pid_t pid = running_agent(args.paths, instance); pid != 0 && !args.force)
    return fail(
        fmt::format("the agent runs (process {}) and would attach again; end it first, or use --force", pid));
  if (const auto failure = Attachment(args.paths.bpffs, instance).detach()) return fail(*failure);
  if (args.json) std::puts(R"({"detached": true})");
  return 0;
}

using Action = std::function<int(const Arguments&)>;

CLI::App* add(CLI::App& app, Action& chosen, const char* name, const char* text, Action action) {
  CLI::App* command = app.add_subcommand(name, text);
  command->fallthrough();
  command->callback([&chosen, action = std::move(action)] { chosen = action; });
  return command;
}

void add_commands(CLI::App& app, Action& chosen, Arguments& args) {
  CLI::App* start =
      add(app, chosen, "run", "Attach to the interface and follow the other portals; SIGHUP reloads", run);
  start->add_option("--config", args.config, "The configuration (default /etc/portico/agent.yaml)");
  start->add_option("--log-level", args.log_level, "debug, info, warn or error (default info)");
  CLI::App* check =
      add(app, chosen, "check-config", "List all mistakes of a configuration file", check_config);
  check->add_option("FILE", args.config, "The configuration file")->required();
  check->add_flag("--elsewhere", args.elsewhere,
                  "The file is for another host: do not look for its interfaces here");
  CLI::App* status = add(app, chosen, "status",
                         "What is attached, which peers are reached how, what was counted", show_status);
  CLI::App* metrics =
      add(app, chosen, "metrics", "The same for Prometheus' textfile collector", show_metrics);
  CLI::App* remove = add(app, chosen, "detach", "Take everything off the interface", detach);
  remove->add_flag("--force", args.force, "Even while the agent runs, which then attaches again");
  for (CLI::App* command : {status, metrics, remove})
    command->add_option("--instance", args.instance,
                        "Of several on this host, by its name in the configuration");
  for (CLI::App* command : {status, remove}) command->add_flag("--json", args.json, "Print JSON");
  app.add_option("--run-dir", args.paths.run_dir,
                 "Where running agents hold a lock (default /run/portico-agent)");
  app.add_option("--bpffs", args.paths.bpffs, "A directory of a mounted bpffs (default /sys/fs/bpf)");
}

int main_of(int argc, char** argv) {
  libbpf_set_print(nullptr);
  Arguments args;
  Action chosen;
  CLI::App app("Portico's agent on portal hosts: takes the balancer's tunnel packets", "portico-agent");
  app.footer(kFooter);
  app.set_version_flag("--version", "portico-agent " PORTICO_VERSION);
  app.require_subcommand(1);
  add_commands(app, chosen, args);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  return chosen(args);
}

}  // namespace
}  // namespace portico

int main(int argc, char** argv) {
  try {
    return portico::main_of(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "portico-agent: %s\n", e.what());
    return 4;
  }
}
