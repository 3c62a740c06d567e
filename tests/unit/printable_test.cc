// SPDX-License-Identifier: Apache-2.0
#include "control/printable.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "control/config.h"

namespace portico {
namespace {

TEST(Printable, TextOfAllLanguagesStays) {
  for (const char* text : {"", "upgrade 2.4", "Störung", "обновление", "アップグレード", "😀", "a\\b"}) {
    EXPECT_TRUE(is_printable(text)) << text;
    EXPECT_EQ(to_printable(text), text);
  }
}

TEST(Printable, WhatATerminalWouldObeyIsEscaped) {
  EXPECT_EQ(to_printable("a\nb\x1b[2J\x7f"), "a\\x0ab\\x1b[2J\\x7f");
  EXPECT_EQ(to_printable("\u0085\u009b2J"), "\\x85\\x9b2J");
  EXPECT_EQ(to_printable("\u2028x"), "\\u2028x");
}

TEST(Printable, WhatChangesTheOrderOrHidesIsEscaped) {
  for (const char* text :
       {"\u00ad", "\u061c", "\u180e", "\u200b", "\u200d", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c",
        "\u202d", "\u202e", "\u2060", "\u2066", "\u2067", "\u2068", "\u2069", "\ufeff", "\ufff9"}) {
    EXPECT_FALSE(is_printable(std::string("why ") + text)) << to_printable(text);
  }
  EXPECT_EQ(to_printable("drained \u202enwod"), "drained \\u202enwod");
  EXPECT_EQ(to_printable("\U000e0041"), "\\U000e0041");
}

TEST(Printable, WhatIsNotUtf8IsEscapedByteByByte) {
  // A lone continuation, a C1 byte as an 8-bit terminal obeys it, a cut character, overlong "/", a surrogate,
  // beyond Unicode.
  EXPECT_EQ(to_printable("\x80x\x9b"), "\\x80x\\x9b");
  EXPECT_EQ(to_printable("\xe2\x82"), "\\xe2\\x82");
  EXPECT_EQ(to_printable("\xc0\xaf"), "\\xc0\\xaf");
  EXPECT_EQ(to_printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");
  EXPECT_EQ(to_printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
}

TEST(Printable, ConfigurationsAreRefusedInPrintableWords) {
  for (const char* name : {"edge\u202e1", "edge\u200b1", "edge\u009b1", "edge\u00ad1"}) {
    const std::string text = std::string("version: 1\ninstance: \"") + name + "\"\nna\u202eme: 1\n";
    const ConfigResult result = parse_config(text, "test");
    EXPECT_FALSE(result.config);
    for (const auto& message : result.messages) EXPECT_TRUE(is_printable(message.text)) << message.text;
    EXPECT_TRUE(std::ranges::any_of(result.messages, [](const auto& message) {
      return message.line == 2 && message.text.find("characters that do not show") != std::string::npos;
    })) << format_messages(result, "test");
  }
}

TEST(Printable, MessagesNameAFileInPrintableWords) {
  EXPECT_TRUE(format_messages(parse_config("version: 2", "x"), "a\u202eb\n").starts_with("a\\u202eb\\x0a:"));
}

}  // namespace
}  // namespace portico
