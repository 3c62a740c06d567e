// SPDX-License-Identifier: Apache-2.0
// Any text is either a configuration, whose effective text then reads back as the same one, or at least one
// error.
#include <cstdint>
#include <cstdlib>

#include "control/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const portico::ConfigResult first = portico::parse_config(text, "fuzz.yaml");
  bool has_error = false;
  for (const auto& message : first.messages) has_error = has_error || message.is_error;
  if (first.config.has_value() == has_error) std::abort();
  if (!first.config) return 0;
  const portico::ConfigResult second = portico::parse_config(first.effective, "effective");
  if (!second.config || !(*second.config == *first.config)) std::abort();
  return 0;
}
