// SPDX-License-Identifier: Apache-2.0
#include "agent/attachment.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace portico {

namespace {

constexpr const char* kFolder = "portico-agent";
constexpr const char *kLink = "xdp", *kCounters = "counters";

std::string reason(const std::string& what, int error) {
  return what + ": " + std::strerror(error);
}

// From the instance's name (FNV-1a); 0 would be any handle.
uint32_t handle_of(const std::string& instance) {
  uint32_t hash = 2166136261u;
  for (const char c : instance) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash | 1;
}

FileHandle open_pin(const std::filesystem::path& path) {
  return FileHandle(bpf_obj_get(path.c_str()));
}

// bpffs takes no dots.
std::string without_dots(std::string name) {
  std::ranges::replace(name, '.', '+');
  return name;
}

const char* name_at(TcSide side) {
  return side == TcSide::ingress ? AGENT_INGRESS_PROGRAM : AGENT_EGRESS_PROGRAM;
}

// Under its name from one moment to the next, whatever stood there.
std::optional<std::string> pin_in_place(int fd, const std::filesystem::path& path) {
  const std::filesystem::path fresh = path.string() + "-new";
  unlink(fresh.c_str());
  if (bpf_obj_pin(fd, fresh.c_str()) != 0 || rename(fresh.c_str(), path.c_str()) != 0)
    return reason(path.string(), errno);
  return std::nullopt;
}

struct XdpLink {
  FileHandle fd;
  int ifindex = 0;
  uint32_t program = 0;
};

XdpLink open_link(const std::filesystem::path& path) {
  XdpLink link{open_pin(path)};
  bpf_link_info info{};
  uint32_t size = sizeof info;
  if (link.fd.is_open() && bpf_obj_get_info_by_fd(link.fd.fd(), &info, &size) == 0) {
    link.ifindex = static_cast<int>(info.xdp.ifindex);
    link.program = info.prog_id;
  }
  return link;
}

AttachWay way_at(int ifindex) {
  bpf_xdp_query_opts query{};
  query.sz = sizeof query;
  const bool is_native = bpf_xdp_query(ifindex, 0, &query) == 0 && query.attach_mode == XDP_ATTACHED_DRV;
  return is_native ? AttachWay::native : AttachWay::generic;
}

}  // namespace

Attachment::Attachment(const std::filesystem::path& bpffs, const std::string& instance)
    : folder_(bpffs / kFolder / without_dots(instance)), handle_(handle_of(instance)) {}

std::vector<std::string> Attachment::instances(const std::filesystem::path& bpffs) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(bpffs / kFolder, error)) {
    names.push_back(entry.path().filename());
    std::ranges::replace(names.back(), '+', '.');
  }
  std::ranges::sort(names);
  return names;
}

Attachment::State Attachment::state() const {
  State state;
  state.counters = open_pin(pin(kCounters));
  const XdpLink link = open_link(pin(kLink));
  if (link.fd.is_open()) {
    state.ifindex = link.ifindex;
    state.program_id = link.program;
    if (link.ifindex != 0) state.way = way_at(link.ifindex);
  } else if (const auto filters = find_filters(TcSide::ingress, handle_, AGENT_INGRESS_PROGRAM);
             !filters.empty()) {
    state.way = AttachWay::tc;
    state.ifindex = filters.front().ifindex;
    state.program_id = filters.front().program_id;
  }
  if (state.program_id != 0) state.program = FileHandle(bpf_prog_get_fd_by_id(state.program_id));
  const auto clamps = find_filters(TcSide::egress, handle_, AGENT_EGRESS_PROGRAM);
  if (!clamps.empty()) state.clamp_ifindex = clamps.front().ifindex;
  return state;
}

bool Attachment::is_attached(int ifindex, AttachWay way, int clamp_ifindex) const {
  if (clamp_ifindex != 0 && !filter_at(clamp_ifindex, TcSide::egress, handle_, AGENT_EGRESS_PROGRAM))
    return false;
  if (way == AttachWay::tc)
    return filter_at(ifindex, TcSide::ingress, handle_, AGENT_INGRESS_PROGRAM).has_value();
  return open_link(pin(kLink)).ifindex == ifindex;
}

