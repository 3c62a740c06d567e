// SPDX-License-Identifier: Apache-2.0
// Texts of others (operators, servers, the network) on terminals and in logs.
#pragma once

#include <string>
#include <string_view>

namespace portico {

// True if no character of the text is a control character (C0, DEL, and C1 as UTF-8 has it), so that a
// terminal and a log show it as one line and obey nothing of it.
bool is_printable(std::string_view text);

// The text with each such character as \xNN.
std::string to_printable(std::string_view text);

}  // namespace portico
