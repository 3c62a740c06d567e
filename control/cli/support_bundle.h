// SPDX-License-Identifier: Apache-2.0
// What a support bundle is made of.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/cli/commands.h"
#include "control/cli/redact.h"

namespace portico::cli {

// Files and where each is from; what is missing and why. Everything is cleaned of the known secrets at the
// end, by when all are known.
class Bundle {
 public:
  struct File {
    std::string name, source, text;
    nlohmann::ordered_json value;  // instead of the text, if it is not null
  };
  struct Missing {
    std::string name, why;
  };

  Scrubber scrubber;

  void add_text(std::string name, std::string source, std::string text) {
    files_.push_back({std::move(name), std::move(source), std::move(text), nullptr});
  }
  // JSON that stays JSON when it is cleaned; any other text as it is.
  void add_json(std::string name, std::string source, const std::string& text);
  // A configuration's text, without its secrets.
  void add_config(const std::string& name, const std::string& source, const std::string& text);
  void miss(std::string name, std::string why) { missing_.push_back({std::move(name), std::move(why)}); }

  // The cleaned files; the last one is manifest.json, which says what there is.
  std::vector<File> finish(nlohmann::json about);
  // That file's content.
  const nlohmann::json& manifest() const { return manifest_; }

 private:
  std::vector<File> files_;
  std::vector<Missing> missing_;
  nlohmann::json manifest_;
};

// The host: kernel, memory, interrupts, interfaces, addresses, routes, neighbours, the two processes, and the
// units' logs, `log_files` besides.
void add_host(Bundle& bundle, const Context& context, const std::vector<std::string>& interfaces,
              const std::vector<std::string>& log_files);

// What control and the configuration at `config_path` (empty: the one in use) say. Returns the
// configuration's port interfaces.
std::vector<std::string> add_portico(Bundle& bundle, const Context& context, const std::string& config_path);

}  // namespace portico::cli
