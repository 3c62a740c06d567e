// SPDX-License-Identifier: Apache-2.0
// The dataplane's flow tables as what stays on the host when both processes have ended.
#pragma once

#include <filesystem>
#include <string>

namespace portico {

// Removes the flow tables that the run directory's link kFlowTablesLink names, and the link. Who may write to
// the run directory chooses where the link leads, so only this is removed: the files in a directory
// "portico-*" that is itself no link, lies in memory (hugetlbfs, tmpfs, ramfs), belongs to the link's owner
// and which nobody else may write to; and the directory, once it is empty. Returns what was left there and
// why, for the operator; "" if nothing is left, also if there was nothing.
std::string remove_flow_tables(const std::filesystem::path& run_dir);

}  // namespace portico
