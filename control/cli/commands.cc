// SPDX-License-Identifier: Apache-2.0
#include "control/cli/commands.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "contract/layout.h"
#include "control/cli/answer.h"
#include "control/cli/client.h"
#include "control/cli/offline.h"
#include "control/cli/views.h"
#include "control/config.h"
#include "control/config_text.h"
#include "control/printable.h"
#include "control/schema/schemas.h"

namespace portico::cli {

namespace {

using nlohmann::json;

// A start with many huge pages to clear takes seconds.
constexpr auto kUpgradePatience = std::chrono::seconds(30);

json messages_json(const ConfigResult& result) {
  json list = json::array();
  for (const ConfigMessage& m : result.messages) {
    list.push_back({{"is_error", m.is_error}, {"line", m.line}, {"column", m.column}, {"text", m.text}});
  }
  return list;
}

int exit_of_level(const std::string& level) {
  return level == "unserved" ? kExitUnserved : level == "degraded" ? kExitDegraded : kExitWell;
}

// The status of the dataplane as control has it; empty if control does not say.
json dataplane_of(const Context& context) {
  const ApiReply reply = ApiClient(context.run_dir).get("/v1/status");
  const json status = json::parse(reply.body, nullptr, false);
  return reply.ok() && status.is_object() ? status.value("dataplane", json::object()) : json::object();
}

}  // namespace

int fail(const Context& context, int exit, const std::string& error, const std::string& remedy) {
  if (context.json) {
    context.out << dump({{"error", error}, {"remedy", remedy}});
  } else {
    context.err << "portico: " << to_printable(error) << '\n';
    if (!remedy.empty()) context.err << "  " << to_printable(remedy) << '\n';
  }
  return exit;
}

int show_status(const Context& context) {
  const ApiReply reply = ApiClient(context.run_dir).get("/v1/status");
  if (reply.reached()) {
    return with_answer(context, reply, [&](const json& status) {
      return Shown{status_text(status, context.style), exit_of_level(status.value("level", "ok"))};
    });
  }
  json offline = read_offline(context.run_dir);
  if (context.json) {
    offline["error"] = reply.problem;
    offline["remedy"] = reply.remedy;
    context.out << dump(offline);
    return kExitNoControl;
  }
  fail(context, kExitNoControl, reply.problem, reply.remedy);
  context.out << offline_text(offline, context.style);
  return kExitNoControl;
}

int show_ready(const Context& context) {
  ApiReply reply = ApiClient(context.run_dir).get("/v1/ready");
  if (reply.status == 503) reply.status = 200;  // not ready: an answer like the other
  return with_answer(context, reply, [&](const json& answer) {
    const bool is_ready = answer.value("ready", false);
    return Shown{is_ready ? "ready\n" : "not ready: " + to_printable(answer.value("why", "")) + "\n",
                 is_ready ? kExitWell : kExitUnserved};
  });
}

int show_drops(const Context& context, bool all) {
  return with_answer(context, ApiClient(context.run_dir).get("/v1/drops"),
                     [&](const json& drops) { return Shown{drops_text(drops, all, context.style)}; });
}

int check_config(const Context& context, const std::string& path, bool elsewhere) {
  const ConfigResult result = load_config(path, !elsewhere);
  if (context.json) {
    context.out << dump(
        {{"valid", result.config.has_value()}, {"path", path}, {"messages", messages_json(result)}});
  } else {
    context.err << format_messages(result, path);
    if (result.config) {
      context.out << fmt::format("{}: good (services: {}, pools: {})\n", to_printable(path),
                                 result.config->services.size(), result.config->pools.size());
    }
  }
  return result.config ? kExitWell : kExitFailed;
}

int show_effective(const Context& context, const std::string& path) {
  std::string text;
  if (path.empty()) {
    const ApiReply reply = ApiClient(context.run_dir).get("/v1/config/effective");
    if (!reply.ok()) return with_answer(context, reply, [](const json&) { return Shown{}; });
    text = reply.body;
  } else {
    const ConfigResult result = load_config(path, false);
    if (!context.json) context.err << format_messages(result, path);
    if (!result.config) {
      if (context.json) context.out << dump({{"messages", messages_json(result)}});
      return kExitFailed;
    }
    text = result.effective;
  }
  context.out << (context.json ? dump({{"effective", text}}) : text);
  return kExitWell;
}

int explain(const Context& context, const std::string& client, const std::string& service,
            const std::string& listen) {
  std::string problem;
  const auto endpoint = parse_endpoint(client, 0, problem);
  if (!endpoint) return fail(context, kExitUsage, problem, "");
  if (!is_good_name(service, problem)) return fail(context, kExitUsage, problem, "");
  std::string target = fmt::format("/v1/explain?client={}&service={}", to_string(endpoint->address), service);
  if (endpoint->port != 0) target += fmt::format("&port={}", endpoint->port);
  if (!listen.empty()) {
    const auto listener = parse_endpoint(listen, std::nullopt, problem);
    if (!listener) return fail(context, kExitUsage, problem, "");
    // Brackets must be encoded (RFC 3986 section 3.2.2); an address has nothing else that must.
    target += listener->address.is_v4()
                  ? fmt::format("&listen={}", format_endpoint(*listener))
                  : fmt::format("&listen=%5B{}%5D:{}", to_string(listener->address), listener->port);
  }
  return with_answer(context, ApiClient(context.run_dir).get(target),
                     [&](const json& answer) { return Shown{explain_text(answer, context.style)}; });
}

int show_flows(const Context& context, const FlowsRequest& request) {
  std::string problem, target = fmt::format("/v1/flows?limit={}", request.count ? 0 : request.limit);
  const size_t slash = request.backend.find('/');
  const std::string pool = slash == std::string::npos ? "" : request.backend.substr(0, slash);
  const std::string backend =
      slash == std::string::npos ? request.backend : request.backend.substr(slash + 1);
  for (const std::string& name : {request.service, pool, backend})
    if (!name.empty() && !is_good_name(name, problem)) return fail(context, kExitUsage, problem, "");
  const auto client = Prefix::parse(request.client);
  if (!request.client.empty() && !client)
    return fail(context, kExitUsage, "no address and no prefix: " + request.client,
                "as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32, without bits beyond the length");
  if (!request.service.empty()) target += "&service=" + request.service;
  if (!request.backend.empty()) target += "&backend=" + request.backend;
  if (client) target += "&client=" + to_string(*client);
  return with_answer(context, ApiClient(context.run_dir).get(target), [&](const json& answer) {
    return Shown{flows_text(answer, request.count, context.style)};
  });
}

int upgrade_dataplane(const Context& context) {
  const json before = dataplane_of(context);
  const ApiReply reply =
      ApiClient(context.run_dir, std::chrono::seconds(15)).post("/v1/dataplane/upgrade", "");
  if (!reply.ok()) return with_answer(context, reply, [](const json&) { return Shown{}; });
  const auto deadline = std::chrono::steady_clock::now() + kUpgradePatience;
  json after = before;
  while (after.value("epoch", "") == before.value("epoch", "") || after.value("state", "") != "running") {
    if (std::chrono::steady_clock::now() > deadline)
      return fail(context, kExitFailed, "the new dataplane does not forward yet",
                  "look at its log and at `portico status`");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    after = dataplane_of(context);
  }
  const json take_over = after.value("take_over", json::object());
  const json answer = {{"from", before.value("version", "")},
                       {"to", after.value("version", "")},
                       {"pid", after.value("pid", 0)},
                       {"take_over", take_over}};
  context.out << (context.json ? dump(answer)
                               : fmt::format("dataplane {} gave way to {}: {}\n", answer.value("from", ""),
                                             answer.value("to", ""), take_over_text(take_over)));
  return kExitWell;
}

int show_schema(const Context& context, bool api) {
  context.out << (api ? openapi_document() : config_schema());
  return kExitWell;
}

int show_help(const Context& context, const std::string& text) {
  context.out << (context.json ? dump({{"help", text}}) : text);
  return kExitWell;
}

int show_version(const Context& context) {
  const std::string version = PORTICO_VERSION;
  context.out << (context.json ? dump({{"version", version}, {"table_abi", kAbiVersion}})
                               : fmt::format("portico {} (table ABI {})\n", version, kAbiVersion));
  return kExitWell;
}

}  // namespace portico::cli
