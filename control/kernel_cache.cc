// SPDX-License-Identifier: Apache-2.0
#include "control/kernel_cache.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "control/netlink.h"

namespace portico {

namespace {

// States in which the kernel itself would send to the MAC.
constexpr uint16_t kValidStates =
    NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;
// <net/if.h> does not have it: carrier is there.
constexpr uint32_t kLowerUp = 1 << 16;

std::optional<MacAddress> mac_of(const nlattr* attribute) {
  MacAddress mac;
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != mac.size()) return std::nullopt;
  std::memcpy(mac.data(), mnl_attr_get_payload(attribute), mac.size());
  return mac;
}

// What a VLAN device does to the frames that pass it.
struct Tagging {
  bool is_dot1q = false;
  uint16_t vlan = 0;
};

// nullopt: the link is no VLAN device.
std::optional<Tagging> tagging_of(const nlattr* link_info) {
  if (link_info == nullptr) return std::nullopt;
  const auto info = nested_attributes<IFLA_INFO_DATA + 1>(link_info);
  if (info[IFLA_INFO_KIND] == nullptr || info[IFLA_INFO_DATA] == nullptr) return std::nullopt;
  if (std::string_view(mnl_attr_get_str(info[IFLA_INFO_KIND])) != "vlan") return std::nullopt;
  const auto data = nested_attributes<IFLA_VLAN_PROTOCOL + 1>(info[IFLA_INFO_DATA]);
  const nlattr *id = data[IFLA_VLAN_ID], *protocol = data[IFLA_VLAN_PROTOCOL];
  if (id == nullptr) return std::nullopt;
  return Tagging{protocol == nullptr || ntohs(mnl_attr_get_u16(protocol)) == ETH_P_8021Q,
                 mnl_attr_get_u16(id)};
}

Link link_of(const nlmsghdr* message) {
  const auto* part = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  const auto fields = attributes<IFLA_LINK_NETNSID + 1>(message, sizeof *part);
  Link link;
  link.ifindex = part->ifi_index;
  if (fields[IFLA_IFNAME] != nullptr) link.name = mnl_attr_get_str(fields[IFLA_IFNAME]);
  link.mac = mac_of(fields[IFLA_ADDRESS]).value_or(MacAddress{});
  link.mtu = attribute_u32(fields[IFLA_MTU]);
  link.up = (part->ifi_flags & IFF_UP) != 0 && (part->ifi_flags & kLowerUp) != 0;
  const auto tagging = tagging_of(fields[IFLA_LINKINFO]);
  if (!tagging) return link;
  if (tagging->is_dot1q) link.vlan = tagging->vlan;
  // The link below may be in another namespace: then its number means nothing here.
  if (fields[IFLA_LINK_NETNSID] == nullptr)
    (tagging->is_dot1q ? link.lower : link.other_tags_on) =
        static_cast<int>(attribute_u32(fields[IFLA_LINK]));
  return link;
}

// RTA_GATEWAY, or RTA_VIA for a gateway of the other family (struct rtvia: family, then the address).
template <size_t kCount>
std::optional<Address> gateway_of(const Attributes<kCount>& fields) {
  if (auto gateway = attribute_address(fields[RTA_GATEWAY])) return gateway;
  const nlattr* via = fields[RTA_VIA];
  if (via == nullptr) return std::nullopt;
  const auto* part = static_cast<const rtvia*>(mnl_attr_get_payload(via));
  if (mnl_attr_get_payload_len(via) == sizeof(rtvia) + 16) return Address::from_v6(part->rtvia_addr);
  return std::nullopt;
}

bool is_usable(uint32_t flags) {
  return (flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) == 0;
}

std::vector<RouteHop> hops_of(const rtmsg* part, const Attributes<RTA_MAX + 1>& fields) {
  std::vector<RouteHop> hops;
  const nlattr* multipath = fields[RTA_MULTIPATH];
  if (multipath == nullptr) {
    if (fields[RTA_OIF] != nullptr)
      hops.push_back(
          {static_cast<int>(attribute_u32(fields[RTA_OIF])), gateway_of(fields), is_usable(part->rtm_flags)});
    return hops;
  }
  const auto* hop = static_cast<const rtnexthop*>(mnl_attr_get_payload(multipath));
  for (int left = mnl_attr_get_payload_len(multipath); RTNH_OK(hop, left);) {
    const auto own = attributes_in<RTA_MAX + 1>(hop + 1, hop->rtnh_len - sizeof *hop);
    hops.push_back({hop->rtnh_ifindex, gateway_of(own), is_usable(hop->rtnh_flags)});
    left -= static_cast<int>(RTNH_ALIGN(hop->rtnh_len));
    hop = RTNH_NEXT(hop);
  }
  return hops;
}

// The field of the header holds table numbers below 256 only.
template <size_t kCount>
uint32_t table_of(const rtmsg* part, const Attributes<kCount>& fields) {
  return fields[RTA_TABLE] != nullptr ? attribute_u32(fields[RTA_TABLE]) : part->rtm_table;
}

Address any_address(uint8_t family) {
  return family == AF_INET ? Address::from_v4(0) : Address{};
}

}  // namespace

