// SPDX-License-Identifier: Apache-2.0
#include "dataplane/xdp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

namespace portico {

namespace {

// More maps than a program of ours has.
constexpr uint32_t kMaxMapIds = 64;

uint32_t mode_flags(uint8_t attach_mode) {
  switch (attach_mode) {
    case XDP_ATTACHED_DRV:
      return XDP_FLAGS_DRV_MODE;
    case XDP_ATTACHED_SKB:
      return XDP_FLAGS_SKB_MODE;
    case XDP_ATTACHED_HW:
      return XDP_FLAGS_HW_MODE;
    default:
      return 0;
  }
}

// proc(5), /proc/PID/stat, field 22, in clock ticks since boot; 0 if there is no such process, or it is dead
// and only waits for its parent (field 3).
uint64_t start_time(uint32_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return 0;
  // Field 2, the name, is in parentheses and may hold anything; field 3 follows the last one.
  std::istringstream rest(line.substr(line.rfind(')') + 1));
  std::string state, field;
  rest >> state;
  for (int number = 4; number <= 22; ++number) rest >> field;
  return rest && state != "Z" && state != "X" ? std::strtoull(field.c_str(), nullptr, 10) : 0;
}

}  // namespace

int UniqueFd::release() {
  return std::exchange(fd_, -1);
}

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

std::optional<XdpProgram> attached_program(int ifindex, std::string& failure) {
  bpf_xdp_query_opts query{};
  query.sz = sizeof query;
  if (const int error = bpf_xdp_query(ifindex, 0, &query); error != 0) {
    failure = std::string("cannot ask the kernel for XDP programs: ") + std::strerror(-error);
    return std::nullopt;
  }
  if (query.attach_mode == XDP_ATTACHED_NONE) return std::nullopt;

  XdpProgram program;
  program.ifindex = ifindex;
  program.mode_flags = mode_flags(query.attach_mode);
  program.id = query.prog_id;
  if (program.id == 0) program.id = query.drv_prog_id != 0 ? query.drv_prog_id : query.skb_prog_id;
  program.fd = UniqueFd(bpf_prog_get_fd_by_id(program.id));
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  if (!program.fd || bpf_obj_get_info_by_fd(program.fd.get(), &info, &size) != 0) {
    failure = "cannot look at XDP program " + std::to_string(program.id) + ": " + std::strerror(errno);
    return std::nullopt;
  }
  program.name = info.name;
  return program;
}

UniqueFd map_of_program(const XdpProgram& program, const char* name) {
  std::array<uint32_t, kMaxMapIds> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(program.fd.get(), &info, &size) != 0) return {};
  for (uint32_t i = 0; i < info.nr_map_ids && i < ids.size(); ++i) {
    UniqueFd map(bpf_map_get_fd_by_id(ids[i]));
    bpf_map_info map_info{};
    uint32_t map_size = sizeof map_info;
    if (map && bpf_obj_get_info_by_fd(map.get(), &map_info, &map_size) == 0 &&
        std::strncmp(map_info.name, name, sizeof map_info.name - 1) == 0)
      return map;
  }
  return {};
}

bool detach_program(const XdpProgram& program) {
  bpf_xdp_attach_opts options{};
  options.sz = sizeof options;
  options.old_prog_fd = program.fd.get();
  const int error = bpf_xdp_detach(program.ifindex, program.mode_flags, &options);
  errno = -error;
  return error == 0;
}

bool sign_program(const XdpProgram& program) {
  steer_owner owner{};
  owner.process = static_cast<uint32_t>(getpid());
  owner.start_time = start_time(owner.process);
  const uint32_t only = 0;
  const UniqueFd map(
      bpf_map_create(BPF_MAP_TYPE_ARRAY, STEER_OWNER_MAP, sizeof only, sizeof owner, 1, nullptr));
  return map && bpf_map_update_elem(map.get(), &only, &owner, BPF_ANY) == 0 &&
         bpf_prog_bind_map(program.fd.get(), map.get(), nullptr) == 0;
}

uint32_t running_owner(const XdpProgram& program) {
  const UniqueFd map = map_of_program(program, STEER_OWNER_MAP);
  const uint32_t only = 0;
  steer_owner owner{};
  if (!map || bpf_map_lookup_elem(map.get(), &only, &owner) != 0) return 0;
  return start_time(owner.process) == owner.start_time ? owner.process : 0;
}

}  // namespace portico
