// SPDX-License-Identifier: Apache-2.0
#include "agent/peers.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>

#include <algorithm>
#include <cstring>

#include "agent/object.h"

namespace portico {

namespace {

// States in which the kernel has a MAC that it would use, and those in which it need not be asked to confirm
// it.
constexpr uint16_t kHasMac = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
constexpr uint16_t kNeedsNoProbe =
    NUD_REACHABLE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP | NUD_INCOMPLETE;

std::optional<std::array<uint8_t, 6>> mac_of(const nlattr* attribute) {
  std::array<uint8_t, 6> mac{};
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != mac.size()) return std::nullopt;
  std::memcpy(mac.data(), mnl_attr_get_payload(attribute), mac.size());
  return mac;
}

bool same(const agent_hop& a, const agent_hop& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace

void Peers::remember(int map, std::span<const Address> peers) {
  for (const Address& peer : peers) {
    const agent_address key = agent_key(peer);
    agent_hop hop{};
    if (bpf_map_lookup_elem(map, &key, &hop) == 0 && hop.ifindex != 0) installed_[peer] = hop;
  }
}

std::optional<Peers::Way> Peers::way_to(const Address& peer) {
  NetlinkRequest request(RTM_GETROUTE, 0);
  auto* part = request.fixed<rtmsg>();
  part->rtm_family = address_family(peer);
  part->rtm_dst_len = peer.is_v4() ? 32 : 128;
  request.put(RTA_DST, peer);
  std::optional<Way> way;
  socket_.request(request, [&](const nlmsghdr* message) {
    const auto* route = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
    if (message->nlmsg_type != RTM_NEWROUTE || route->rtm_type != RTN_UNICAST) return;
    const auto fields = attributes<RTA_MAX + 1>(message, sizeof *route);
    way = Way{static_cast<int>(attribute_u32(fields[RTA_OIF])),
              attribute_address(fields[RTA_GATEWAY]).value_or(peer)};
  });
  return way;
}

const Peers::Link& Peers::link(int ifindex) {
  if (const auto found = links_.find(ifindex); found != links_.end()) return found->second;
  Link& link = links_[ifindex];
  NetlinkRequest request(RTM_GETLINK, 0);
  request.fixed<ifinfomsg>()->ifi_index = ifindex;
  socket_.request(request, [&](const nlmsghdr* message) {
    const auto fields = attributes<IFLA_MAX + 1>(message, sizeof(ifinfomsg));
    link.mac = mac_of(fields[IFLA_ADDRESS]);
    if (fields[IFLA_LINKINFO] == nullptr) return;
    const auto info = nested_attributes<IFLA_INFO_MAX + 1>(fields[IFLA_LINKINFO]);
    if (info[IFLA_INFO_KIND] == nullptr || info[IFLA_INFO_DATA] == nullptr) return;
    if (std::strcmp(mnl_attr_get_str(info[IFLA_INFO_KIND]), "vlan") != 0) return;
    const auto vlan = nested_attributes<IFLA_VLAN_MAX + 1>(info[IFLA_INFO_DATA]);
    if (vlan[IFLA_VLAN_ID] == nullptr) return;
    link.vlan = mnl_attr_get_u16(vlan[IFLA_VLAN_ID]);
    link.vlan_on = static_cast<int>(attribute_u32(fields[IFLA_LINK]));
  });
  return link;
}

void Peers::read_neighbours() {
  neighbours_.clear();
  for (const uint8_t family : std::initializer_list<uint8_t>{AF_INET, AF_INET6}) {
    NetlinkRequest request(RTM_GETNEIGH, NLM_F_DUMP);
    request.fixed<ndmsg>()->ndm_family = family;
    socket_.request(request, [&](const nlmsghdr* message) {
      const auto* part = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(message));
      const auto fields = attributes<NDA_MAX + 1>(message, sizeof *part);
      const auto address = attribute_address(fields[NDA_DST]);
      if (!address) return;
      Known& known = neighbours_[{part->ndm_ifindex, *address}];
      known.state = part->ndm_state;
      if (const auto mac = mac_of(fields[NDA_LLADDR])) known.mac = *mac;
    });
  }
}

// As if the kernel had a packet to send there.
void Peers::probe(const Way& way) {
  NetlinkRequest request(RTM_NEWNEIGH, NLM_F_CREATE);
  auto* part = request.fixed<ndmsg>();
  part->ndm_family = address_family(way.neighbour);
  part->ndm_ifindex = way.ifindex;
  part->ndm_flags = NTF_USE;
  request.put(NDA_DST, way.neighbour);
  socket_.request(request);
}

std::optional<agent_hop> Peers::hop_to(const Address& peer) {
  const auto way = way_to(peer);
  if (!way) return std::nullopt;
  const auto known = neighbours_.find({way->ifindex, way->neighbour});
  const uint16_t state = known == neighbours_.end() ? uint16_t{NUD_NONE} : known->second.state;
  if ((state & kNeedsNoProbe) == 0) probe(*way);
  const Link& out = link(way->ifindex);
  if ((state & kHasMac) == 0 || !out.mac) return std::nullopt;
  agent_hop hop{};
  // The program writes tags itself where it stands below the VLAN device.
  const bool is_tagged = out.vlan != 0 && out.vlan_on == attached_;
  hop.ifindex = static_cast<uint32_t>(is_tagged ? attached_ : way->ifindex);
  hop.vlan = is_tagged ? htons(out.vlan) : uint16_t{0};
  std::ranges::copy(known->second.mac, hop.to);
  std::ranges::copy(*out.mac, hop.from);
  return hop;
}

void Peers::refresh(int map, std::span<const Address> peers, std::span<const Address> locals) {
  links_.clear();
  unresolved_.clear();
  read_neighbours();
  for (const Address& peer : peers) {
    if (std::ranges::find(locals, peer) != locals.end()) continue;
    const auto fresh = hop_to(peer);
    const auto last = installed_.find(peer);
    const agent_hop hop = fresh ? *fresh : last != installed_.end() ? last->second : agent_hop{};
    if (hop.ifindex == 0) unresolved_.push_back(peer);
    const agent_address key = agent_key(peer);
    agent_hop there{};
    if (bpf_map_lookup_elem(map, &key, &there) != 0 || !same(there, hop))
      bpf_map_update_elem(map, &key, &hop, BPF_ANY);
    installed_[peer] = hop;
  }
  for (auto it = installed_.begin(); it != installed_.end();) {
    const bool stays = std::ranges::find(peers, it->first) != peers.end() &&
                       std::ranges::find(locals, it->first) == locals.end();
    const agent_address key = agent_key(it->first);
    if (!stays) bpf_map_delete_elem(map, &key);
    it = stays ? std::next(it) : installed_.erase(it);
  }
}

}  // namespace portico
