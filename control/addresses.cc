// SPDX-License-Identifier: Apache-2.0
#include "control/addresses.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "control/announce.h"
#include "control/host.h"
#include "control/netlink.h"

namespace portico {

namespace {

// FNV-1a: the same in every build, since a later version must know this one's addresses.
uint8_t protocol_of(const std::string& instance) {
  uint32_t hash = 2166136261u;
  for (const char c : instance) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return static_cast<uint8_t>(kFirstAddressProtocol + hash % kAddressProtocols);
}

std::string cannot(const std::string& what, int error) {
  std::string text = "cannot " + what + ": " + std::strerror(error);
  if (error == EPERM) text += " (root or CAP_NET_ADMIN is needed)";
  return text;
}

// The interfaces with the longest connected network that contains the address, in the order of `interfaces`.
std::vector<int> homes_of(const Address& address, std::span<const int> interfaces,
                          std::span<const HostAddress> known) {
  std::vector<int> homes;
  int longest = -1;
  for (const int ifindex : interfaces) {
    for (const HostAddress& other : known) {
      const bool is_network = other.length < (other.address.is_v4() ? 32 : 128);
      // Two addresses are in one network if their first bits are the same; host bits do not matter to
      // contains.
      if (other.ifindex != ifindex || !is_network || other.length < longest ||
          !Prefix{other.address, other.length}.contains(address))
        continue;
      if (other.length > longest) homes.clear();
      longest = other.length;
      if (homes.empty() || homes.back() != ifindex) homes.push_back(ifindex);
    }
  }
  return homes;
}

// The first of `preferred` that is a candidate, else the first candidate: nothing moves without need.
int choose(std::span<const int> candidates, std::span<const int> preferred) {
  for (const int ifindex : preferred)
    if (std::find(candidates.begin(), candidates.end(), ifindex) != candidates.end()) return ifindex;
  return candidates.front();
}

std::string name_of(int ifindex) {
  const std::string name = interface_name(ifindex);
  return name.empty() ? "an interface that is gone" : name;
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

int uninstall(NetlinkSocket& socket, const HostAddress& old) {
  NetlinkRequest request(RTM_DELADDR, 0);
  put_address(request, old.address, old.ifindex);
  const int error = socket.request(request);
  // It or its interface has gone by itself.
  return error == EADDRNOTAVAIL || error == ENODEV ? 0 : error;
}

}  // namespace

Addresses::Addresses(const std::string& instance) : protocol_(protocol_of(instance)) {}

// One apply(): the kernel's state, and what came of it so far.
struct Addresses::Run {
  NetlinkSocket& socket;
  std::vector<int> ports;
  std::map<Address, int> before;  // Addresses::placed_ of the last time
  std::vector<HostAddress> known;
  Failure first;

  void note(std::string text) {
    if (!first) first = std::move(text);
  }
  void remove(const HostAddress& old) {
    if (const int error = uninstall(socket, old); error != 0)
      note(cannot("remove the address " + to_string(old.address), error));
  }
};

void Addresses::place(Run& run, const Address& address) {
  std::vector<HostAddress> ours;
  std::vector<int> preferred;
  bool is_others = false;
  for (const HostAddress& one : run.known) {
    if (one.address != address) continue;
    is_others |= one.protocol != protocol_;
    if (one.protocol != protocol_) continue;
    ours.push_back(one);
    preferred.push_back(one.ifindex);
  }
  if (is_others && ours.empty()) return;
  // An IPv6 interface that was down for a moment has lost its own address, too: ours waits there for it.
  if (const auto last = run.before.find(address); last != run.before.end()) preferred.push_back(last->second);
  const auto homes = homes_of(address, run.ports, run.known);
  if (homes.empty()) unconnected_.push_back(address);
  const int ifindex = choose(homes.empty() ? run.ports : homes, preferred);
  const bool is_there = std::any_of(ours.begin(), ours.end(), [&](auto& o) { return o.ifindex == ifindex; });
  if (!is_there) {
    const int error = install(run.socket, address, ifindex, protocol_);
    if (error != 0 && error != EEXIST)
      return run.note(cannot("install the address " + to_string(address), error));
  }
  placed_[address] = ifindex;
  for (const HostAddress& old : ours)
    if (old.ifindex != ifindex) run.remove(old);
  // Without carrier nobody hears it, and then nobody has an old entry to mend, either.
  if (!is_there) announce(address, ifindex);
  if (!is_there && ours.empty() && run.before.contains(address))
    mended_.push_back("put back the address " + to_string(address) + ", which had vanished, on " +
                      name_of(ifindex));
  if (!is_there && !ours.empty())
    mended_.push_back("moved the address " + to_string(address) + " from " + name_of(ours.front().ifindex) +
                      " to " + name_of(ifindex) + ", where it belongs");
}

Addresses::Failure Addresses::apply(std::span<const Address> desired, std::span<const std::string> interfaces,
                                    std::span<const std::string> vlan_devices) {
  mended_.clear();
  unconnected_.clear();
  auto socket = NetlinkSocket::open(0);
  if (!socket) return cannot("open a netlink socket", errno);
  Run run{*socket, {}, std::exchange(placed_, {}), {}, {}};
  for (const std::string& name : interfaces) {
    const auto ifindex = static_cast<int>(if_nametoindex(name.c_str()));
    if (ifindex != 0) run.ports.push_back(ifindex);
    if (ifindex == 0)
      run.note("there is no interface '" + name + "' for VIP and NAT addresses: see 'ip link'");
  }
  for (const std::string& name : vlan_devices)
    if (const unsigned ifindex = if_nametoindex(name.c_str()); ifindex != 0)
      run.ports.push_back(static_cast<int>(ifindex));
  if (const int error = read_host_addresses(*socket, run.known); error != 0)
    return cannot("read addresses", error);

  const std::set<Address> wanted(desired.begin(), desired.end());
  for (const HostAddress& old : run.known)
    if (old.protocol == protocol_ && !wanted.contains(old.address)) run.remove(old);
  if (run.ports.empty() && !wanted.empty())
    run.note("no interface to install " + to_string(*wanted.begin()) +
             " on: name the ports of 'dataplane' that exist");
  if (run.ports.empty()) return run.first;
  for (const Address& address : wanted) place(run, address);
  return run.first;
}

Addresses::Failure Addresses::remove_all() {
  return apply({}, {});
}

std::vector<Address> Addresses::installed() const {
  std::vector<Address> result;
  auto socket = NetlinkSocket::open(0);
  std::vector<HostAddress> known;
  if (!socket || read_host_addresses(*socket, known) != 0) return result;
  for (const HostAddress& one : known) {
    if (one.protocol == protocol_) result.push_back(one.address);
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace portico
