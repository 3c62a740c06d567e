// SPDX-License-Identifier: Apache-2.0
// `portico top`: the status, read again and again.
#include "control/cli/top.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "control/cli/answer.h"
#include "control/cli/terminal.h"
#include "control/cli/views.h"
#include "control/config_text.h"

namespace portico::cli {

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLeastInterval{100}, kMostInterval{3'600'000};
constexpr size_t kPlainRows = 10'000, kPlainColumns = 1'000;  // where there is no screen: all of it

// A reading for programs and pipes.
void print_reading(const Context& context, const json& status, const std::string& order, bool by_line) {
  const json reading = top_reading(status, order);
  if (context.json) {
    context.out << (by_line ? reading.dump(-1, ' ', true, json::error_handler_t::replace) + "\n"
                            : dump(reading));
  } else {
    TopState state{.order = order, .selected = "", .head = status_head(status, context.style), .prompt = " "};
    context.out << top_screen(reading, state, kPlainRows, kPlainColumns, context.style);
  }
  context.out.flush();
}

int print_readings(const Context& context, const TopRequest& request, milliseconds interval) {
  const uint64_t count = request.count.value_or(1);
  const ApiClient client(context.run_dir);
  for (uint64_t done = 0; count == 0 || done < count; ++done) {
    if (done != 0) std::this_thread::sleep_for(interval);
    const ApiReply reply = client.get("/v1/status");
    const json status = json::parse(reply.body, nullptr, false);
    if (!reply.ok() || !status.is_object())
      return with_answer(context, reply, [](const json&) { return Shown{}; });
    print_reading(context, status, request.order, count != 1);
    if (!context.out) return kExitFailed;
  }
  return kExitWell;
}

// A screen that follows control, and commands it.
class Screen {
 public:
  Screen(const Context& context, const TopRequest& request, milliseconds interval)
      : context_(context), client_(context.run_dir), interval_(interval), count_(request.count.value_or(0)) {
    state_.order = request.order;
  }

  // Reads the status. What is wrong with the answer is shown in place of the keys; the last reading stays.
  ApiReply read() {
    ApiReply reply = client_.get("/v1/status");
    json status = json::parse(reply.body, nullptr, false);
    if (reply.ok() && status.is_object()) {
      status_ = std::move(status);
      if (is_lost_) message_.clear();
      is_lost_ = false;
    } else {
      is_lost_ = true;
      message_ = reply.reached() ? "control's answer is not understood" : reply.problem;
    }
    return reply;
  }

  void run() {
    const Terminal terminal;
    for (uint64_t done = 1;; ++done) {
      const Clock::time_point next = Clock::now() + interval_;
      if (!keys_until(next) || (count_ != 0 && done >= count_)) return;
      read();
    }
  }

 private:
  void draw() {
    const json reading = top_reading(status_, state_.order);
    state_.head = status_head(status_, context_.style);
    state_.prompt = verb_.empty() ? message_ : fmt::format("{} {}? y/n", verb_, target_);
    const auto [rows, columns] = Terminal::size();
    Terminal::draw(top_screen(reading, state_, rows, columns, context_.style));
  }

  // False: it is to end.
  bool keys_until(Clock::time_point next) {
    for (;;) {
      draw();
      const auto left = std::chrono::ceil<milliseconds>(next - Clock::now());
      if (left.count() <= 0) return true;
      const KeyPress pressed = Terminal::read_key(left);
      if (pressed.key == Key::quit && (verb_.empty() || pressed.character != 'q')) return false;
      if (pressed.key == Key::none || pressed.character == ' ') return true;
      act(pressed);
    }
  }

  void act(const KeyPress& pressed) {
    if (!verb_.empty()) {
      if (pressed.character == 'y') command();
      verb_.clear();
      return;
    }
    message_.clear();
    if (pressed.key == Key::up || pressed.key == Key::down)
      state_.selected =
          top_neighbour(top_reading(status_, state_.order), state_.selected, pressed.key == Key::up ? -1 : 1);
    else if (pressed.character == 's')
      next_order();
    else if (pressed.character == 'd' || pressed.character == 'h' || pressed.character == 'r')
      verb_ = pressed.character == 'd' ? "drain" : pressed.character == 'h' ? "hold" : "resume";
    // The reading may be another one by the time of the answer.
    target_ = state_.selected;
    if (target_.empty()) verb_.clear();
  }

  void next_order() {
    const auto now = std::ranges::find(kTopOrders, state_.order);
    state_.order = now + 1 >= kTopOrders.end() ? kTopOrders.front() : *(now + 1);
  }

  void command() {
    const std::string target = "/v1/backends/" + target_ + "/" + verb_;
    const ApiReply reply = client_.post(target, json{{"why", "by portico top"}}.dump());
    const json answer = json::parse(reply.body, nullptr, false);
    if (!reply.reached())
      message_ = reply.problem;
    else if (!answer.is_object())
      message_ = "control's answer is not understood";
    else if (!reply.ok())
      message_ = answer.value("error", "refused") + ": " + answer.value("remedy", "");
    else
      message_ = fmt::format("{}: {}", target_, answer.value("admin", ""));
    if (reply.ok()) read();
  }

  const Context& context_;
  ApiClient client_;
  milliseconds interval_;
  uint64_t count_;
  json status_ = json::object();
  TopState state_;
  std::string verb_, target_;  // asked for, not yet confirmed
  std::string message_;        // what came of the last command, or what is wrong
  bool is_lost_ = false;
};

}  // namespace

int top(const Context& context, const TopRequest& request) {
  const auto interval = parse_duration(request.interval);
  if (!interval || *interval < kLeastInterval || *interval > kMostInterval)
    return fail(context, kExitUsage, "`--interval` is no duration from 100ms to 1h", "write for example 2s");
  if (context.json || !Terminal::is_there()) return print_readings(context, request, *interval);
  Screen screen(context, request, *interval);
  const ApiReply reply = screen.read();
  if (!reply.ok()) return with_answer(context, reply, [](const json&) { return Shown{}; });
  screen.run();
  return kExitWell;
}

}  // namespace portico::cli
