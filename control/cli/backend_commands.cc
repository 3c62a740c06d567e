// SPDX-License-Identifier: Apache-2.0
// drain, hold, resume and weight.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "contract/limits.h"
#include "control/cli/answer.h"
#include "control/config_text.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr auto kLookAgain = std::chrono::milliseconds(250);
constexpr auto kControlPatience = std::chrono::seconds(10);

// "/v1/backends/POOL/NAME"; empty after saying what is wrong with the name.
std::string target_of(const Context& context, const std::string& backend) {
  const size_t slash = backend.find('/');
  const std::string pool = slash == std::string::npos ? "-" : backend.substr(0, slash);
  const std::string name = slash == std::string::npos ? backend : backend.substr(slash + 1);
  std::string problem;
  if ((pool != "-" && !is_good_name(pool, problem)) || !is_good_name(name, problem)) {
    fail(context, kExitUsage, problem, "write BACKEND or POOL/BACKEND");
    return {};
  }
  return fmt::format("/v1/backends/{}/{}", pool, name);
}

std::string body_text(const json& body) {
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string name_of(const json& answer) {
  return fmt::format("{} of pool {}", answer.value("backend", ""), answer.value("pool", ""));
}

std::string admin_text(const json& answer) {
  const std::string admin = answer.value("admin", "");
  const std::string left =
      fmt::format("; it has {} connections", format_count(answer.value("flows", uint64_t{0})));
  const std::string words = admin == "active"    ? "is active again"
                            : admin == "drained" ? "is drained: new connections go elsewhere" + left
                                                 : "is held: nothing new goes there" + left;
  return name_of(answer) + " " + to_printable(words) + "\n" + waits_text(answer);
}

// What the waiting shows, in a person's words.
void show_progress(const Context& context, uint64_t flows, int64_t left_ms, bool has_deadline) {
  if (context.json) return;
  context.out << format_count(flows) << " connections left";
  if (has_deadline) context.out << ", " << format_age(left_ms) << " until the deadline";
  context.out << std::endl;
}

// Ends a wait: prints `answer` with what came of it.
int end_wait(const Context& context, json answer, uint64_t flows, bool at_deadline) {
  answer["flows"] = flows;
  answer["deadline_passed"] = at_deadline;
  if (context.json)
    context.out << dump(answer);
  else if (at_deadline)
    context.out << fmt::format("the deadline: {} connections are left and are reset now\n",
                               format_count(flows));
  else
    context.out << name_of(answer) << " has no connection any more\n";
  return at_deadline ? kExitDeadline : kExitWell;
}

// Until the backend has no connections or its deadline comes. A restart of control meanwhile is waited for.
int wait_until_empty(const Context& context, const json& answer) {
  const std::string target =
      fmt::format("/v1/backends/{}/{}", answer.value("pool", ""), answer.value("backend", ""));
  const ApiClient client(context.run_dir);
  uint64_t shown = UINT64_MAX;
  Clock::time_point heard = Clock::now();
  for (;; std::this_thread::sleep_for(kLookAgain)) {
    const ApiReply reply = client.get(target);
    if (!reply.reached() && Clock::now() - heard < kControlPatience) continue;
    if (!reply.ok()) return with_answer(context, reply, [](const json&) { return Shown{}; });
    heard = Clock::now();
    const json backend = json::parse(reply.body, nullptr, false);
    if (!backend.is_object() || backend.value("admin", "") == "active")
      return fail(context, kExitFailed, "somebody has resumed it meanwhile", "");
    const uint64_t flows = backend.value("flows", uint64_t{0});
    const int64_t deadline_ms = backend.value("admin_deadline_ms", int64_t{0});
    const int64_t left_ms = deadline_ms - backend.value("now_ms", int64_t{0});
    if (flows == 0) return end_wait(context, answer, 0, false);
    if (deadline_ms != 0 && left_ms <= 0) return end_wait(context, answer, flows, true);
    if (flows != shown) show_progress(context, flows, left_ms, deadline_ms != 0);
    shown = flows;
  }
}

}  // namespace

int change_backend(const Context& context, const std::string& verb, const BackendOrder& order) {
  const std::string target = target_of(context, order.backend);
  if (target.empty()) return kExitUsage;
  json body = {{"why", order.why}, {"force", order.force}};
  if (!order.deadline.empty()) {
    const auto deadline = parse_duration(order.deadline);
    if (!deadline) return fail(context, kExitUsage, "`--deadline` is no duration", "write for example 10m");
    body["deadline_ms"] = deadline->count();
  }
  const ApiReply reply = ApiClient(context.run_dir).post(target + "/" + verb, body_text(body));
  if (!order.wait || !reply.ok())
    return with_answer(context, reply, [](const json& answer) { return Shown{admin_text(answer)}; });
  const json answer = json::parse(reply.body, nullptr, false);
  if (!context.json) context.out << admin_text(answer);
  return wait_until_empty(context, answer);
}

int change_weight(const Context& context, const BackendOrder& order, const std::string& weight) {
  const std::string target = target_of(context, order.backend);
  if (target.empty()) return kExitUsage;
  json body = {{"why", order.why}, {"force", order.force}, {"weight", nullptr}};
  if (weight != "default") {
    const auto number = parse_number(weight);
    if (!number || *number > kMaxWeight)
      return fail(context, kExitUsage, "the weight is no number from 0 to 1000",
                  "`default` means that of the configuration");
    body["weight"] = *number;
  }
  return with_answer(
      context, ApiClient(context.run_dir).post(target + "/weight", body_text(body)), [](const json& answer) {
        return Shown{fmt::format("{} has weight {}{}\n", name_of(answer), answer.value("weight", 0),
                                 answer.value("weight_set", false) ? "" : ", as configured") +
                     waits_text(answer)};
      });
}

}  // namespace portico::cli
