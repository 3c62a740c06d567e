// SPDX-License-Identifier: Apache-2.0
#include "agent/object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <utility>
#include <vector>

#include "bpf/agent_object.h"

namespace portico {

namespace {

// More maps than a program of ours has.
constexpr uint32_t kMaxMaps = 32;

// libbpf's complaints, the verifier's among them, while an object is loaded. It asks for a function without
// an argument of ours.
std::string* complaints = nullptr;

int collect(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG || complaints == nullptr) return 0;
  va_list again;
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, arguments);
  std::string line(size > 0 ? static_cast<size_t>(size) + 1 : 1, '\0');
  std::vsnprintf(line.data(), line.size(), format, again);
  va_end(again);
  line.pop_back();
  complaints->append(line);
  return size;
}

// The kernel's reason stands at the end.
std::string refusal(const std::string& text) {
  constexpr size_t kEnough = 2500;
  const std::string end = text.size() > kEnough ? "..." + text.substr(text.size() - kEnough) : text;
  return "the kernel refuses the program (Linux 5.18 or later, CAP_BPF and CAP_NET_ADMIN are needed): " + end;
}

// Whether a map can take the place of the object's own counters.
bool is_fit(int map) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return map >= 0 && bpf_obj_get_info_by_fd(map, &info, &size) == 0 &&
         info.type == BPF_MAP_TYPE_PERCPU_ARRAY && info.max_entries == AGENT_COUNTERS &&
         info.value_size == sizeof(uint64_t);
}

void choose_programs(bpf_object* object, AgentObject::Ingress ingress) {
  const char* const other = ingress == AgentObject::Ingress::xdp ? AGENT_INGRESS_PROGRAM : AGENT_XDP_PROGRAM;
  bpf_program__set_autoload(bpf_object__find_program_by_name(object, other), false);
}

}  // namespace

agent_address agent_key(const Address& address) {
  agent_address key{};
  std::memcpy(&key, address.bytes.data(), sizeof key);
  return key;
}

Address address_of(const agent_address& key) {
  return Address::from_v6(&key);
}

agent_prefix agent_key(const Prefix& prefix) {
  Address mask{};
  const unsigned bits = prefix.length + (prefix.address.is_v4() ? 96u : 0u);
  for (unsigned i = 0; i < bits; ++i) mask.bytes[i / 8] |= static_cast<uint8_t>(0x80 >> i % 8);
  return {agent_key(prefix.address), agent_key(mask)};
}

FileHandle map_of_agent(int program_fd, const char* name) {
  std::array<uint32_t, kMaxMaps> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(program_fd, &info, &size) != 0) return {};
  for (uint32_t i = 0; i < std::min<uint32_t>(info.nr_map_ids, ids.size()); ++i) {
    FileHandle map(bpf_map_get_fd_by_id(ids[i]));
    bpf_map_info map_info{};
    uint32_t map_size = sizeof map_info;
    if (map.is_open() && bpf_obj_get_info_by_fd(map.fd(), &map_info, &map_size) == 0 &&
        std::strncmp(map_info.name, name, sizeof map_info.name - 1) == 0)
      return map;
  }
  return {};
}

void AgentObject::Close::operator()(bpf_object* object) const {
  bpf_object__close(object);
}

std::optional<AgentObject> AgentObject::load(const agent_settings& settings, std::span<const Address> vips,
                                             Ingress ingress, int counters, std::string& failure) {
  std::string said;
  complaints = &said;
  libbpf_set_print(collect);
  AgentObject result;
  result.ingress_ = ingress;
  result.object_.reset(bpf_object__open_mem(kAgentObject, kAgentObjectSize, nullptr));
  bpf_object* const object = result.object_.get();
  bool is_loaded = false;
  if (object != nullptr) {
    choose_programs(object, ingress);
    bpf_map* const constants = bpf_object__find_map_by_name(object, AGENT_SETTINGS_MAP);
    bpf_map* const counted = bpf_object__find_map_by_name(object, AGENT_COUNTERS_MAP);
    is_loaded = bpf_map__set_initial_value(constants, &settings, sizeof settings) == 0 &&
                (!is_fit(counters) || bpf_map__reuse_fd(counted, counters) == 0) &&
                bpf_object__load(object) == 0;
  }
  complaints = nullptr;
  if (!is_loaded) {
    failure = refusal(said.empty() ? std::strerror(errno) : said);
    return std::nullopt;
  }
  if (!keep_exactly(result.map(AGENT_VIPS_MAP), vips)) {
    failure = std::string("cannot write down the VIPs: ") + std::strerror(errno);
    return std::nullopt;
  }
  return result;
}

int AgentObject::program(const char* name) const {
  return bpf_program__fd(bpf_object__find_program_by_name(object_.get(), name));
}

int AgentObject::map(const char* name) const {
  return bpf_object__find_map_fd_by_name(object_.get(), name);
}

bool keep_exactly(int map, std::span<const Address> addresses) {
  const uint8_t nothing = 1;
  for (const Address& address : addresses) {
    const agent_address key = agent_key(address);
    if (bpf_map_update_elem(map, &key, &nothing, BPF_ANY) != 0) return false;
  }
  std::vector<agent_address> stale;
  agent_address key{};
  for (const agent_address* last = nullptr; bpf_map_get_next_key(map, last, &key) == 0; last = &key)
    if (std::ranges::find(addresses, address_of(key)) == addresses.end()) stale.push_back(key);
  return std::ranges::all_of(stale, [&](const agent_address& each) {
    return bpf_map_delete_elem(map, &each) == 0 || errno == ENOENT;
  });
}

}  // namespace portico
