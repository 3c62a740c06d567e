// SPDX-License-Identifier: Apache-2.0
#include "agent/tc_filter.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cerrno>
#include <cstring>

#include "contract/run_dir.h"
#include "control/netlink.h"

namespace portico {

namespace {

// Of our filters, whatever the instance; "PC". Others' run before those with a higher number.
constexpr uint32_t kPriority = 0x5043;

bpf_tc_hook hook_at(int ifindex, TcSide side) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = ifindex;
  hook.attach_point = side == TcSide::ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return hook;
}

bpf_tc_opts options_for(uint32_t handle) {
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = handle;
  options.priority = kPriority;
  return options;
}

// Filters of any kind on one side; also if nobody can say.
bool has_filters(NetlinkSocket& socket, int ifindex, uint32_t side) {
  NetlinkRequest request(RTM_GETTFILTER, NLM_F_DUMP);
  auto* part = request.fixed<tcmsg>();
  part->tcm_family = AF_UNSPEC;
  part->tcm_ifindex = ifindex;
  part->tcm_parent = TC_H_MAKE(TC_H_CLSACT, side);
  bool found = false;
  return socket.request(request, [&](const nlmsghdr*) { found = true; }) != 0 || found;
}

bool remove_empty_clsact(int ifindex) {
  auto socket = NetlinkSocket::open(0);
  if (!socket || has_filters(*socket, ifindex, TC_H_MIN_INGRESS) ||
      has_filters(*socket, ifindex, TC_H_MIN_EGRESS))
    return true;
  bpf_tc_hook hook = hook_at(ifindex, TcSide::ingress);
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  const int error = bpf_tc_hook_destroy(&hook);
  errno = -error;
  return error == 0 || error == -ENOENT || error == -EINVAL;
}

}  // namespace

std::optional<std::string> put_filter(int ifindex, TcSide side, uint32_t handle, int program) {
  bpf_tc_hook hook = hook_at(ifindex, side);
  if (const int error = bpf_tc_hook_create(&hook); error != 0 && error != -EEXIST)
    return std::string("cannot make a clsact (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS): ") +
           std::strerror(-error);
  bpf_tc_opts options = options_for(handle);
  options.prog_fd = program;
  options.flags = BPF_TC_F_REPLACE;
  if (const int error = bpf_tc_attach(&hook, &options); error != 0)
    return std::string("cannot attach to clsact: ") + std::strerror(-error);
  return std::nullopt;
}

std::optional<TcFilter> filter_at(int ifindex, TcSide side, uint32_t handle, const char* name) {
  const bpf_tc_hook hook = hook_at(ifindex, side);
  bpf_tc_opts options = options_for(handle);
  if (bpf_tc_query(&hook, &options) != 0) return std::nullopt;
  const FileHandle program(bpf_prog_get_fd_by_id(options.prog_id));
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  if (!program.is_open() || bpf_obj_get_info_by_fd(program.fd(), &info, &size) != 0) return std::nullopt;
  if (std::strncmp(info.name, name, sizeof info.name) != 0) return std::nullopt;
  return TcFilter{ifindex, options.prog_id};
}

std::vector<TcFilter> find_filters(TcSide side, uint32_t handle, const char* name) {
  std::vector<TcFilter> found;
  struct if_nameindex* const all = if_nameindex();
  if (all == nullptr) return found;
  for (const struct if_nameindex* each = all; each->if_index != 0; ++each)
    if (const auto filter = filter_at(static_cast<int>(each->if_index), side, handle, name))
      found.push_back(*filter);
  if_freenameindex(all);
  return found;
}

bool remove_filter(int ifindex, TcSide side, uint32_t handle) {
  const bpf_tc_hook hook = hook_at(ifindex, side);
  const bpf_tc_opts options = options_for(handle);
  const int error = bpf_tc_detach(&hook, &options);
  if (error != 0 && error != -ENOENT) {
    errno = -error;
    return false;
  }
  return remove_empty_clsact(ifindex);
}

}  // namespace portico
