// SPDX-License-Identifier: Apache-2.0
// reload, rollback, history, diff, plan and what-if.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "contract/limits.h"
#include "control/cli/answer.h"
#include "control/cli/text_diff.h"
#include "control/config_text.h"
#include "control/operator_state.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using nlohmann::json;

// To read and try a configuration of 16 MiB.
constexpr auto kReadPatience = std::chrono::seconds(60);

std::string applied_text(const json& answer) {
  return messages_text(answer) +
         fmt::format("configuration {} is in use\n", answer.value("config_version", 0)) + waits_text(answer);
}

// A copy with the same mode and, where this user may give it away, the same owner. "" or what went wrong.
std::string copy_of(const std::string& path, const std::string& copy) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::copy_file(path, copy, fs::copy_options::overwrite_existing, error);
  if (error) return fmt::format("cannot write {}: {}", copy, error.message());
  struct stat status {};
  const bool is_given =
      stat(path.c_str(), &status) == 0 && chown(copy.c_str(), status.st_uid, status.st_gid) == 0;
  return is_given || errno == EPERM ? "" : fmt::format("cannot write {}: {}", copy, std::strerror(errno));
}

// Puts a text in place of a file, whose content is kept beside it. "" or what went wrong.
std::string replace_file(const std::string& path, const std::string& text) {
  if (auto problem = copy_of(path, path + ".before-rollback"); !problem.empty()) return problem;
  // What write_atomically() fills.
  if (auto problem = copy_of(path, path + ".new"); !problem.empty()) return problem;
  return write_atomically(path, text).value_or("");
}

// A kept configuration with its text; not an object after saying why there is none, with `exit` set.
json kept(const Context& context, uint64_t version, int& exit) {
  const ApiReply reply = ApiClient(context.run_dir).get(fmt::format("/v1/configs/{}", version));
  const json answer = json::parse(reply.body, nullptr, false);
  if (reply.ok() && answer.is_object()) return answer;
  exit = with_answer(context, reply, [](const json&) { return Shown{}; });
  return {};
}

std::string change_words(const std::string& change) {
  return change == "same" ? "" : change;
}

std::string broken_words(const json& object) {
  const uint64_t broken = object.value("flows_broken", uint64_t{0});
  return broken == 0 ? "" : fmt::format("{} break", format_count(broken));
}

std::string plan_text(const json& plan, const Style& style) {
  using enum Table::Align;
  std::string out = messages_text(plan);
  Table services({left, left, right, left, left});
  services.add({{"SERVICE"}, {"CHANGE"}, {"FLOWS"}, {""}, {""}});
  for (const json& s : plan.value("services", json::array()))
    services.add({{s.value("name", "")},
                  {change_words(s.value("change", ""))},
                  {format_count(s.value("flows", uint64_t{0}))},
                  {broken_words(s), Colour::bad},
                  {s.value("reason", "")}});
  out += services.print(style);
  for (const json& pool : plan.value("pools", json::array())) {
    out += fmt::format("{} {}   {} of the slots move\n", to_printable(pool.value("name", "")),
                       change_words(pool.value("change", "")), format_percent(pool.value("moved", 0.0)));
    Table backends({left, left, left, right, left}, "   ");
    for (const json& b : pool.value("backends", json::array()))
      backends.add({{b.value("name", "")},
                    {change_words(b.value("change", ""))},
                    {fmt::format("share {:>4} -> {:>4}", format_percent(b.value("share_before", 0.0)),
                                 format_percent(b.value("share_after", 0.0)))},
                    {"flows " + format_count(b.value("flows", uint64_t{0}))},
                    {broken_words(b), Colour::bad}});
    out += backends.print(style, "  ");
  }
  for (const json& name : plan.value("assumed_up", json::array()))
    out += "! " + to_printable(name.get<std::string>()) + " is new: this counts on its checks to pass\n";
  return out + fmt::format("{}{} of {} live connections break\n",
                           plan.value("broken_exactly", true) ? "" : "at most ",
                           format_count(plan.value("most_broken", uint64_t{0})),
                           format_count(plan.value("flows", uint64_t{0})));
}

int show_plan(const Context& context, const ApiReply& reply) {
  return with_answer(context, reply,
                     [&](const json& answer) { return Shown{plan_text(answer, context.style)}; });
}

}  // namespace

int reload(const Context& context, std::optional<uint64_t> most_broken) {
  const std::string body = most_broken ? json{{"max_broken", *most_broken}}.dump() : "";
  return with_answer(context, ApiClient(context.run_dir, kReadPatience).post("/v1/reload", body),
                     [](const json& answer) { return Shown{applied_text(answer)}; });
}

