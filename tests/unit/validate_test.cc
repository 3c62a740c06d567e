// SPDX-License-Identifier: Apache-2.0
// Every field of every record, set to what it must not be, in a table whose checksums are right: the
// dataplane refuses it, and names block, record and field.
#include "contract/validate.h"

#include <gtest/gtest.h>

#include <functional>

#include "contract/adopter.h"
#include "contract/table_build.h"
#include "tests/support/table_editor.h"

namespace portico {
namespace {

using test::address;
using test::TableEditor;
using test::TempDir;

struct Case {
  const char* expected;  // the beginning of the refusal's text
  std::function<void(TableEditor&)> spoil;
};

void expect_refusals(const std::vector<Case>& cases) {
  const TableEditor good = TableEditor::publish(test::sample_content());
  for (const Case& c : cases) {
    SCOPED_TRACE(c.expected);
    TempDir dir;
    TableEditor bad = good;
    c.spoil(bad);
    bad.seal().save(dir.path());
    const AdoptResult result = Adopter(dir.path()).poll();
    EXPECT_EQ(result.kind, AdoptResult::Kind::refused);
    EXPECT_EQ(result.reason, RefusalReason::bad_record);
    EXPECT_EQ(result.text.substr(0, std::strlen(c.expected)), c.expected);
  }
}

// A case that spoils one field of one record.
#define FIELD(text, kind, Record, index, id, ...)  \
  Case {                                           \
    text, [](TableEditor& t) {                     \
      auto& r = t.record<Record>(kind, index, id); \
      __VA_ARGS__;                                 \
    }                                              \
  }

template <size_t N>
void fill(char (&field)[N]) {
  std::memset(field, 'x', N);
}

TEST(Validate, TheSampleIsGood) {
  TempDir dir;
  TableEditor::publish(test::sample_content()).seal().save(dir.path());
  const AdoptResult result = Adopter(dir.path()).poll();
  EXPECT_EQ(result.kind, AdoptResult::Kind::adopted) << result.text;
}

TEST(Validate, Settings) {
#define F(text, ...) FIELD("settings[0]." text, BlockKind::settings, SettingsRecord, 0, 0, __VA_ARGS__)
  expect_refusals({
      F("workers: 65 is above 64", r.workers = kMaxWorkers + 1),
      F("flows:", r.flows = 0),
      F("flows:", r.flows = kMaxFlows + 1),
      F("mbufs:", r.mbufs = kMaxMbufs + 1),
      F("idle:", r.idle = 0),
      F("idle:", r.idle = 3),
      F("huge_pages:", r.huge_pages = 0),
      F("huge_pages:", r.huge_pages = 255),
      F("timeout_syn_ms:", r.timeout_syn_ms = 0),
      F("timeout_closing_ms:", r.timeout_closing_ms = 0),
      F("timeout_half_closed_ms:", r.timeout_half_closed_ms = 0),
      F("gue_port:", r.gue_port = 0),
      F("fragments:", r.fragments = 0),
      F("fragments:", r.fragments = 3),
      F("instance:", fill(r.instance)),
      F("worker_cpus:", fill(r.worker_cpus)),
      F("tunnel_source_v4:", r.tunnel_length_v4 = 24),
      F("tunnel_source_v4:", r.tunnel_source_v4 = address("198.51.100.0")),
      F("tunnel_source_v4:", (r.tunnel_source_v4 = address("198.51.100.1"), r.tunnel_length_v4 = 24)),
      F("tunnel_source_v4:", (r.tunnel_source_v4 = address("198.51.100.0"), r.tunnel_length_v4 = 33)),
      F("tunnel_source_v4:", (r.tunnel_source_v4 = address("224.0.0.0"), r.tunnel_length_v4 = 24)),
      F("tunnel_source_v4:", (r.tunnel_source_v4 = address("2001:db8::"), r.tunnel_length_v4 = 32)),
      F("tunnel_source_v6:", r.tunnel_length_v6 = 64),
      F("tunnel_source_v6:", (r.tunnel_source_v6 = address("2001:db8::1"), r.tunnel_length_v6 = 64)),
      F("tunnel_source_v6:", (r.tunnel_source_v6 = address("2001:db8::"), r.tunnel_length_v6 = 129)),
      F("tunnel_source_v6:", (r.tunnel_source_v6 = address("ff02::"), r.tunnel_length_v6 = 64)),
      F("tunnel_source_v6:", (r.tunnel_source_v6 = address("198.51.100.0"), r.tunnel_length_v6 = 24)),
  });
#undef F
}

TEST(Validate, Ports) {
#define F(text, ...) FIELD("ports[1]." text, BlockKind::ports, PortRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
      F("name: not ended", fill(r.name)),
      F("name: empty", r.name[0] = '\0'),
      F("name: twice", test::set_text(r.name, "eth0")),
      F("devargs:", fill(r.devargs)),
      F("queues: 65 is above 64", r.queues = kMaxWorkers + 1),
      F("queues: 2 queues for 1 workers", r.queues = 2),
      F("mtu:", r.mtu = kMinMtu - 1),
      F("mtu:", r.mtu = kMaxMtu + 1),
  });
#undef F
}

