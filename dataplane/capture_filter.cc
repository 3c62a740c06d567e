// SPDX-License-Identifier: Apache-2.0
#include "dataplane/capture_filter.h"

#include <net/ethernet.h>

#include <array>

#include "dataplane/core.h"
#include "dataplane/parameters.h"
#include "dataplane/parse.h"

namespace portico {

namespace {

constexpr uint32_t kVlanTag = 4, kIcmpHeader = 8, kUdpHeader = 8;
constexpr size_t kTokenSize = 16;
// A packet in a tunnel in an ICMP error is the deepest that makes sense.
constexpr int kMostLayers = 3;

bool has_ports(const IpParts& parts, uint32_t size) {
  return parts.kind == Kind::tcp || (parts.protocol == IPPROTO_TCP && parts.l4_offset + 4 <= size);
}

// A connection as a packet shows it. Ports in network byte order.
template <typename F>
struct Ends {
  typename F::Ip from, to;
  uint16_t from_port, to_port;

  Ends reversed() const { return {to, from, to_port, from_port}; }
};

template <typename F>
class Match {
 public:
  Match(const WorkerCore& core, const Table& table, const CaptureFilter& filter)
      : core_(core), table_(table), filter_(filter) {}

  bool operator()(const Ends<F>& ends) const {
    return of_client(ends) || of_client(ends.reversed()) || of_nat(ends) || of_nat(ends.reversed());
  }

 private:
  bool is_meant(uint16_t service, const typename F::Ip& client, uint16_t port) const {
    return (filter_.service == kNone || filter_.service == service) &&
           (filter_.client.is_none() || filter_.client == F::address(client)) &&
           (filter_.client_port == 0 || htons(filter_.client_port) == port);
  }
  // From a client to a service.
  bool of_client(const Ends<F>& ends) const {
    const uint16_t service = table_.find_service(ends.to, ends.to_port);
    return service != kNone && is_meant(service, ends.from, ends.from_port);
  }
  // From a backend to a NAT address.
  bool of_nat(const Ends<F>& ends) const {
    const auto* const flows = core_.set<F>().nat.load(std::memory_order_acquire);
    if (flows == nullptr) return false;
    const uint64_t hash = F::hash(core_.flow_key, ends.from, ends.from_port, ends.to, ends.to_port);
    const uint32_t reference = flows->find(hash, 0, [&](const auto& e) {
      return e.is_from_backend(ends.from, ends.from_port, ends.to, ends.to_port);
    });
    if (reference == 0) return false;
    const auto& entry = (*flows)[reference];
    return is_meant(entry.service, entry.client, entry.client_port);
  }

  const WorkerCore& core_;
  const Table& table_;
  const CaptureFilter& filter_;
};

// The packet that an ICMP error or a tunnel has in it; empty: none.
std::span<const uint8_t> inside(const Table& table, const IpParts& parts, std::span<const uint8_t> ip) {
  if (parts.kind == Kind::malformed || parts.l4_offset >= ip.size()) return {};
  const auto payload = ip.subspan(parts.l4_offset);
  if (parts.kind == Kind::icmp_error)
    return payload.size() > kIcmpHeader ? payload.subspan(kIcmpHeader) : payload.first(0);
  if (parts.protocol == IPPROTO_IPIP || parts.protocol == IPPROTO_IPV6) return payload;
  if (parts.protocol != IPPROTO_UDP || payload.size() <= kUdpHeader + kVlanTag) return {};
  if (load<uint16_t>(payload.data() + 2) != htons(table.settings().gue_port)) return {};
  // The lowest five bits of GUE's first byte: its length beyond 4 bytes, in words.
  const size_t gue = 4 + 4 * size_t{static_cast<uint8_t>(payload[kUdpHeader] & 0x1f)};
  return payload.size() > kUdpHeader + gue ? payload.subspan(kUdpHeader + gue) : payload.first(0);
}

template <typename F>
bool match(const WorkerCore& core, const Table& table, const CaptureFilter& filter, const uint8_t* l3,
           const uint8_t* l4) {
  return Match<F>(core, table, filter)(
      {source_of<F>(l3), destination_of<F>(l3), tcp_source_port(l4), tcp_destination_port(l4)});
}

// `is_whole`: not cut by an ICMP error.
bool is_captured_ip(const WorkerCore& core, const Table& table, const CaptureFilter& filter,
                    std::span<const uint8_t> ip, bool is_whole, int layer) {
  if (ip.size() < V4::kHeaderSize || layer == kMostLayers) return false;
  const auto size = static_cast<uint32_t>(ip.size());
  const bool is_v6 = ip[0] >> 4 == 6;
  if ((!is_v6 && ip[0] >> 4 != 4) || (is_v6 && size < V6::kHeaderSize)) return false;
  const IpParts parts = parse_ip(ip.data(), size, is_whole ? size : kCut);
  if (parts.kind == Kind::malformed) return false;
  if (has_ports(parts, size)) {
    const uint8_t* const l4 = ip.data() + parts.l4_offset;
    return is_v6 ? match<V6>(core, table, filter, ip.data(), l4)
                 : match<V4>(core, table, filter, ip.data(), l4);
  }
  const auto inner = inside(table, parts, ip);
  return is_captured_ip(core, table, filter, inner, is_whole && parts.kind != Kind::icmp_error, layer + 1);
}

bool is_token(std::string_view text) {
  return text.size() == kTokenSize && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

bool is_captured(const WorkerCore& core, const Table& table, const CaptureFilter& filter,
                 std::span<const uint8_t> frame) {
  size_t at = 2 * ETH_ALEN;
  const auto type = [&] {
    return frame.size() >= at + 2 ? ntohs(load<uint16_t>(frame.data() + at)) : uint16_t{0};
  };
  while (type() == ETHERTYPE_VLAN || type() == 0x88a8) at += kVlanTag;
  if (type() != ETHERTYPE_IP && type() != ETHERTYPE_IPV6) return false;
  return is_captured_ip(core, table, filter, frame.subspan(at + 2), true, 0);
}

bool parse_capture(std::string_view text, CaptureOrder& order, std::string& complaint) {
  std::array<std::string_view, 8> parts;
  complaint = "eight parameters are wanted";
  if (!split_parameters(text, parts)) return false;
  const auto client = Address::parse(parts[2]);
  if (client) order.filter.client = *client;
  order.token = parts[0];
  complaint = "a parameter is malformed or out of range";
  const bool is_good = is_token(parts[0]) && read_number(parts[1], order.filter.service) &&
                       (client || parts[2] == "-") && read_number(parts[3], order.filter.client_port) &&
                       read_number<uint64_t>(parts[4], order.limits.seconds, 1, kLongestCaptureSeconds) &&
                       read_number<uint64_t>(parts[5], order.limits.packets, 1, kMostCaptured) &&
                       read_number<uint64_t>(parts[6], order.limits.bytes, 1, kMostCapturedBytes) &&
                       read_number<uint32_t>(parts[7], order.limits.snap, kLeastSnap, kMostSnap);
  if (is_good) complaint.clear();
  return is_good;
}

}  // namespace portico
