// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace portico::cli {

// The lines that differ, with `-` or `+` before them, and up to two equal ones around each place; empty: the
// texts are the same. The shortest such list, but of very different large texts.
std::string text_diff(const std::string& from, const std::string& to);

}  // namespace portico::cli
