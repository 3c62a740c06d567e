// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/twin_stream.h"

#include <rte_mbuf.h>

#include <algorithm>

#include "tests/support/sample_table.h"

namespace portico::test {

namespace {

constexpr uint16_t kGuarded = 3306, kOpenDsr = 8080, kTunneled = 8081, kNobody = 9;
constexpr uint16_t kServicePorts[] = {kDsr, kNat, kGuarded, kOpenDsr, kTunneled, kNobody};
constexpr const char* kSecondNat4 = "198.18.0.21";
constexpr uint16_t kBackends = 3;

// The last two are of a network without a next hop, and of one that the access list does not know.
constexpr const char* kClients4[] = {"203.0.113.7", "203.0.113.8", "203.0.113.9",
                                     "203.0.113.8", "192.0.2.9",   "198.51.100.9"};
constexpr const char* kClients6[] = {"2001:db8:c::7", "2001:db8:c::8", "2001:db8:c:1::7",
                                     "2001:db8:c::8", "2001:db8:e::9", "2001:db8:d::9"};

// The first two are of the balancer itself.
constexpr const char* kBadSources4[] = {kVip4, kNat4, "127.0.0.1", "224.0.0.5"};
constexpr const char* kBadSources6[] = {kVip6, kNat6, "::1", "ff02::5"};

void sort_listeners(TableContent& c) {
  std::ranges::sort(c.listeners, {}, [](const auto& l) { return std::pair(l.address, l.port); });
}

template <typename T, typename Random>
T& any_of(std::vector<T>& list, Random& random) {
  return list[random() % list.size()];
}

void change_backend(BackendRecord& b, std::mt19937& random) {
  switch (random() % 4) {
    case 0:
      b.reset_count = 1;
      b.reset_ports[0] = random() % 2 ? kNat : kDsr;
      break;
    case 1:
      b.address_v4 = address(random() % 2 ? "198.18.1.77" : "198.18.1.78");
      b.disposition = static_cast<uint8_t>(BackendDisposition::forward);
      break;
    default:
      b.disposition = static_cast<uint8_t>(1 + random() % 3);
  }
}

void change_pool(TableContent& c, std::mt19937& random) {
  TableContent::Pool& pool = c.pools[0];
  switch (random() % 5) {
    case 0:
      pool.record.disposition = static_cast<uint8_t>(1 + random() % 3);
      break;
    case 1: {  // drained or held
      const auto to = static_cast<uint16_t>(1 + random() % kBackends);
      for (uint16_t& slot : pool.lookup) slot = to;
      break;
    }
    case 2:  // removed
      if (pool.backends.size() > 1) pool.backends.erase(pool.backends.begin());
      pool.record.backend_count = pool.record.usable_count = static_cast<uint16_t>(pool.backends.size());
      for (size_t i = 0; i < pool.lookup.size(); ++i)
        pool.lookup[i] = pool.backends[i % pool.backends.size()].id;
      break;
    default:
      for (uint16_t& slot : pool.lookup) slot = any_of(pool.backends, random).id;
  }
}

void change_way(TableContent& c, std::mt19937& random) {
  NextHopRecord& h = any_of(c.next_hops, random);
  switch (random() % 7) {
    case 0:
      h.resolved ^= 1;
      break;
    case 1:
      h.mtu = random() % 2 ? 1500u : static_cast<uint32_t>(68 + random() % 20);
      break;
    case 2:
      h.vlan = random() % 2 ? 9 : 0;
      break;
    case 3:
      h.mac[5] = static_cast<uint8_t>(random());
      break;
    case 4:
      if (!c.routes.empty()) c.routes.erase(c.routes.begin());
      break;
    default:
      if (!c.routes.empty()) c.routes[0].next_hop = static_cast<uint16_t>(random() % 2);
  }
}

// All that translate become destination NAT before one port of backends, so that replies may be ambiguous.
void merge_services(TableContent& c) {
  for (ServiceRecord& s : c.services) {
    if (!translates(Mode{s.mode})) continue;
    s.mode = static_cast<uint8_t>(Mode::dnat);
    s.backend_port = 8443;
    s.proxy_protocol = 0;
  }
}

void change_service(TableContent& c, std::mt19937& random) {
  ServiceRecord& s = any_of(c.services, random);
  switch (random() % 6) {
    case 5:
      if (!translates(Mode{s.mode})) break;
      if (random() % 2) return merge_services(c);
      s.mode = static_cast<uint8_t>(random() % 2 ? Mode::nat : Mode::dnat);
      s.proxy_protocol = s.mode == static_cast<uint8_t>(Mode::nat) && random() % 2;
      break;
    case 4:  // its addresses are another's from now on
      for (ListenerRecord& l : c.listeners) {
        const ServiceRecord& other = any_of(c.services, random);
        if (l.service == s.id && other.mode == s.mode) l.service = other.id;
      }
      break;
    case 0:
      s.backend_port = random() % 2 ? 8443 : 0;
      break;
    case 1:
      s.access_list = random() % 2 ? 4 : kNone;
      break;
    case 2:
      s.idle_timeout_ms = random() % 2 ? 7440000 : 60000;
      break;
    default: {  // removed
      const uint16_t id = s.id;
      if (c.services.size() < 3) break;
      std::erase_if(c.listeners, [&](const ListenerRecord& l) { return l.service == id; });
      std::erase_if(c.services, [&](const ServiceRecord& other) { return other.id == id; });
    }
  }
}

}  // namespace

TableContent twin_content() {
  TableContent c = usual_content();
  c.vlans = {{0, 1}, {0, 2}, {0, 9}, {1, 1}, {1, 9}};
  c.settings.reset_rate = 200;
  c.ports.push_back(c.ports[0]);
  set_text(c.ports[1].name, "port1");
  c.next_hops[2].port = 1;
  c.next_hops[3].mtu = 100;  // what fits it may be too big inside a tunnel
  c.services.push_back(sample_service(3, 1));
  c.services[2].access_list = 4;
  c.services[2].affinity = static_cast<uint8_t>(Affinity::client);
  c.services.push_back(sample_service(4, 1));
  c.services[3].mode = static_cast<uint8_t>(Mode::dsr_l2);
  c.services.push_back(sample_service(5, 1));
  c.services[4].mode = static_cast<uint8_t>(Mode::dsr_ipip);
  c.settings.tunnel_source_v4 = address("198.51.100.0");
  c.settings.tunnel_length_v4 = 24;
  for (const char* vip : {kVip4, kVip6}) {
    c.listeners.push_back({address(vip), kGuarded, 3, 0});
    c.listeners.push_back({address(vip), kOpenDsr, 4, 0});
    c.listeners.push_back({address(vip), kTunneled, 5, 0});
  }
  sort_listeners(c);
  c.access = {{address("203.0.113.0"), 4, 24, 1, 0}, {address("2001:db8:c::"), 4, 48, 1, 0}};
  std::ranges::sort(c.access, {}, [](const auto& a) { return a.prefix; });
  c.routes.push_back({address("192.0.2.0"), 24, 1, kNone, 0, 0});
  std::ranges::sort(c.routes, {}, [](const auto& r) { return std::pair(r.prefix, r.length); });
  c.nat = {{address(kNat4), 2000, 2063, 0},
           {address(kSecondNat4), 3000, 3015, 0},
           {address(kNat6), 2000, 2063, 0}};
  return c;
}

void change(TableContent& c, std::mt19937& random) {
  switch (random() % 11) {
    case 0:
    case 1:
      return change_backend(any_of(c.pools[0].backends, random), random);
    case 2:
    case 3:
      return change_pool(c, random);
    case 4:
      return change_way(c, random);
    case 5:
    case 7:
      return change_service(c, random);
    case 6: {
      NatRecord& nat = any_of(c.nat, random);
      nat.last_port = static_cast<uint16_t>(nat.first_port + random() % (random() % 2 ? 64 : 2));
      return;
    }
    case 8: {
      ServiceRecord& s = any_of(c.services, random);
      s.source_rate = s.source_burst = static_cast<uint32_t>(random() % 2 ? 1 + random() % 20 : 0);
      s.source_flows = static_cast<uint32_t>(random() % 2 ? 1 + random() % 20 : 0);
      if (is_tunnel(Mode{s.mode}))
        s.mode = static_cast<uint8_t>(random() % 2 ? Mode::dsr_gue : Mode::dsr_ipip);
      return;
    }
    case 9:
      c.settings.tunnel_source_v6 = random() % 2 ? address("2001:db8:99::") : Address{};
      c.settings.tunnel_length_v6 = c.settings.tunnel_source_v6.is_none() ? 0 : 64;
      return;
    default:
      c.settings.new_flow_rate = random() % 2 ? 100 : 0;
      c.settings.reset_rate = random() % 2 ? 200 : 10000;
      c.settings.fragments = static_cast<uint8_t>(random() % 4 ? Fragments::reassemble : Fragments::drop);
  }
}

void TwinStream::learn(const std::vector<Sent>& sent) {
  for (const Sent& s : sent) {
    if (s.to != Sent::To::port || s.frame.size() < 54) continue;
    const Seen seen = read_frame(s.frame);
    const bool is_to_backend =
        seen.destination.starts_with("198.18.1.") || seen.destination.starts_with("2001:db8:1:");
    if (seen.protocol != 6 || !is_to_backend) continue;
    if (learnt_.size() < kMostLearnt) {
      learnt_.push_back(s.frame);
    } else {
      any_of(learnt_, random_) = s.frame;
    }
  }
}

// Mostly what makes sense: SYN, handshake's ACK, data.
Tcp TwinStream::from_client() {
  const size_t family = below(kFamilies), client = below(kClients), port = below(kPorts);
  const size_t service = std::min(below(kServices + 3), kServices + 2) % kServices;
  uint32_t& isn = isns_[((family * kClients + client) * kPorts + port) * kServices + service];
  const char* source = family ? kClients6[client] : kClients4[client];
  if (one_in(50)) source = family ? kBadSources6[below(4)] : kBadSources4[below(4)];
  Tcp tcp(source, static_cast<uint16_t>(40000 + port), family ? kVip6 : kVip4, kServicePorts[service]);
  if (one_in(2)) tcp.fragment(0x4000);  // "do not fragment", as most do
  const size_t what = below(100);
  if (isn == 0 || what < 25) {
    if (isn == 0 || one_in(3)) isn = static_cast<uint32_t>(random_()) | 1;
    return tcp.flags(kSynFlag).seq(isn);
  }
  tcp.seq(isn + 1).ack(5001);
  if (what < 60) return tcp;
  if (what < 75) return tcp.flags(kAckFlag | kPshFlag).payload(std::string(below(80), 'x'));
  if (what < 82) return tcp.flags(kFinFlag | kAckFlag);
  if (what < 86) return tcp.flags(kRstFlag | (one_in(2) ? kAckFlag : 0));
  if (what < 90) return tcp.ack(static_cast<uint32_t>(random_()));
  return tcp.flags(static_cast<uint8_t>(random_()));
}

Tcp TwinStream::from_backend() {
  const Seen to = read_frame(any_of(learnt_, random_));
  Tcp tcp(to.destination, to.destination_port, to.source, to.source_port);
  tcp.seq(5001).ack(to.seq + 1);
  const size_t what = below(100);
  if (what < 40) return tcp.flags(kSynFlag | kAckFlag).seq(5000);
  if (what < 60) return tcp;
  if (what < 80) return tcp.payload(std::string(below(80), 'y'));
  if (what < 90) return tcp.flags(kFinFlag | kAckFlag);
  if (what < 95) return tcp.flags(kRstFlag);
  return tcp.flags(static_cast<uint8_t>(random_()));
}

Bytes TwinStream::error() {
  const Bytes& frame = any_of(learnt_, random_);
  const Seen seen = read_frame(frame);
  const bool is_v6 = seen.source == kNat6;
  const Bytes packet(frame.begin() + (seen.vlan ? 18 : 14), frame.end());
  const uint8_t type = is_v6 ? 1 : 3;
  return icmp_error(is_v6 ? "2001:db8:c::99" : "203.0.113.99", seen.source, type, packet, 28 + below(60));
}

void TwinStream::decorate(Tcp& tcp) {
  switch (below(24)) {
    case 0:
      tcp.vlan(static_cast<uint16_t>(1 + below(5)));
      if (one_in(3)) tcp.vlan(7);
      break;
    case 1:
      tcp.ip_options({1, 1, 1, 0});
      break;
    case 2:
      tcp.extension(60, {1, 4, 0, 0, 0, 0});
      if (one_in(2)) tcp.extension(0, {1, 4, 0, 0, 0, 0});
      if (one_in(4)) tcp.extension(43, {0, 1, 0, 0, 0, 0});
      break;
    case 3:
      tcp.ttl(static_cast<uint8_t>(below(4)));
      break;
    case 4:
      tcp.fragment(static_cast<uint16_t>(one_in(2) ? 0x2000 : 0x4000 + below(3)));
      if (one_in(2)) tcp.payload(std::string(4 + 8 * below(3), 'f'));
      break;
    case 5:
      tcp.protocol(17);
      break;
    case 6:
    case 7:
    case 8:
      tcp.options({1, 1, 8, 10, 0, 0, 1, 1, 0, 0, 0, 7});
      break;
    default:
      break;
  }
}

Bytes TwinStream::frame() {
  if (!learnt_.empty() && one_in(30)) return error();
  if (one_in(60)) return Bytes(14 + below(60), 0);  // not IP
  Tcp tcp = !learnt_.empty() && one_in(3) ? from_backend() : from_client();
  decorate(tcp);
  return tcp;
}

void TwinStream::spoil(Given& given) {
  Bytes& frame = given.frame;
  switch (below(12)) {
    case 7:
      if (!frame.empty()) frame[0] |= 1;  // for a group
      break;
    case 0:
      for (size_t n = 1 + below(3); n > 0 && !frame.empty(); --n)
        frame[below(std::min<size_t>(frame.size(), 60))] ^= static_cast<uint8_t>(1u << below(8));
      if (one_in(2)) mend_ip_sum(frame);
      break;
    case 1:
      frame.resize(below(frame.size() + 1));
      break;
    case 2:
      frame.resize(frame.size() + below(30));  // padding
      break;
    case 3:
      if (frame.size() > 50) frame[50] ^= 0x5a;  // TCP's checksum, or next to it
      break;
    case 4:
      if (frame.size() > 30) frame[26] = static_cast<uint8_t>(random_());  // the source
      mend_ip_sum(frame);
      break;
    case 5:
      given.split = 20 + below(60);
      break;
    case 6:
      given.port = static_cast<uint16_t>(below(2));
      given.ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_RSS_HASH;
      break;
    default:
      break;
  }
}

std::vector<Given> TwinStream::burst(size_t frames) {
  std::vector<Given> given(frames);
  for (Given& g : given) {
    g.frame = frame();
    if (one_in(4)) spoil(g);
  }
  return given;
}

}  // namespace portico::test
