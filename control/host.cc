// SPDX-License-Identifier: Apache-2.0
#include "control/host.h"

#include <linux/ethtool.h>
#include <linux/if_addr.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "contract/run_dir.h"

namespace portico {

InterfaceFacts interface_facts(const std::string& interface) {
  InterfaceFacts facts;
  ifreq ask{};
  if (interface.size() >= sizeof ask.ifr_name) return facts;
  const FileHandle handle(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto answers = [&](unsigned long request) {
    std::memcpy(ask.ifr_name, interface.c_str(), interface.size() + 1);
    return handle.is_open() && ioctl(handle.fd(), request, &ask) == 0;
  };
  facts.exists = answers(SIOCGIFFLAGS);
  facts.is_loopback = facts.exists && (ask.ifr_flags & IFF_LOOPBACK) != 0;
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ask = {};
  ask.ifr_data = reinterpret_cast<char*>(&channels);
  if (facts.exists && answers(SIOCETHTOOL)) facts.rx_queues = channels.rx_count + channels.combined_count;
  return facts;
}

std::string interface_name(int ifindex) {
  char name[IF_NAMESIZE] = "";
  return if_indextoname(static_cast<unsigned>(ifindex), name) != nullptr ? name : "";
}

bool tells_address_protocol(std::span<const HostAddress> addresses, std::string_view release) {
  constexpr std::pair kFirst{5u, 18u};
  std::pair version{0u, 0u};
  const char* end = release.data() + release.size();
  const auto major = std::from_chars(release.data(), end, version.first);
  if (major.ptr != end && *major.ptr == '.') std::from_chars(major.ptr + 1, end, version.second);
  return version >= kFirst || std::any_of(addresses.begin(), addresses.end(),
                                          [](const HostAddress& one) { return one.protocol != 0; });
}

int read_host_addresses(NetlinkSocket& socket, std::vector<HostAddress>& result) {
  NetlinkRequest request(RTM_GETADDR, NLM_F_DUMP);
  request.fixed<ifaddrmsg>()->ifa_family = AF_UNSPEC;
  return socket.request(request, [&](const nlmsghdr* message) {
    const auto* part = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
    const auto fields = attributes<IFA_PROTO + 1>(message, sizeof *part);
    // IFA_LOCAL is this end of a point-to-point link, where IFA_ADDRESS is the other.
    auto address = attribute_address(fields[IFA_LOCAL]);
    if (!address) address = attribute_address(fields[IFA_ADDRESS]);
    if (!address) return;
    const nlattr* protocol = fields[IFA_PROTO];
    result.push_back({*address, part->ifa_prefixlen, static_cast<int>(part->ifa_index),
                      protocol == nullptr ? uint8_t{0} : mnl_attr_get_u8(protocol)});
  });
}

}  // namespace portico
