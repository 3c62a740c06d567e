// SPDX-License-Identifier: Apache-2.0
// What the declarations of the command line say, as a manual page and as completion for shells. Pure.
#pragma once

#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace portico::cli {

// The name of an option's value: "FILE", without what else may be said of it.
std::string value_name(const CLI::Option& option);
// portico(1) in the man(7) macros.
std::string manual_page(const CLI::App& app, const std::string& version);
// What bash and zsh read. They ask `portico complete WHAT` for names: of backends, services and versions.
std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);

}  // namespace portico::cli
