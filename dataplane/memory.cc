// SPDX-License-Identifier: Apache-2.0
#include "dataplane/memory.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace portico {

namespace {

constexpr size_t kHugePage = 2u << 20;

std::string describe(size_t size, bool huge_pages) {
  const size_t mib = (size + kHugePage - 1) / kHugePage * 2;
  std::string text = "no memory for flows: " + std::to_string(mib) + " MiB of ";
  text += huge_pages ? "2 MiB huge pages; raise vm.nr_hugepages, lower `flows`, or set `huge_pages: off`"
                     : "ordinary pages; lower `flows`";
  return text + " (" + std::strerror(errno) + ")";
}

// A wish, not a demand: where the node has no memory left, another node's is better than none.
void prefer_node(std::byte* data, size_t size, int node) {
  if (node < 0 || node >= 64) return;
  const unsigned long mask = 1ul << node;
  static_cast<void>(syscall(SYS_mbind, data, size, MPOL_PREFERRED, &mask, 64, 0));
}

}  // namespace

Region::Region(size_t size, bool huge_pages, int numa_node)
    : size_((size + kHugePage - 1) & ~(kHugePage - 1)) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge_pages ? MAP_HUGETLB : 0);
  void* const mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapped == MAP_FAILED) throw std::runtime_error(describe(size, huge_pages));
  data_ = static_cast<std::byte*>(mapped);
  prefer_node(data_, size_, numa_node);
  if (!huge_pages) {
    // Transparent huge pages where the kernel has them. The memory is touched by flows as they come.
    madvise(data_, size_, MADV_HUGEPAGE);
    return;
  }
  // The reservation of huge pages is checked by mmap; touching them here keeps faults out of the packet path.
  for (size_t at = 0; at < size_; at += kHugePage) const_cast<volatile std::byte*>(data_)[at] = std::byte{0};
}

Region Region::of_file(int fd, size_t size, bool on_huge_pages, int numa_node) {
  Region region;
  const size_t whole = (size + kHugePage - 1) & ~(kHugePage - 1);
  if (ftruncate(fd, static_cast<off_t>(whole)) != 0) throw std::runtime_error(describe(size, on_huge_pages));
  // On hugetlbfs this reserves all pages, so that touching one later cannot fail.
  void* const mapped = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) throw std::runtime_error(describe(size, on_huge_pages));
  region.data_ = static_cast<std::byte*>(mapped);
  region.size_ = whole;
  prefer_node(region.data_, whole, numa_node);
  if (on_huge_pages) {
    for (size_t at = 0; at < whole; at += kHugePage)
      static_cast<void>(const_cast<volatile std::byte*>(region.data_)[at]);
  } else if (posix_fallocate(fd, 0, static_cast<off_t>(whole)) != 0) {
    // A full tmpfs is an error now instead of a SIGBUS later.
    throw std::runtime_error(describe(size, false));
  }
  return region;
}

Region::~Region() {
  if (data_ != nullptr) munmap(data_, size_);
}

Region::Region(Region&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Region& Region::operator=(Region&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace portico