int rollback(const Context& context, uint64_t version, std::optional<uint64_t> most_broken) {
  int exit = kExitWell;
  const json entry = kept(context, version, exit);
  if (!entry.is_object()) return exit;
  json body = {{"version", version}};
  if (most_broken) body["max_broken"] = *most_broken;
  const ApiReply reply = ApiClient(context.run_dir, kReadPatience).post("/v1/rollback", body.dump());
  std::string problem;
  const json done = json::parse(reply.body, nullptr, false);
  if (reply.ok() && done.is_object()) problem = replace_file(done.value("path", ""), entry.value("text", ""));
  if (reply.ok() && context.json && done.is_object()) {
    json answer = done;
    answer["file_problem"] = problem;
    context.out << dump(answer);
    return problem.empty() ? kExitWell : kExitFailed;
  }
  return with_answer(context, reply, [&](const json& answer) {
    const std::string path = to_printable(answer.value("path", ""));
    if (problem.empty())
      return Shown{applied_text(answer) +
                   fmt::format("{} has it; what it had is in {}.before-rollback\n", path, path)};
    return Shown{
        applied_text(answer) + fmt::format("! {} still has another, which the next reload would use: {}\n",
                                           path, to_printable(problem)),
        kExitFailed};
  });
}

int show_history(const Context& context) {
  return with_answer(context, ApiClient(context.run_dir).get("/v1/configs"), [&](const json& answer) {
    using enum Table::Align;
    Table table({right, left, left, left, left});
    table.add({{"VERSION"}, {"APPLIED"}, {"BY"}, {"DIGEST"}, {""}});
    for (const json& entry : answer.value("configs", json::array())) {
      const bool current = entry.value("current", false);
      std::string note = entry.value("note", "");
      if (current) note += note.empty() ? "in use" : ", in use";
      table.add({{std::to_string(entry.value("version", uint64_t{0}))},
                 {format_time(entry.value("applied_ms", int64_t{0}))},
                 {entry.value("who", "")},
                 {entry.value("digest", "").substr(0, 12), Colour::faint},
                 {note, current ? Colour::good : Colour::none}});
    }
    return Shown{table.print(context.style)};
  });
}

int show_diff(const Context& context, std::optional<uint64_t> version) {
  const ApiReply reply = ApiClient(context.run_dir).get("/v1/configs");
  const json list = json::parse(reply.body, nullptr, false);
  if (!reply.ok() || !list.is_object())
    return with_answer(context, reply, [](const json&) { return Shown{}; });
  uint64_t current = 0, before = 0;
  for (const json& entry : list.value("configs", json::array())) {
    if (entry.value("current", false)) current = entry.value("version", uint64_t{0});
    if (current == 0) before = entry.value("version", uint64_t{0});
  }
  if (current == 0)
    return fail(context, kExitFailed, "the configuration in use is not kept", "reload it once");
  const uint64_t from = version.value_or(before == 0 ? current : before);
  int exit = kExitWell;
  const json old = kept(context, from, exit);
  if (!old.is_object()) return exit;
  const json now = kept(context, current, exit);
  if (!now.is_object()) return exit;
  const std::string diff = text_diff(old.value("text", ""), now.value("text", ""));
  if (context.json) {
    context.out << dump({{"from", from}, {"to", current}, {"diff", diff}});
    return kExitWell;
  }
  std::istringstream lines(diff);
  for (std::string line; std::getline(lines, line);)
    context.out << context.style.paint(line.starts_with('-')   ? Colour::bad
                                       : line.starts_with('+') ? Colour::good
                                                               : Colour::faint,
                                       to_printable(line))
                << '\n';
  if (diff.empty()) context.out << fmt::format("configurations {} and {} are the same\n", from, current);
  return kExitWell;
}

int plan(const Context& context, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file)
    return fail(context, kExitFailed, fmt::format("{} cannot be read: {}", path, std::strerror(errno)), "");
  return show_plan(context, ApiClient(context.run_dir, kReadPatience).post("/v1/plan", text.str()));
}

int what_if(const Context& context, const std::vector<std::string>& remove,
            const std::vector<std::string>& weights) {
  json body = {{"remove", remove}, {"weights", json::object()}};
  for (const std::string& word : weights) {
    const size_t equals = word.rfind('=');
    const auto weight =
        equals == std::string::npos ? std::nullopt : parse_number(std::string_view(word).substr(equals + 1));
    if (!weight || *weight > kMaxWeight)
      return fail(context, kExitUsage, "`" + word + "` is no BACKEND=WEIGHT", "write portal-1=50; 0 to 1000");
    body["weights"][word.substr(0, equals)] = *weight;
  }
  if (remove.empty() && weights.empty())
    return fail(context, kExitUsage, "nothing to think of", "use --remove or --weight");
  return show_plan(context,
                   ApiClient(context.run_dir)
                       .post("/v1/what-if", body.dump(-1, ' ', false, json::error_handler_t::replace)));
}

}  // namespace portico::cli