std::optional<std::string> Attachment::prepare() const {
  const std::filesystem::path bpffs = folder_.parent_path().parent_path();
  struct statfs status;
  if (statfs(bpffs.c_str(), &status) != 0 || status.f_type != BPF_FS_MAGIC)
    return bpffs.string() + " is no bpffs; mount it: mount -t bpf bpf " + bpffs.string();
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) return folder_.string() + ": " + error.message();
  return std::nullopt;
}

std::optional<std::string> Attachment::attach_xdp(const AgentObject& object, int ifindex,
                                                  AttachWay way) const {
  const XdpLink link = open_link(pin(kLink));
  if (link.fd.is_open() && link.ifindex == ifindex && way_at(ifindex) == way) {
    if (bpf_link_update(link.fd.fd(), object.ingress_fd(), nullptr) == 0) return std::nullopt;
    return reason("cannot replace the attached program", errno);
  }
  if (link.fd.is_open() && link.ifindex == ifindex) {
    if (auto failure = remove_xdp()) return failure;  // the kernel has native or generic, not both
  }
  bpf_link_create_opts options{};
  options.sz = sizeof options;
  options.flags = way == AttachWay::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  const FileHandle made(bpf_link_create(object.ingress_fd(), ifindex, BPF_XDP, &options));
  if (!made.is_open()) return reason(std::string("cannot attach at XDP, ") + to_string(way), errno);
  return pin_in_place(made.fd(), pin(kLink));
}

std::optional<std::string> Attachment::put_tc(TcSide side, int program, int ifindex) const {
  if (auto failure = put_filter(ifindex, side, handle_, program)) return failure;
  return remove_tc(side, ifindex);
}

std::optional<std::string> Attachment::attach(const AgentObject& object, int ifindex, AttachWay way) const {
  if (way == AttachWay::tc) {
    if (auto failure = put_tc(TcSide::ingress, object.ingress_fd(), ifindex)) return failure;
    if (auto failure = remove_xdp()) return failure;
  } else {
    if (auto failure = attach_xdp(object, ifindex, way)) return failure;
    if (auto failure = remove_tc(TcSide::ingress)) return failure;
  }
  return pin_in_place(object.map(AGENT_COUNTERS_MAP), pin(kCounters));
}

std::optional<std::string> Attachment::attach_clamp(const AgentObject& object, int ifindex) const {
  if (ifindex == 0) return remove_tc(TcSide::egress);
  return put_tc(TcSide::egress, object.egress_fd(), ifindex);
}

std::optional<std::string> Attachment::remove_xdp() const {
  const XdpLink link = open_link(pin(kLink));
  if (!link.fd.is_open()) return std::nullopt;
  if (link.ifindex != 0 && bpf_link_detach(link.fd.fd()) != 0) return reason("cannot detach from XDP", errno);
  if (unlink(pin(kLink).c_str()) != 0) return reason(pin(kLink).string(), errno);
  return std::nullopt;
}

std::optional<std::string> Attachment::remove_tc(TcSide side, int except_ifindex) const {
  for (const TcFilter& filter : find_filters(side, handle_, name_at(side)))
    if (filter.ifindex != except_ifindex && !remove_filter(filter.ifindex, side, handle_))
      return reason("cannot detach from clsact", errno);
  return std::nullopt;
}

std::optional<std::string> Attachment::detach() const {
  // The clamp last: what comes in until then is still answered with what fits.
  if (auto failure = remove_xdp()) return failure;
  if (auto failure = remove_tc(TcSide::ingress)) return failure;
  if (auto failure = remove_tc(TcSide::egress)) return failure;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) unlink(entry.path().c_str());
  std::filesystem::remove(folder_, error);
  std::filesystem::remove(folder_.parent_path(), error);  // if it was the last
  return std::nullopt;
}

}  // namespace portico
