// SPDX-License-Identifier: Apache-2.0
// Where an instance's programs are attached, kept by pins on bpffs: they go on when the process ends, however
// it ends, and the next one finds them by the same names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/config.h"
#include "agent/object.h"
#include "agent/tc_filter.h"
#include "contract/run_dir.h"

namespace portico {

class Attachment {
 public:
  // What is attached now, whoever did it.
  struct State {
    std::optional<AttachWay> way;  // native, generic or tc; nullopt: nothing
    int ifindex = 0;               // 0 if the interface is gone
    int clamp_ifindex = 0;         // 0: SYN-ACKs leave as they are
    uint32_t program_id = 0;
    FileHandle program;
    FileHandle counters;  // not open: nothing has been counted yet
  };

  // `bpffs`: a directory on a mounted bpffs. Nothing is touched yet.
  Attachment(const std::filesystem::path& bpffs, const std::string& instance);

  State state() const;
  // Whether the program is on this interface this way, and the clamp on that one (0: on none), as they
  // should.
  bool is_attached(int ifindex, AttachWay way, int clamp_ifindex) const;

  // Makes the directory. nullopt, or what is missing.
  std::optional<std::string> prepare() const;
  // Attaches the object's way in, in place of the instance's last one; no packet passes between two programs
  // unless the interface or the way changes. `way` is native, generic or tc, and fits the object. nullopt, or
  // what went wrong; what was attached before is then still there, if the kernel lets both be.
  std::optional<std::string> attach(const AgentObject& object, int ifindex, AttachWay way) const;
  // Attaches the clamp, or takes it away where `ifindex` is 0.
  std::optional<std::string> attach_clamp(const AgentObject& object, int ifindex) const;

  // Takes everything away: programs, pins, and clsact if it is then empty. nullopt, or what is left.
  std::optional<std::string> detach() const;

  // Names of instances that have pins under `bpffs`.
  static std::vector<std::string> instances(const std::filesystem::path& bpffs);

 private:
  std::filesystem::path pin(const char* name) const { return folder_ / name; }
  std::optional<std::string> attach_xdp(const AgentObject& object, int ifindex, AttachWay way) const;
  std::optional<std::string> put_tc(TcSide side, int program, int ifindex) const;
  std::optional<std::string> remove_xdp() const;
  std::optional<std::string> remove_tc(TcSide side, int except_ifindex = 0) const;

  std::filesystem::path folder_;
  uint32_t handle_;  // of the instance's tc filters
};

}  // namespace portico
