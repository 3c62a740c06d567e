// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <ostream>
#include <span>
#include <sstream>
#include <string_view>
#include <vector>

#include "control/cli/commands.h"
#include "control/cli/declarations.h"
#include "control/cli/top.h"

namespace portico::cli {

namespace {

constexpr char kExitStatuses[] =
    "Exit status: 0 well, 1 served but degraded, 2 unserved, not ready (status, ready); 3 control is not "
    "there; 4 "
    "refused, failed\n"
    "or an error in the configuration; 64 wrong command line. docs/cli.md says more.";

// What the command line says.
struct Arguments {
  std::string run_dir = "/run/portico";
  bool json = false, all = false, elsewhere = false, effective = false, follow = false, api = false;
  std::string file, client, service, listen, weight, what;
  FlowsRequest flows;
  BackendOrder order;
  CaptureRequest capture;
  SupportRequest support;
  TopRequest top;
  std::optional<uint64_t> version, most_broken;
  std::vector<std::string> remove, weights;
};

using Action = std::function<int(const Context&)>;

// A command whose action is taken if it is the one on the command line.
CLI::App* add(CLI::App& app, Action& chosen, const char* name, const char* text, Action action) {
  CLI::App* command = app.add_subcommand(name, text);
  command->fallthrough();
  command->callback([&chosen, action = std::move(action)] { chosen = action; });
  return command;
}

void add_views(CLI::App& app, Action& chosen, Arguments& args) {
  add(app, chosen, "status", "Services, pools and backends: who is up, who carries what, what is wrong",
      show_status);
  add(app, chosen, "ready",
      "Whether this balancer should get traffic, for BGP, VRRP and load balancers before it", show_ready);
  CLI::App* drops = add(app, chosen, "drops", "Packets that were dropped, by reason, with what each means",
                        [&](const Context& context) { return show_drops(context, args.all); });
  drops->add_flag("--all", args.all, "Also the reasons that no packet had");
  CLI::App* events = add(app, chosen, "events",
                         "What happened lately: health, configurations, operators' commands, the dataplane",
                         [&](const Context& context) { return show_events(context, args.follow); });
  events->add_flag("--follow", args.follow, "Go on with what happens; with --json, one object a line");
  CLI::App* why =
      add(app, chosen, "explain", "Where a client's connection goes, or would go, and why",
          [&](const Context& context) { return explain(context, args.client, args.service, args.listen); });
  why->add_option("CLIENT", args.client,
                  "The client: ADDRESS or ADDRESS:PORT; IPv6 with port as [ADDRESS]:PORT")
      ->required();
  why->add_option("SERVICE", args.service, "The service's name")->required();
  why->add_option("--listen", args.listen, "Which of the service's listeners, as ADDRESS:PORT")
      ->type_name("LISTENER");
}

void add_flows(CLI::App& app, Action& chosen, FlowsRequest& request) {
  CLI::App* flows = add(app, chosen, "flows", "The connections that live now, or how many there are",
                        [&](const Context& context) { return show_flows(context, request); });
  flows->add_option("--service", request.service, "Of this service")->type_name("SERVICE");
  flows->add_option("--backend", request.backend, "With this backend, NAME or POOL/NAME")
      ->type_name("BACKEND");
  flows->add_option("--client", request.client, "Of this client's address, or of a prefix's")
      ->type_name("PREFIX");
  flows->add_option("--limit", request.limit, "List this many at most")->check(CLI::Range(1, 10000));
  flows->add_flag("--count", request.count, "Only count them, by state");
}

void add_configuration(CLI::App& app, Action& chosen, Arguments& args) {
  CLI::App* reloading =
      add(app, chosen, "reload",
          "Apply the changed configuration file as a difference; with any error, nothing changes",
          [&](const Context& context) { return reload(context, args.most_broken); });
  constexpr const char* kMaxBroken = "Refuse if more live connections than this would break";
  reloading->add_option("--max-broken", args.most_broken, kMaxBroken);
  CLI::App* back =
      add(app, chosen, "rollback", "Use a kept configuration again, and write it to the file",
          [&](const Context& context) { return rollback(context, *args.version, args.most_broken); });
  back->add_option("VERSION", args.version, "Its number in `portico history`")->required();
  back->add_option("--max-broken", args.most_broken, kMaxBroken);
  CLI::App* check =
      add(app, chosen, "check-config", "List all mistakes of a configuration file, without using it",
          [&](const Context& context) { return check_config(context, args.file, args.elsewhere); });
  check->add_option("FILE", args.file, "The configuration file")->required();
  check->add_flag(
      "--elsewhere", args.elsewhere,
      "The file is for another host: do not look for its interfaces, CPUs and credentials files here");
  CLI::App* config =
      add(app, chosen, "config", "Print the configuration with every default and where each value is from",
          [&](const Context& context) { return show_effective(context, args.file); });
  config->add_flag("--effective", args.effective, "What the configuration comes to (contains the hash key)")
      ->required();
  config->add_option("FILE", args.file, "A file; without one, what control uses now");
}

// Documents for other programs.
void add_schema(CLI::App& app, Action& chosen, Arguments& args) {
  CLI::App* schema =
      add(app, chosen, "config-schema", "Print the JSON schema of the configuration, for editors",
          [&](const Context& context) { return show_schema(context, args.api); });
  schema->add_flag("--api", args.api, "Instead, the OpenAPI document of the API and of what --json prints");
}

// What all commands about a backend take.
void add_order(CLI::App& command, BackendOrder& order) {
  command.add_option("BACKEND", order.backend, "The backend's name, or POOL/NAME")->required();
  command.add_option("--reason,--why", order.why, "A word for whoever looks at the status");
  command.add_flag("--force", order.force, "Even if it is the last usable backend of its pool");
}

void add_top(CLI::App& app, Action& chosen, Arguments& args) {
  CLI::App* command =
      add(app, chosen, "top", "Who carries what now; on a terminal live, with keys to drain and hold",
          [&](const Context& context) { return top(context, args.top); });
  command->add_option("--sort", args.top.order, "pool, state, share, flows, new, bits or check")
      ->type_name("ORDER")
      ->check(CLI::IsMember(std::vector<std::string>(kTopOrders.begin(), kTopOrders.end())))
      ->capture_default_str();
  command->add_option("--interval", args.top.interval, "Between two readings")->capture_default_str();
  command->add_option("-n,--count", args.top.count,
                      "End after so many readings, 0: never; without it, after one unless on a terminal");
}

// What configurations were, and what another one would change.
void add_plans(CLI::App& app, Action& chosen, Arguments& args) {
  add(app, chosen, "history", "The configurations that were applied: when, by whom", show_history);
  CLI::App* diff = add(app, chosen, "diff", "What changed from a kept configuration to the one in use",
                       [&](const Context& context) { return show_diff(context, args.version); });
  diff->add_option("VERSION", args.version, "Its number in `portico history`; without: the one before");
  CLI::App* planned =
      add(app, chosen, "plan", "What a configuration file would change: shares, live connections",
          [&](const Context& context) { return plan(context, args.file); });
  planned->add_option("FILE", args.file, "The configuration file")->required();
  CLI::App* what = add(app, chosen, "what-if", "What removed backends or other weights would change",
                       [&](const Context& context) { return what_if(context, args.remove, args.weights); });
  what->add_option("--remove", args.remove, "A backend, or POOL/NAME; may be repeated")->type_name("BACKEND");
  what->add_option("--weight", args.weights, "BACKEND=WEIGHT; may be repeated")->type_name("BACKEND=WEIGHT");
}

void add_backend_commands(CLI::App& app, Action& chosen, Arguments& args) {
  const std::pair<const char*, const char*> commands[] = {
      {"drain", "Send new connections elsewhere; those under way stay. Survives a restart of control"},
      {"hold", "The same, and do not use the backend even when all others are down"},
      {"resume", "End drain or hold"}};
  for (const auto& [verb, text] : commands) {
    CLI::App* command = add(app, chosen, verb, text, [&args, verb = verb](const Context& context) {
      return change_backend(context, verb, args.order);
    });
    add_order(*command, args.order);
    if (std::string_view(verb) == "resume") continue;
    command->add_option("--deadline", args.order.deadline,
                        "Reset the connections that are left after this: 10m");
    command->add_flag("--wait", args.order.wait,
                      "Wait until it has no connections; exit status 3 at the deadline");
  }
  CLI::App* weight =
      add(app, chosen, "weight", "Set a backend's weight. Survives a restart of control",
          [&](const Context& context) { return change_weight(context, args.order, args.weight); });
  add_order(*weight, args.order);
  weight->add_option("WEIGHT", args.weight, "0 to 1000, or `default`: the configuration's")->required();
}

void add_capture(CLI::App& app, Action& chosen, Arguments& args) {
  CaptureRequest& request = args.capture;
  CLI::App* command =
      add(app, chosen, "capture", "Write a service's or a client's packets to a pcapng file, both sides",
          [&](const Context& context) { return capture(context, request); });
  command->add_option("TARGET", request.target, "A service, or a client: ADDRESS or ADDRESS:PORT")
      ->required();
  command->add_option("-w,--write", request.file, "The file; - for standard output")
      ->type_name("FILE")
      ->required();
  command->add_option("--time", request.time, "End after this")->capture_default_str();
  command->add_option("--packets", request.packets, "End after so many packets")->capture_default_str();
  command->add_option("--bytes", request.bytes, "End after so many bytes")->capture_default_str();
  command->add_option("--snap", request.snap, "Of each packet, at most so many bytes: 64 to 9216")
      ->capture_default_str();
}

// What looks at the host itself.
void add_host_commands(CLI::App& app, Action& chosen, Arguments& args) {
  CLI::App* doctor = add(app, chosen, "doctor", "What is not as it should be on this host, with the remedy",
                         [&](const Context& context) { return examine(context, args.file); });
  doctor->add_option("FILE", args.file, "The configuration; without one, what control uses");
  CLI::App* bundle =
      add(app, chosen, "support-bundle", "Write an archive of all that tells what is wrong, without secrets",
          [&](const Context& context) { return support_bundle(context, args.support); });
  bundle->add_option("FILE", args.support.config, "The configuration; without one, what control uses");
  bundle
      ->add_option("-w,--write", args.support.file,
                   "The archive; - for standard output; without it, a name with the time, here")
      ->type_name("FILE");
  bundle->add_option("--log", args.support.logs, "Add the end of this file, too; may be repeated")
      ->type_name("FILE");
  add(app, chosen, "topology", "Which CPU and NIC queues each worker gets on this machine, and why",
      show_topology);
}

// What shells and the build ask for; not in the help.
void add_hidden(CLI::App& app, Action& chosen, Arguments& args) {
  CLI::App* names = add(app, chosen, "complete", "Names for completion: backends, services or versions",
                        [&](const Context& context) { return print_names(context, args.what); });
  names->add_option("WHAT", args.what)->required();
  CLI::App* text = add(app, chosen, "declarations", "This command line as man, bash or zsh read it",
                       [&](const Context& context) {
                         context.out << (args.what == "man"    ? manual_page(app, PORTICO_VERSION)
                                         : args.what == "bash" ? bash_completion(app)
                                                               : zsh_completion(app));
                         return kExitWell;
                       });
  text->add_option("WHAT", args.what)->required()->check(CLI::IsMember({"man", "bash", "zsh"}));
  for (CLI::App* command : {names, text}) command->group("");
}

// Whether JSON was asked for on a command line that could not be read to its end.
bool has_json_flag(int argc, const char* const* argv) {
  const std::span words(argv + 1, argv + std::max(argc, 1));
  return std::ranges::any_of(words, [](const char* word) { return std::string_view(word) == "--json"; });
}

// Help and errors of the command line; the exit status.
int show_usage(const Context& context, const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) {
    std::ostringstream text;
    app.exit(error, text, text);
    return show_help(context, text.str());
  }
  const std::vector<std::string> rest = app.remaining();
  const bool is_unknown = app.get_subcommands().empty() && !rest.empty();
  return fail(context, kExitUsage,
              is_unknown ? "there is no command or option `" + rest.front() + "`" : error.what(),
              "`portico --help` lists the commands, also after one");
}

bool wants_colours(bool terminal) {
  const char* no_color = std::getenv("NO_COLOR");  // https://no-color.org
  return terminal && (no_color == nullptr || *no_color == '\0');
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err, bool terminal) {
  Arguments args;
  Action chosen;
  CLI::App app("Portico: look at and command the balancer", "portico");
  app.footer(kExitStatuses);
  app.require_subcommand(1);
  app.add_option("--run-dir", args.run_dir, "The instance's run directory")
      ->type_name("DIR")
      ->envname("PORTICO_RUN_DIR")
      ->capture_default_str();
  app.add_flag("--json", args.json, "Print JSON (docs/api.md)");
  app.set_version_flag("--version", PORTICO_VERSION, "Print the version, as the command `version` does");
  add_views(app, chosen, args);
  add_flows(app, chosen, args.flows);
  add_top(app, chosen, args);
  add_configuration(app, chosen, args);
  add_schema(app, chosen, args);
  add_plans(app, chosen, args);
  add_backend_commands(app, chosen, args);
  add_capture(app, chosen, args);
  add_host_commands(app, chosen, args);
  add(app, chosen, "upgrade-dataplane",
      "Let the installed dataplane take the running one's place, connections and all", upgrade_dataplane);
  add(app, chosen, "version", "Print the version and the table's ABI version", show_version);
  add_hidden(app, chosen, args);
  Context context{args.run_dir, has_json_flag(argc, argv), Style(false), out, err};
  try {
    app.parse(argc, argv);
    context.run_dir = args.run_dir;
    context.json = args.json;
    context.style = Style(!args.json && wants_colours(terminal));
    return chosen(context);
  } catch (const CLI::CallForVersion&) {
    return show_version(context);
  } catch (const CLI::ParseError& e) {
    return show_usage(context, app, e);
  } catch (const std::exception& e) {
    return fail(context, kExitFailed, e.what(), "");
  }
}

}  // namespace portico::cli
