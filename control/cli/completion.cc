// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "control/cli/declarations.h"
#include "control/cli/top.h"

namespace portico::cli {

namespace {

// The words of an option as a shell's list: "--write -w".
std::string words_of(const CLI::Option& option) {
  std::string out;
  for (const std::string& name : option.get_lnames()) out += " --" + name;
  for (const std::string& name : option.get_snames()) out += " -" + name;
  return out;
}

bool takes_value(const CLI::Option& option) {
  return !option.get_positional() && option.get_items_expected_max() > 0;
}

std::string kind_of(const CLI::Option& option) {
  return option.get_positional() ? option.get_name(true) : value_name(option);
}

// What the two shells' functions need of a command, as assignments.
std::string assignments(const CLI::App& app) {
  std::string flags, values, positionals;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      positionals += " " + kind_of(*option);
      continue;
    }
    if (app.get_parent() != nullptr && option->check_lname("help")) continue;  // all have it
    flags += words_of(*option);
    if (!takes_value(*option)) continue;
    std::string names = words_of(*option);
    for (size_t at = 1; at < names.size();) {
      const size_t end = std::min(names.find(' ', at), names.size());
      values += " " + names.substr(at, end - at) + "=" + kind_of(*option);
      at = end + 1;
    }
  }
  const auto trimmed = [](const std::string& text) { return text.empty() ? text : text.substr(1); };
  return fmt::format("flags='{}' values='{}' positionals='{}'", trimmed(flags), trimmed(values),
                     trimmed(positionals));
}

// A function that sets what assignments() says of a command, "" for what all take, and the commands' names.
std::string tables(const CLI::App& app) {
  std::string out = "_portico_tables() {\n  case $1 in\n", commands;
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_group().empty()) continue;
    commands += (commands.empty() ? "" : " ") + command->get_name();
    out += fmt::format("    {}) {} ;;\n", command->get_name(), assignments(*command));
  }
  std::string orders;
  for (const std::string_view order : kTopOrders) orders += (orders.empty() ? "" : " ") + std::string(order);
  return out + fmt::format("    *) {} ;;\n  esac\n}}\n", assignments(app)) +
         fmt::format("_portico_commands='{}'\n_portico_orders='{}'\n", commands, orders);
}

// Reads the words before the one that is being completed; leaves `candidates`, or `files` set to 1. The same
// in both shells but for where the words are: both know $@, case and `set`.
constexpr const char* kSearch = R"sh(
# _portico_search WORD...: those before the one to complete. Sets kind: what may come next.
_portico_search() {
  local word command='' expects='' run_dir='' count=0
  local flags values positionals
  _portico_tables ''
  for word in "$@"; do
    if [ -n "$expects" ]; then
      if [ "$expects" = --run-dir ]; then run_dir=$word; fi
      expects=''
      continue
    fi
    case $word in
      -*)
        case " $(_portico_all_values "$command") " in *" $word="*) expects=$word ;; esac
        ;;
      *)
        if [ -z "$command" ]; then command=$word; else count=$((count + 1)); fi
        ;;
    esac
  done
  kind='' candidates='' run_dir_option=$run_dir
  if [ -n "$expects" ]; then
    kind=$(_portico_all_values "$command" | tr ' ' '\n' | sed -n "s/^$expects=//p" | head -n 1)
    return
  fi
  _portico_tables ''
  candidates=$flags
  if [ -z "$command" ]; then
    candidates="$_portico_commands $candidates"
    return
  fi
  _portico_tables "$command"
  candidates="$flags $candidates"
  # shellcheck disable=SC2086  # words are meant
  set -- $positionals
  if [ "$count" -lt "$#" ]; then
    shift "$count"
    kind=$1
  fi
}
_portico_all_values() {
  local flags values positionals
  _portico_tables ''
  printf '%s ' "$values"
  _portico_tables "$1"
  printf '%s' "$values"
}
# _portico_names: what of $kind there is.
_portico_names() {
  local what=''
  case $kind in
    BACKEND*) what=backends ;;
    SERVICE | TARGET) what=services ;;
    VERSION) what=versions ;;
    ORDER) printf '%s\n' "$_portico_orders" ;;
    WEIGHT) printf 'default\n' ;;
  esac
  if [ -z "$what" ]; then return; fi
  if [ -n "$run_dir_option" ]; then
    portico --run-dir "$run_dir_option" complete "$what" 2>/dev/null
  else
    portico complete "$what" 2>/dev/null
  fi
}
)sh";

constexpr const char* kBash = R"sh(
_portico() {
  local kind candidates run_dir_option
  local word=${COMP_WORDS[COMP_CWORD]}
  _portico_search "${COMP_WORDS[@]:1:COMP_CWORD-1}"
  case $kind in
    FILE | DIR) mapfile -t COMPREPLY < <(compgen -f -- "$word") ; return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$candidates $(_portico_names)" -- "$word")
}
complete -F _portico portico
)sh";

constexpr const char* kZsh = R"sh(
_portico() {
  setopt localoptions shwordsplit
  local kind candidates run_dir_option
  _portico_search "${(@)words[2,CURRENT-1]}"
  case $kind in
    FILE | DIR) _files; return ;;
  esac
  compadd -- $candidates $(_portico_names)
}
if [ "${funcstack[1]}" = _portico ]; then _portico "$@"; else compdef _portico portico; fi
)sh";

}  // namespace

// CLI11 adds the checks of a value to its name: "ORDER:{pool,state}".
std::string value_name(const CLI::Option& option) {
  const std::string name = option.get_type_name();
  return name.substr(0, name.find(':'));
}

std::string bash_completion(const CLI::App& app) {
  return "# bash completion for portico(1), made from its declarations.\n# shellcheck shell=bash\n" +
         tables(app) + kSearch + kBash;
}

std::string zsh_completion(const CLI::App& app) {
  return "#compdef portico\n# zsh completion for portico(1), made from its declarations.\n" + tables(app) +
         kSearch + kZsh;
}

}  // namespace portico::cli
