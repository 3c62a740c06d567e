// SPDX-License-Identifier: Apache-2.0
// What commands do with control's answers.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "control/cli/client.h"
#include "control/cli/commands.h"

namespace portico::cli {

// In ASCII: terminals show JSON, too, and texts of others stand in it.
std::string dump(const nlohmann::json& value);
// The messages of an answer of control, as a local check prints them.
std::string messages_text(const nlohmann::json& answer);
// Of a change that no table has yet; else "".
std::string waits_text(const nlohmann::json& answer);

// What a command prints for a person, and its exit status.
struct Shown {
  std::string text;
  int exit = kExitWell;
};

// Shows a good answer by `show(answer)`, as JSON if that is asked for, and explains any other.
template <typename Show>
int with_answer(const Context& context, const ApiReply& reply, Show show) {
  if (!reply.reached()) return fail(context, kExitNoControl, reply.problem, reply.remedy);
  const nlohmann::json answer = nlohmann::json::parse(reply.body, nullptr, false);
  if (!answer.is_object()) {
    return fail(context, kExitFailed,
                fmt::format("control answered {} with something else than JSON", reply.status),
                "is another program at this socket, or control of another version?");
  }
  try {
    if (reply.ok()) {
      const Shown shown = show(answer);
      context.out << (context.json ? dump(answer) : shown.text);
      return shown.exit;
    }
    if (context.json) {
      context.out << dump(answer);
      return kExitFailed;
    }
    context.err << messages_text(answer);
    return fail(context, kExitFailed, answer.value("error", fmt::format("control answered {}", reply.status)),
                answer.value("remedy", ""));
  } catch (const nlohmann::json::exception& e) {
    return fail(context, kExitFailed, fmt::format("control's answer is not understood: {}", e.what()),
                "install the same version of portico and portico-control");
  }
}

}  // namespace portico::cli
