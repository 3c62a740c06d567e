// SPDX-License-Identifier: Apache-2.0
// What telemetry commands are given: values with commas between them.
#pragma once

#include <array>
#include <charconv>
#include <limits>
#include <string_view>

namespace portico {

// Splits the text into just N parts. False if it has more or fewer.
template <size_t N>
bool split_parameters(std::string_view text, std::array<std::string_view, N>& parts) {
  for (size_t i = 0; i + 1 < N; ++i) {
    const size_t comma = text.find(',');
    if (comma == std::string_view::npos) return false;
    parts[i] = text.substr(0, comma);
    text.remove_prefix(comma + 1);
  }
  parts[N - 1] = text;
  return text.find(',') == std::string_view::npos;
}

// Reads a decimal number in [least, most], and nothing else.
template <typename Number>
bool read_number(std::string_view text, Number& value, Number least = 0,
                 Number most = std::numeric_limits<Number>::max()) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && value >= least &&
         value <= most;
}

}  // namespace portico
