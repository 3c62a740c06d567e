// SPDX-License-Identifier: Apache-2.0
// How the other portals are reached: asked of the kernel's routes and neighbours again and again, and written
// where the program in the kernel looks.
#pragma once

#include <linux/rtnetlink.h>

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bpf/agent_maps.h"
#include "contract/address.h"
#include "control/netlink.h"

namespace portico {

class Peers {
 public:
  // `attached`: index of the interface at which tunnel packets arrive.
  Peers(NetlinkSocket& socket, int attached) : socket_(socket), attached_(attached) {}

  // Takes over what another program's map knows of these, so that a new one need not wait for answers.
  void remember(int map, std::span<const Address> peers);
  // Asks the kernel about each, makes it find out what it does not know or has not confirmed for long, and
  // brings the map up to date. A MAC that was known is kept until there is another. Own addresses (`locals`)
  // are left out.
  void refresh(int map, std::span<const Address> peers, std::span<const Address> locals);

  // Those of the last refresh without a MAC.
  const std::vector<Address>& unresolved() const { return unresolved_; }

 private:
  struct Link {
    std::optional<std::array<uint8_t, 6>> mac;
    int vlan_on = 0;  // of a VLAN device: the interface below
    uint16_t vlan = 0;
  };
  struct Way {
    int ifindex = 0;
    Address neighbour{};
  };
  std::optional<Way> way_to(const Address& peer);
  const Link& link(int ifindex);
  void read_neighbours();
  void probe(const Way& way);
  std::optional<agent_hop> hop_to(const Address& peer);

  NetlinkSocket& socket_;
  int attached_;
  std::map<int, Link> links_;
  struct Known {
    uint16_t state = 0;  // NUD_*
    std::array<uint8_t, 6> mac{};
  };
  std::map<std::pair<int, Address>, Known> neighbours_;
  std::map<Address, agent_hop> installed_;
  std::vector<Address> unresolved_;
};

}  // namespace portico