TEST(Validate, Services) {
#define F(text, ...) FIELD("services[1]." text, BlockKind::services, ServiceRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
      F("id: 1024 is above 1023", r.id = kMaxServices),
      F("id: 65535", r.id = kNone),
      F("id: not in ascending", r.id = 3),
      F("id: not in ascending", r.id = 2),
      F("pool: there is no pool 3", r.pool = 3),
      F("pool: there is no pool 65535", r.pool = kNone),
      F("access_list: there is no access list 6", r.access_list = 6),
      F("access_list: there is no access list 65534", r.access_list = 0xfffe),
      F("mode:", r.mode = 0),
      F("mode:", r.mode = 6),
      F("affinity:", r.affinity = 0),
      F("affinity:", r.affinity = 3),
      F("affinity_prefix_v6:", r.affinity_prefix_v6 = 0),
      F("affinity_prefix_v6:", r.affinity_prefix_v6 = 129),
      F("proxy_protocol:", r.proxy_protocol = 2),
      F("proxy_protocol: in another mode than nat",
        (r.mode = static_cast<uint8_t>(Mode::dsr_l2), r.proxy_protocol = 1)),
      F("idle_timeout_ms:", r.idle_timeout_ms = 0),
      F("source_rate:", (r.source_rate = kMaxSourceLimit + 1, r.source_burst = 1)),
      F("source_burst:", r.source_rate = 1),
      F("source_burst:", r.source_burst = 1),
      F("source_burst:", (r.source_rate = 1, r.source_burst = kMaxSourceLimit + 1)),
      F("source_flows:", r.source_flows = kMaxSourceLimit + 1),
      F("source_prefix_v4:", r.source_prefix_v4 = 0),
      F("source_prefix_v4:", r.source_prefix_v4 = 33),
      F("source_prefix_v6:", r.source_prefix_v6 = 0),
      F("source_prefix_v6:", r.source_prefix_v6 = 129),
      F("name:", fill(r.name)),
  });
#undef F
}

TEST(Validate, Listeners) {
#define F(text, ...) FIELD("listeners[1]." text, BlockKind::listeners, ListenerRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
      F("address: not an address", r.address = {}),
      F("address: not an address", r.address = address("0.0.0.0")),
      F("address: not an address", r.address = address("224.0.0.1")),
      F("address: not an address", r.address = address("255.255.255.255")),
      F("address: not an address", r.address = address("ff02::1")),
      F("address: not in ascending", r.address = address("198.18.0.9")),
      F("address: not in ascending", r.port = 443),
      F("port: 0", r.port = 0),
      F("service: there is no service 8", r.service = 8),
      F("service: there is no service 65535", r.service = kNone),
  });
