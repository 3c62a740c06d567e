// SPDX-License-Identifier: Apache-2.0
// Texts of others (operators, configuration files, servers, shared memory) on terminals and in logs.
#pragma once

#include <string>
#include <string_view>

namespace portico {

// True if the text is UTF-8 in which each character shows, in the order in which it stands: no control
// characters (C0, DEL, C1), no separators of lines, none that change the direction of what follows
// (U+202A to U+202E, U+2066 to U+2069 and the marks; "Trojan Source", CVE-2021-42574), none without width. A
// terminal and a log show it as one line and obey nothing of it.
bool is_printable(std::string_view text);

// The text with each such character as \xNN, \uNNNN or \UNNNNNNNN, and each byte that is not UTF-8 as \xNN.
std::string to_printable(std::string_view text);

}  // namespace portico
