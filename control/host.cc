// SPDX-License-Identifier: Apache-2.0
#include "control/host.h"

#include <linux/if_addr.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace portico {

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