#undef F
}

TEST(Validate, Pool) {
#define F(text, ...) FIELD("pool 1 pool[0]." text, BlockKind::pool, PoolRecord, 0, 1, __VA_ARGS__)
  expect_refusals({
      F("id:", r.id = 2),
      F("id:", r.id = kMaxPools),
      F("disposition:", r.disposition = 0),
      F("disposition:", r.disposition = 4),
      F("lookup_size: out of range", r.lookup_size = 0),
      F("lookup_size: out of range", r.lookup_size = 241),
      F("lookup_size: out of range", r.lookup_size = 1048583),
      F("lookup_size: 255 is not prime", r.lookup_size = 255),
      F("lookup_size: not the number", r.lookup_size = 257),
      F("fallback_columns: 4 is above 3", r.fallback_columns = 4),
      F("fallback_columns: not the number", r.fallback_columns = 1),
      F("backend_count:", r.backend_count = 4),
      F("usable_count: 4 is above 3", r.usable_count = 4),
      F("usable_count: not the number of backends", r.usable_count = 2),
      F("lookup_size: not the number", r.usable_count = 0),
      F("name:", fill(r.name)),
  });
#undef F
}

TEST(Validate, Backends) {
#define F(text, ...) FIELD("pool 1 backends[1]." text, BlockKind::backends, BackendRecord, 1, 1, __VA_ARGS__)
  expect_refusals({
    F("id: 4096 is above 4095", r.id = kMaxBackends), F("id: not in ascending", r.id = 10),
        F("pool:", r.pool = 2), F("weight: 1001 is above 1000", r.weight = 1001),
        F("disposition:", r.disposition = 0), F("disposition:", r.disposition = 4),
        F("reset_count: 9 is above 8", r.reset_count = 9), F("reset_ports: port 0", r.reset_count = 1),
        F("next_hop_v4: there is no next hop 2", r.next_hop_v4 = 2),
        F("next_hop_v4: there if", r.next_hop_v4 = kNone), F("next_hop_v4: there if", r.address_v4 = {}),
        F("next_hop_v6: there is no next hop 2", r.next_hop_v6 = 2),
        F("next_hop_v6: there if", r.next_hop_v6 = kNone), F("next_hop_v6: there if", r.address_v6 = {}),
        F("address_v4: no address", r.address_v4 = r.address_v6 = {}),
        F("address_v4: not an address", r.address_v4 = address("224.0.0.1")),
        F("address_v4: not an address", r.address_v4 = address("2001:db8::1")),
        F("address_v6: not an address", r.address_v6 = address("ff02::1")),
        F("address_v6: not an address", r.address_v6 = address("198.18.0.1")), F("name:", fill(r.name)),
        FIELD("pool 2 backends[0].id: 12 is another pool's", BlockKind::backends, BackendRecord, 0, 2,
              r.id = 12;
              for (unsigned i = 0; i < 257; i += 2) t.record<uint16_t>(BlockKind::lookup, i, 2) = 12),
  });
#undef F
}

TEST(Validate, Lookup) {
  expect_refusals({
      FIELD("pool 1 lookup[250].backend: 20 is no backend", BlockKind::lookup, uint16_t, 250, 1, r = 20),
      FIELD("pool 1 lookup[7].backend: 65535 is no backend", BlockKind::lookup, uint16_t, 7, 1, r = kNone),
      FIELD("pool 1 lookup[0].backend: 0 is no backend", BlockKind::lookup, uint16_t, 0, 1, r = 0),
      FIELD("pool 1 lookup[1].backend: 11 is no backend", BlockKind::backends, BackendRecord, 1, 1,
            r.weight = 0),
  });
}

