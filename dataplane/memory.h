// SPDX-License-Identifier: Apache-2.0
// Memory for flows, zeroed at first: huge pages if asked for, since a table's misses rule its speed.
#pragma once

#include <cstddef>
#include <span>

namespace portico {

class Region {
 public:
  Region() = default;
  // Maps `size` bytes. `numa_node` -1: anywhere. Throws std::runtime_error that says what to do when there
  // are no huge pages left, or no memory.
  Region(size_t size, bool huge_pages, int numa_node);
  // Maps a file's first `size` bytes, shared, so that what is written outlives the process. The file is made
  // that long; what was in it before is there. `on_huge_pages`: it is on hugetlbfs. Throws as above.
  static Region of_file(int fd, size_t size, bool on_huge_pages, int numa_node);
  ~Region();
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace portico
