// SPDX-License-Identifier: Apache-2.0
// Fields of the API's answers: one that is missing counts as empty, one of another type throws
// nlohmann::json::exception.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "control/printable.h"

namespace portico::cli {

// Made fit for terminals.
inline std::string text(const nlohmann::json& object, const char* key) {
  return to_printable(object.value(key, ""));
}
inline double real(const nlohmann::json& object, const char* key) {
  return object.value(key, 0.0);
}
inline uint64_t whole(const nlohmann::json& object, const char* key) {
  return object.value(key, uint64_t{0});
}

}  // namespace portico::cli