TEST(Validate, NextHops) {
#define F(text, ...) FIELD("next_hops[1]." text, BlockKind::next_hops, NextHopRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
      F("address:", r.address = {}),
      F("address:", r.address = address("239.1.2.3")),
      F("resolved:", r.resolved = 2),
      F("mac:", r.mac[0] = 1),
      F("mac:", std::memset(r.mac, 0, 6)),
      F("source_mac:", r.source_mac[0] = 0xff),
      F("source_mac:", std::memset(r.source_mac, 0, 6)),
      F("port: there is no port 2", r.port = 2),
      F("vlan: 4095 is above 4094", r.vlan = 4095),
      F("mtu:", r.mtu = kMinMtu - 1),
      F("mtu:", r.mtu = kMaxMtu + 1),
  });
#undef F
}

TEST(Validate, Routes) {
#define F(text, ...) FIELD("routes[1]." text, BlockKind::routes, RouteRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
    F("prefix: bits beyond", r.prefix = address("198.18.0.1")), F("prefix: bits beyond", r.length = 33),
        F("prefix: bits beyond", r.length = 255),
        F("prefix: not in ascending", r.prefix = address("0.0.0.0"); r.length = 0),
        F("on_link:", r.on_link = 2), F("next_hop: there is no next hop 65535", r.on_link = 0),
        F("next_hop: there is no next hop 2", r.next_hop = 2), F("port: there is no port 2", r.port = 2),
  });
#undef F
}

TEST(Validate, Access) {
#define F(text, ...) FIELD("access[1]." text, BlockKind::access, AccessRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
    F("list: 1024 is above 1023", r.list = kMaxAccessLists), F("prefix: not in ascending", r.list = 4),
        F("prefix: not in ascending", r.prefix = address("198.18.1.0"); r.length = 24),
        F("prefix: bits beyond", r.length = 24), F("prefix: bits beyond", r.length = 33),
        F("allow:", r.allow = 2),
  });
#undef F
}

TEST(Validate, Nat) {
#define F(text, ...) FIELD("nat[1]." text, BlockKind::nat, NatRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
      F("address: not an address", r.address = {}),
      F("address: not an address", r.address = address("255.255.255.255")),
      F("address: twice", r.address = address("198.18.0.20")),
      F("address: a service listens", r.address = address("2001:db8::10")),
      F("first_port: 0", r.first_port = 0),
      F("last_port: below", r.last_port = 1023),
  });
#undef F
}

TEST(Validate, Vlans) {
#define F(text, ...) FIELD("vlans[1]." text, BlockKind::vlans, VlanRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
    F("port: there is no port 2", r.port = 2), F("vlan: 0", r.vlan = 0),
        F("vlan: 4095 is above 4094", r.vlan = 4095), F("vlan: not in ascending", r.port = 0),
        F("vlan: not in ascending", r.port = 0; r.vlan = 4),
  });
#undef F
}

TEST(Validate, Own) {
#define F(text, ...) FIELD("own[1]." text, BlockKind::own, OwnRecord, 1, 0, __VA_ARGS__)
  expect_refusals({
      F("address: not an address", r.address = {}),
      F("address: not in ascending", r.address = address("1.0.0.1")),
  });
#undef F
}

// A snapshot as a publisher would build it, without asking whether it is valid.
Snapshot snapshot_of(const TableContent& content, const Snapshot* before = nullptr) {
  const BuiltBlocks blocks = build_blocks(content, before);
  Directory directory{};
  directory.block_count = static_cast<uint32_t>(blocks.all.size());
  return assemble(directory, blocks.all);
}

