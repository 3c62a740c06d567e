// SPDX-License-Identifier: Apache-2.0
// What is attached to an interface at XDP, and the way from there to its maps.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bpf/steer_maps.h"

namespace portico {

// Closes its descriptor at the end.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release();
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// An XDP program on an interface.
struct XdpProgram {
  int ifindex = 0;
  uint32_t id = 0;
  uint32_t mode_flags = 0;  // XDP_FLAGS_DRV_MODE and the like: what detaching it takes
  std::string name;         // at most 15 characters
  UniqueFd fd;

  bool is_steering() const { return name == STEER_PROGRAM_NAME; }
};

// The program attached to the interface, or nullopt if there is none. On an error: nullopt and a text in
// `failure`.
std::optional<XdpProgram> attached_program(int ifindex, std::string& failure);

// The map of that name (first 15 characters) which the program uses; an empty descriptor if there is none.
UniqueFd map_of_program(const XdpProgram& program, const char* name);

// Detaches exactly this program; nothing happens if another has taken its place. False and errno on failure.
bool detach_program(const XdpProgram& program);

// Writes this process down as the program's owner. False and errno on failure.
bool sign_program(const XdpProgram& program);
// The process that has signed the program, if it still runs; 0 if not, or if nobody has signed.
uint32_t running_owner(const XdpProgram& program);

}  // namespace portico
