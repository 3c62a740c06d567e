// SPDX-License-Identifier: Apache-2.0
// The portal hosts' BPF programs and their maps in the kernel, made from what a configuration says. Nothing
// is attached by it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "bpf/agent_maps.h"
#include "contract/address.h"
#include "contract/run_dir.h"

struct bpf_object;

namespace portico {

// Between the contract's addresses and the maps' keys.
agent_address agent_key(const Address& address);
Address address_of(const agent_address& key);
agent_prefix agent_key(const Prefix& prefix);

// The map of that name which a program uses; not open if there is none. Needs CAP_SYS_ADMIN.
FileHandle map_of_agent(int program_fd, const char* name);

class AgentObject {
 public:
  // What the kernel is asked to compile and check: one way in, and the clamp.
  enum class Ingress { xdp, tc };

  // Loads the programs with maps of their own, filled with `vips`. `counters`: a map to go on counting in, if
  // it is one of the same form; else all begin at 0. nullopt and a text in `failure` if the kernel refuses.
  static std::optional<AgentObject> load(const agent_settings& settings, std::span<const Address> vips,
                                         Ingress ingress, int counters, std::string& failure);

  int ingress_fd() const {
    return program(ingress_ == Ingress::xdp ? AGENT_XDP_PROGRAM : AGENT_INGRESS_PROGRAM);
  }
  int egress_fd() const { return program(AGENT_EGRESS_PROGRAM); }
  int map(const char* name) const;

 private:
  struct Close {
    void operator()(bpf_object* object) const;
  };
  int program(const char* name) const;
  std::unique_ptr<bpf_object, Close> object_;
  Ingress ingress_ = Ingress::xdp;
};

// Makes a map whose values mean nothing hold exactly these addresses, without a moment in which one that
// stays is gone. False and errno on failure.
bool keep_exactly(int map, std::span<const Address> addresses);

}  // namespace portico