// What changed must be looked at again together with what did not: the other side of each reference goes away
// while the naming block stays the very same.
TEST(Validate, ReferencesFromUnchangedBlocksAreCheckedAgain) {
  const Snapshot good = snapshot_of(test::sample_content());
  ASSERT_EQ(validate(good), std::nullopt);
  const auto complaint_after = [&](const std::function<void(TableContent&)>& change) {
    TableContent content = test::sample_content();
    change(content);
    return validate(snapshot_of(content, &good), &good).value_or("none");
  };
  EXPECT_EQ(complaint_after([](auto&) {}), "none");
  EXPECT_EQ(complaint_after([](auto& c) { c.pools.erase(c.pools.begin()); }),
            "services[0].pool: there is no pool 1");
  EXPECT_EQ(complaint_after([](auto& c) { c.access.clear(); }),
            "services[1].access_list: there is no access list 5");
  EXPECT_EQ(complaint_after([](auto& c) { c.services.pop_back(); }),
            "listeners[1].service: there is no service 7");
  EXPECT_EQ(complaint_after([](auto& c) { c.next_hops.pop_back(); }),
            "routes[2].next_hop: there is no next hop 1");
  EXPECT_EQ(complaint_after([](auto& c) { c.next_hops.pop_back(), c.routes.clear(); }),
            "pool 1 backends[1].next_hop_v6: there is no next hop 1");
  EXPECT_EQ(complaint_after([](auto& c) { c.ports.pop_back(); }), "next_hops[1].port: there is no port 1");
  EXPECT_EQ(complaint_after([](auto& c) { c.settings.workers = 2; }),
            "ports[0].queues: 1 queues for 2 workers");
  EXPECT_EQ(complaint_after([](auto& c) { c.nat[0].address = address("198.18.0.10"); }),
            "nat[0].address: a service listens on it, too");
  EXPECT_EQ(complaint_after([](auto& c) { c.pools[0].backends[0].weight = 0; }),
            "pool 1 lookup[0].backend: 10 is no backend of the pool that has weight");
  EXPECT_EQ(complaint_after([](auto& c) { std::swap(c.pools[0], c.pools[1]); }),
            "pool 1 pool[0].id: out of range, not in ascending order, or twice");
}

// Of a pool with two columns: of each slot the other two of its three backends.
TEST(Validate, Fallback) {
  const auto with = [](const std::vector<std::pair<size_t, uint16_t>>& changes) {
    TableContent content = test::sample_content();
    TableContent::Pool& pool = content.pools[0];
    pool.record.fallback_columns = 2;
    for (const uint16_t id : pool.lookup)
      for (uint16_t i = 1; i <= 2; ++i)
        pool.fallback.push_back(static_cast<uint16_t>(10 + (id - 10 + i) % 3));
    for (const auto& [at, id] : changes) pool.fallback[at] = id;
    return validate(snapshot_of(content)).value_or("none");
  };
  EXPECT_EQ(with({}), "none");
  EXPECT_EQ(with({{1, kNone}}), "none");
  EXPECT_EQ(with({{0, kNone}, {1, kNone}}), "none");
  EXPECT_EQ(with({{0, kNone}}), "pool 1 fallback[1].backend: named before, or after the last");
  EXPECT_EQ(with({{1, 11}}), "pool 1 fallback[1].backend: named before, or after the last");
  EXPECT_EQ(with({{0, 10}}), "pool 1 fallback[0].backend: the slot's own");
  EXPECT_EQ(with({{1, 20}}), "pool 1 fallback[1].backend: 20 is no backend of the pool");
}

TEST(Validate, TooManyRecords) {
  TableContent content = test::sample_content();
  content.nat.assign(kMaxNatAddresses + 1, content.nat[0]);
  EXPECT_EQ(validate(snapshot_of(content)), "nat: 65 records are above 64");
  content = test::big_content(33, kMaxLookupSize, 33);
  EXPECT_EQ(validate(snapshot_of(content)), "lookup: more than 33554432 slots in all");
}

TEST(Validate, Primes) {
  for (const uint32_t n : {2u, 3u, 5u, 251u, 65537u, 1048573u}) EXPECT_TRUE(is_prime(n)) << n;
  for (const uint32_t n : {0u, 1u, 4u, 9u, 65535u, 65536u, 1048575u, 4294836225u})
    EXPECT_FALSE(is_prime(n)) << n;
}

}  // namespace
}  // namespace portico
