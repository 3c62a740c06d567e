// SPDX-License-Identifier: Apache-2.0
#include "control/addresses.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "control/announce.h"
#include "control/netlink.h"

namespace portico {

namespace {

// Protocol numbers of the kernel's own addresses end at 3; those from 0x80 on are ours.
constexpr uint8_t kFirstProtocol = 0x80;
constexpr uint32_t kProtocols = 0x7f;

// An address as the kernel has it.
struct Installed {
  Address address{};
  uint8_t length = 0;
  int ifindex = 0;
  uint8_t protocol = 0;
};

// FNV-1a: the same in every build, since a later version must know this one's addresses.
uint8_t protocol_of(const std::string& instance) {
  uint32_t hash = 2166136261u;
  for (const char c : instance) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return static_cast<uint8_t>(kFirstProtocol + hash % kProtocols);
}

std::string cannot(const std::string& what, int error) {
  std::string text = "cannot " + what + ": " + std::strerror(error);
  if (error == EPERM) text += " (root or CAP_NET_ADMIN is needed)";
  return text;
}

// All addresses of the host; an errno on failure.
int read_addresses(NetlinkSocket& socket, std::vector<Installed>& result) {
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

// The interface whose connected network contains the address, else the first.
int interface_for(const Address& address, std::span<const int> interfaces, std::span<const Installed> known) {
  for (const Installed& other : known) {
    const bool is_network = other.length < (other.address.is_v4() ? 32 : 128);
    const bool is_asked = std::find(interfaces.begin(), interfaces.end(), other.ifindex) != interfaces.end();
    // Two addresses are in one network if their first bits are the same; host bits do not matter to contains.
    if (is_network && is_asked && Prefix{other.address, other.length}.contains(address)) return other.ifindex;
  }
  return interfaces.front();
}

void put_address(NetlinkRequest& request, const Address& address, int ifindex) {
  auto* part = request.fixed<ifaddrmsg>();
  part->ifa_family = address_family(address);
  part->ifa_prefixlen = address.is_v4() ? 32 : 128;
  part->ifa_index = static_cast<uint32_t>(ifindex);
  part->ifa_scope = RT_SCOPE_UNIVERSE;
  request.put(IFA_LOCAL, address);
  request.put(IFA_ADDRESS, address);
}

int install(NetlinkSocket& socket, const Address& address, int ifindex, uint8_t protocol) {
  NetlinkRequest request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  put_address(request, address, ifindex);
  request.put_u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
  request.put_u8(IFA_PROTO, protocol);
  if (!address.is_v4()) {
    // Deprecated at once: never the source of the balancer's own connections (RFC 6724 rule 3). An IPv4 host
    // address is not chosen while the interface has another.
    const ifa_cacheinfo lifetime{.ifa_prefered = 0, .ifa_valid = 0xffffffff, .cstamp = 0, .tstamp = 0};
    request.put(IFA_CACHEINFO, sizeof lifetime, &lifetime);
  }
  return socket.request(request);
}

int uninstall(NetlinkSocket& socket, const Installed& old) {
  NetlinkRequest request(RTM_DELADDR, 0);
  put_address(request, old.address, old.ifindex);
  const int error = socket.request(request);
  // It or its interface has gone by itself.
  return error == EADDRNOTAVAIL || error == ENODEV ? 0 : error;
}

}  // namespace

Addresses::Addresses(const std::string& instance) : protocol_(protocol_of(instance)) {}

Addresses::Failure Addresses::apply(std::span<const Address> desired,
                                    std::span<const std::string> interfaces) {
  auto socket = NetlinkSocket::open(0);
  if (!socket) return cannot("open a netlink socket", errno);
  Failure first;
  const auto note = [&](std::string text) {
    if (!first) first = std::move(text);
  };

  std::vector<int> ports;
  for (const std::string& name : interfaces) {
    const auto ifindex = static_cast<int>(if_nametoindex(name.c_str()));
    if (ifindex != 0) ports.push_back(ifindex);
    if (ifindex == 0) note("there is no interface '" + name + "' for VIP and NAT addresses: see 'ip link'");
  }
  std::vector<Installed> known;
  if (const int error = read_addresses(*socket, known); error != 0) return cannot("read addresses", error);

  std::set<Address> missing(desired.begin(), desired.end());
  const std::set<Address> wanted = missing;
  for (const Installed& old : known) {
    missing.erase(old.address);
    if (old.protocol != protocol_ || wanted.contains(old.address)) continue;
    if (const int error = uninstall(*socket, old); error != 0)
      note(cannot("remove the address " + to_string(old.address), error));
  }
  for (const Address& address : missing) {
    if (ports.empty()) {
      note("no interface to install " + to_string(address) + " on: name the ports of 'dataplane' that exist");
      break;
    }
    const int ifindex = interface_for(address, ports, known);
    const int error = install(*socket, address, ifindex, protocol_);
    if (error != 0 && error != EEXIST) note(cannot("install the address " + to_string(address), error));
    // Without carrier nobody hears it, and then nobody has an old entry to mend, either.
    if (error == 0) announce(address, ifindex);
  }
  return first;
}

Addresses::Failure Addresses::remove_all() {
  return apply({}, {});
}

std::vector<Address> Addresses::installed() const {
  std::vector<Address> result;
  auto socket = NetlinkSocket::open(0);
  std::vector<Installed> known;
  if (!socket || read_addresses(*socket, known) != 0) return result;
  for (const Installed& one : known) {
    if (one.protocol == protocol_) result.push_back(one.address);
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace portico
