// SPDX-License-Identifier: Apache-2.0
// What completion offers: names that control has.
#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

#include "control/cli/answer.h"

namespace portico::cli {

namespace {

using nlohmann::json;

// Who waits for a completion does not wait for long.
constexpr auto kPatience = std::chrono::seconds(1);

// An answer of control; null if there is none.
json ask(const Context& context, const char* target) {
  const ApiReply reply = ApiClient(context.run_dir, kPatience).get(target);
  return reply.ok() ? json::parse(reply.body, nullptr, false) : json();
}

// A backend of one pool by its name, others as POOL/NAME.
void print_backends(const Context& context, const json& status) {
  std::multiset<std::string> names;
  for (const json& pool : status.at("pools"))
    for (const json& backend : pool.at("backends")) names.insert(backend.at("name").get<std::string>());
  for (const json& pool : status.at("pools"))
    for (const json& backend : pool.at("backends")) {
      const std::string name = backend.at("name").get<std::string>();
      if (names.count(name) > 1) context.out << pool.at("name").get<std::string>() << '/';
      context.out << name << '\n';
    }
}

}  // namespace

int print_names(const Context& context, const std::string& what) {
  try {
    if (what == "versions") {
      const json answer = ask(context, "/v1/configs");
      for (const json& one : answer.at("configs")) context.out << one.at("version").get<uint64_t>() << '\n';
      return kExitWell;
    }
    const json status = ask(context, "/v1/status");
    if (what == "backends") print_backends(context, status);
    if (what == "services")
      for (const json& service : status.at("services"))
        context.out << service.at("name").get<std::string>() << '\n';
    return kExitWell;
  } catch (const json::exception&) {
    return kExitNoControl;
  }
}

}  // namespace portico::cli