bool KernelCache::take_link(const nlmsghdr* message) {
  const auto* part = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  // Bridges tell of their ports in messages of their own family.
  if (part->ifi_family != AF_UNSPEC) return false;
  if (message->nlmsg_type == RTM_DELLINK) {
    std::erase_if(neighbours, [&](const auto& entry) { return entry.first.ifindex == part->ifi_index; });
    up_since.erase(part->ifi_index);
    return links.erase(part->ifi_index) != 0;
  }
  Link link = link_of(message);
  Link& known = links[part->ifi_index];
  const bool changed = link != known;
  if (link.up)
    up_since.try_emplace(part->ifi_index, std::chrono::steady_clock::now());
  else
    up_since.erase(part->ifi_index);
  known = std::move(link);
  return changed;
}

bool KernelCache::take_neighbour(const nlmsghdr* message) {
  const auto* part = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(message));
  if (part->ndm_family != AF_INET && part->ndm_family != AF_INET6) return false;
  const auto fields = attributes<NDA_LLADDR + 1>(message, sizeof *part);
  const auto address = attribute_address(fields[NDA_DST]);
  if (!address || (part->ndm_flags & NTF_PROXY) != 0) return false;

  const NeighbourKey key{part->ndm_ifindex, *address};
  const auto mac = mac_of(fields[NDA_LLADDR]);
  const bool is_gone = message->nlmsg_type == RTM_DELNEIGH;
  if (!is_gone && (part->ndm_state & kValidStates) != 0 && mac) {
    Neighbour& neighbour = neighbours[key];
    const bool changed = neighbour.mac != mac;
    neighbour = {part->ndm_state, mac, std::nullopt};
    return changed;
  }
  const auto known = neighbours.find(key);
  if (known == neighbours.end()) {
    if (!is_gone) neighbours[key].state = part->ndm_state;
    return false;
  }
  lose(known->second, is_gone ? uint16_t{NUD_NONE} : part->ndm_state);
  if (is_gone && !known->second.mac) neighbours.erase(known);
  return false;  // the last MAC stays in use for a while
}

void KernelCache::lose(Neighbour& neighbour, uint16_t state) {
  neighbour.state = state;
  if (neighbour.mac && !neighbour.failed_since) neighbour.failed_since = std::chrono::steady_clock::now();
}

void take_own(const nlmsghdr* message, std::set<Address>& own) {
  const auto* part = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  if (message->nlmsg_type != RTM_NEWROUTE || part->rtm_type != RTN_LOCAL) return;
  if (part->rtm_dst_len != (part->rtm_family == AF_INET ? 32 : 128)) return;
  const auto fields = attributes<RTA_MAX + 1>(message, sizeof *part);
  if (table_of(part, fields) != RT_TABLE_LOCAL) return;
  const auto address = attribute_address(fields[RTA_DST]);
  static const Prefix kLoopbackV4 = *Prefix::parse("127.0.0.0/8"), kLoopbackV6 = *Prefix::parse("::1/128");
  if (address && !kLoopbackV4.contains(*address) && !kLoopbackV6.contains(*address)) own.insert(*address);
}

void take_route(const nlmsghdr* message, RoutesByPrefix& routes) {
  const auto* part = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  if (message->nlmsg_type != RTM_NEWROUTE || (part->rtm_flags & RTM_F_CLONED) != 0) return;
  if (part->rtm_family != AF_INET && part->rtm_family != AF_INET6) return;
  const auto fields = attributes<RTA_MAX + 1>(message, sizeof *part);
  if (table_of(part, fields) != RT_TABLE_MAIN) return;

  KernelRoute route;
  switch (part->rtm_type) {
    case RTN_UNICAST:
      route.hops = hops_of(part, fields);
      break;
    case RTN_BLACKHOLE:
    case RTN_UNREACHABLE:
    case RTN_PROHIBIT:
    case RTN_THROW:
      route.forbids = true;
      break;
    default:
      return;  // local, broadcast, multicast: no way out
  }
  route.metric = attribute_u32(fields[RTA_PRIORITY]);
  if (fields[RTA_METRICS] != nullptr)
    route.mtu = attribute_u32(nested_attributes<RTAX_MTU + 1>(fields[RTA_METRICS])[RTAX_MTU]);
  const Prefix prefix{attribute_address(fields[RTA_DST]).value_or(any_address(part->rtm_family)),
                      part->rtm_dst_len};
  auto& alternatives = routes[prefix];
  const auto place = std::upper_bound(alternatives.begin(), alternatives.end(), route,
                                      [](const auto& a, const auto& b) { return a.metric < b.metric; });
  alternatives.insert(place, std::move(route));
}

}  // namespace portico
