// SPDX-License-Identifier: Apache-2.0
// The directory where flow tables outlive the process: in memory, on huge pages if those are wanted.
#pragma once

#include <filesystem>
#include <string>

#include "contract/run_dir.h"

namespace portico {

// The first mounted hugetlbfs with pages of 2 MiB, as /proc/self/mounts (or `mounts`) tells; empty: none.
std::filesystem::path find_hugetlbfs(const std::filesystem::path& mounts = "/proc/self/mounts");

// portico-PREFIX below a hugetlbfs with `huge_pages`, else below the run directory if that is in
// memory, else below /dev/shm. Empty: huge pages are wanted and no hugetlbfs is mounted.
std::filesystem::path choose_flow_place(const std::filesystem::path& run_dir, const std::string& prefix,
                                        bool huge_pages);

// Makes the directory (0700) if missing, and locks it for as long as the handle lives. Throws
// std::runtime_error with the remedy if another process has it, if it is another user's, or on system errors.
FileHandle lock_flow_place(const std::filesystem::path& place);

// True on hugetlbfs.
bool is_on_huge_pages(int fd);

}  // namespace portico
