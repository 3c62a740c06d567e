// SPDX-License-Identifier: Apache-2.0
// `portico topology`: the plan is the dataplane's to make, so the dataplane is asked, in a process of its
// own.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>
#include <vector>

#include "control/cli/commands.h"
#include "control/cli/run_program.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

constexpr const char* kProgram = "portico-dataplane";

// Where it was installed with this program, or built; else the search path decides.
std::string find_dataplane() {
  if (const char* named = std::getenv("PORTICO_DATAPLANE"); named != nullptr && *named != '\0') return named;
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* folder : {".", "../sbin", "../../dataplane"}) {
    const auto path = here / folder / kProgram;
    if (!error && access(path.c_str(), X_OK) == 0) return path;
  }
  return kProgram;
}

}  // namespace

int show_topology(const Context& context) {
  std::vector<std::string> arguments = {find_dataplane(), "--dry-run", "--log-level",
                                        "error",          "--run-dir", context.run_dir};
  if (context.json) arguments.emplace_back("--json");
  const Finished plan = run_program(arguments);
  if (!plan.output.empty()) {
    context.out << plan.output;
    return plan.status == 0 ? kExitWell : kExitFailed;
  }
  std::string text = plan.messages.substr(0, plan.messages.find('\n'));
  const std::string speaker = std::string(kProgram) + ": ";
  if (text.starts_with(speaker)) text.erase(0, speaker.size());
  if (text.empty()) text = "portico-dataplane ended without an answer";
  if (context.json) {
    const nlohmann::json answer = {{"error", text}, {"remedy", ""}};
    context.out << answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    context.err << "portico: " << to_printable(text) << '\n';
  }
  return kExitFailed;
}

}  // namespace portico::cli
