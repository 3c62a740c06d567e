// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "control/cli/declarations.h"

namespace portico::cli {

namespace {

constexpr size_t kLineLength = 64;
constexpr const char* kEnd =
    R"(.SH FILES
.TP
.I /run/portico
the run directory, with the socket of portico\-control
.TP
.I /etc/portico/portico.yaml
the configuration
.SH ENVIRONMENT
.TP
.B PORTICO_RUN_DIR
the run directory, unless \fB\-\-run\-dir\fR names one
.TP
.B NO_COLOR
no colours, on terminals either
.SH SEE ALSO
The pages under
.IR /usr/share/doc/portico :
cli.md says more of each command, api.md what
.B \-\-json
prints, 3am.md what to do when something is wrong.
)";

// As roff prints it: hyphens that can be copied, no accidental requests or escapes; a line ends at a blank
// behind kLineLength, which is as good to roff.
std::string roff(const std::string& text) {
  std::string out;
  size_t column = 0;
  for (const char c : text) {
    const bool breaks = c == ' ' && column >= kLineLength;
    column = breaks || c == '\n' ? 0 : column + 1;
    if (breaks)
      out += '\n';
    else if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n'))
      out += std::string("\\&") + c;
    else
      out += c;
  }
  return out;
}

// "--deadline TEXT", "FILE".
std::string name_of(const CLI::Option& option) {
  if (option.get_positional()) return fmt::format("\\fI{}\\fR", roff(option.get_name(true)));
  std::string names;
  for (const std::string& name : option.get_snames()) names += (names.empty() ? "" : ", ") + roff("-" + name);
  for (const std::string& name : option.get_lnames())
    names += (names.empty() ? "" : ", ") + roff("--" + name);
  std::string out = "\\fB" + names + "\\fR";
  if (option.get_items_expected_max() > 0) out += " \\fI" + roff(value_name(option)) + "\\fR";
  return out;
}

std::string options_text(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty() || (app.get_parent() != nullptr && option->check_lname("help"))) continue;
    out += ".TP\n" + name_of(*option) + "\n" + roff(option->get_description());
    if (!option->get_default_str().empty()) out += roff(" (default: " + option->get_default_str() + ")");
    out += "\n";
  }
  return out;
}

// ".SS" of one command: how it is called, what it does, what it takes.
std::string command_text(const CLI::App& command) {
  std::string call = "\\fBportico " + roff(command.get_name()) + "\\fR";
  std::string positionals;
  bool has_options = false;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional()) {
      has_options = has_options || !option->check_lname("help");
      continue;
    }
    const std::string name = "\\fI" + roff(option->get_name(true)) + "\\fR";
    positionals += option->get_required() ? " " + name : " [" + name + "]";
  }
  if (has_options) call += " [\\fIOPTIONS\\fR]";
  return fmt::format(".SS {}\n{}{}\n.PP\n{}.\n{}", roff(command.get_name()), call, positionals,
                     roff(command.get_description()), options_text(command));
}

}  // namespace

std::string manual_page(const CLI::App& app, const std::string& version) {
  // Without a date: the same sources give the same page.
  std::string out = fmt::format(".TH PORTICO 1 \"\" \"portico {}\" \"User Commands\"\n", roff(version));
  out +=
      ".SH NAME\nportico \\- look at and command the Portico load balancer\n.SH SYNOPSIS\n.B portico\n"
      "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR ...\n.SH DESCRIPTION\n"
      "It asks portico\\-control over its socket in the run directory.\nForwarding depends on neither.\n"
      "Options may stand before or after the command.\n.SH OPTIONS\n";
  out += options_text(app) + ".SH COMMANDS\n";
  for (const CLI::App* command : app.get_subcommands({}))
    if (!command->get_group().empty()) out += command_text(*command);
  return out + ".SH EXIT STATUS\n" + roff(app.get_footer()) + "\n" + kEnd;
}

}  // namespace portico::cli
