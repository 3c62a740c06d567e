// SPDX-License-Identifier: Apache-2.0
#include "control/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace portico {
namespace {

struct Range {
  char32_t first, last;
};

// Unicode's control and format characters and separators of lines, but for those that show.
constexpr Range kHidden[] = {
    {0, 0x1f},        {0x7f, 0x9f},       {0xad, 0xad},      // C0; DEL, C1; soft hyphen
    {0x61c, 0x61c},   {0x180e, 0x180e},   {0x200b, 0x200f},  // marks of direction, without width
    {0x2028, 0x202e}, {0x2060, 0x206f},   {0xfeff, 0xfeff},  // lines, overrides; joiners, isolates
    {0xfff9, 0xfffb}, {0xe0000, 0xe007f},                    // annotations, tags
};

struct Character {
  char32_t code = 0;
  size_t size = 0;  // bytes; 0: not UTF-8
};

// The first character of a text that is not empty (RFC 3629: no overlong forms, no surrogates).
Character first_of(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return {byte(0), 1};
  const size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < size) return {};
  char32_t code = byte(0) & (0xffu >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code < kLeast[size] || code > 0x10ffff || is_surrogate) return {};
  return {code, size};
}

bool is_hidden(char32_t code) {
  return std::ranges::any_of(kHidden, [code](Range r) { return code >= r.first && code <= r.last; });
}

std::string escaped(char32_t code) {
  const auto number = static_cast<uint32_t>(code);
  if (number <= 0xff) return fmt::format("\\x{:02x}", number);
  return number <= 0xffff ? fmt::format("\\u{:04x}", number) : fmt::format("\\U{:08x}", number);
}

}  // namespace

std::string to_printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const Character character = first_of(text.substr(i));
    if (character.size == 0)
      out += escaped(static_cast<unsigned char>(text[i]));
    else if (is_hidden(character.code))
      out += escaped(character.code);
    else
      out += text.substr(i, character.size);
    i += std::max<size_t>(character.size, 1);
  }
  return out;
}

bool is_printable(std::string_view text) {
  return to_printable(text) == text;
}

}  // namespace portico
