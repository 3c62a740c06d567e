// SPDX-License-Identifier: Apache-2.0
// A process ends without a word and the next one takes its flows up: which it keeps, which it must not, and
// where packets go afterwards.
#include <gtest/gtest.h>
#include <xxhash.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>

#include "contract/flow_losses.h"
#include "dataplane/flow_entry.h"
#include "tests/packet/rig.h"
#include "tests/support/nic_model.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr std::streamoff kEntriesAt = 4096;

class Restart : public testing::Test {
 protected:
  Restart() {
    char name[] = "/dev/shm/portico-restart-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~Restart() override { std::filesystem::remove_all(directory_); }

  void start(const TableContent& content, const RigOptions& options = {}) {
    RigOptions o = options;
    o.keep = directory_;
    o.now = now_;
    rig_ = std::make_unique<Rig>(content, o);
  }
  // The process is gone at once: nothing of it says good-bye to the store.
  void stop(uint64_t away_ms = 100) {
    now_ = rig_->now() + away_ms * 1000;
    rig_.reset();
  }
  Rig& rig() { return *rig_; }

  // The file of the only worker's entries of a kind.
  std::filesystem::path entries_file(const std::string& kind) const {
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "tables"))
      if (entry.path().string().ends_with("-" + kind + "-0")) return entry.path();
    throw std::runtime_error("no entries of " + kind);
  }

  std::filesystem::path directory_;
  uint64_t now_ = 1'000'000'000;
  std::unique_ptr<Rig> rig_;
};

std::string address_of(bool v6, uint32_t client) {
  return v6 ? "2001:db8:c::" + std::to_string(client + 1) : "203.0.113." + std::to_string(client + 1);
}

struct Connection {
  bool v6;
  uint32_t client;
  uint16_t service_port;
  uint32_t isn;     // the client's
  Seen at_backend;  // its SYN

  Tcp from_client() const { return Tcp(address_of(v6, client), 40000, v6 ? kVip6 : kVip4, service_port); }
  Tcp from_backend() const {
    return Tcp(at_backend.destination, at_backend.destination_port, at_backend.source,
               at_backend.source_port);
  }
};

Connection open(Rig& rig, bool v6, uint32_t client, uint16_t service_port, uint32_t worker = 0,
                uint32_t isn = 1000) {
  Connection c{v6, client, service_port, isn, {}};
  c.at_backend = rig.send_one(c.from_client().flags(kSynFlag).seq(isn), worker);
  if (service_port == kNat) rig.send_one(c.from_backend().flags(kSynFlag).seq(5000).ack(isn + 1), worker);
  rig.advance_ms(1000);  // past a dsr flow's probation
  rig.send_one(c.from_client().seq(isn + 1).ack(5001), worker);
  return c;
}

// Both directions, as before the end.
void expect_goes_on(Rig& rig, const Connection& c, uint32_t worker = 0) {
  const Seen in = rig.send_one(c.from_client().seq(1001).ack(5001).payload("more"), worker);
  EXPECT_EQ(in.destination, c.at_backend.destination);
  EXPECT_EQ(in.source_port, c.at_backend.source_port);
  EXPECT_EQ(in.mac, c.at_backend.mac);
  EXPECT_TRUE(in.checksums_right);
  if (c.service_port != kNat) return;
  const Seen out = rig.send_one(c.from_backend().seq(5001).ack(1005).payload("answer"), worker);
  EXPECT_EQ(out.destination, address_of(c.v6, c.client));
  EXPECT_EQ(out.destination_port, 40000);
  EXPECT_TRUE(out.checksums_right);
}

TEST_F(Restart, EveryFlowGoesOn) {
  std::vector<Connection> connections;
  start(usual_content());
  for (uint32_t i = 0; i < 40; ++i)
    for (const bool v6 : {false, true})
      for (const uint16_t port : {kDsr, kNat}) connections.push_back(open(rig(), v6, i, port));
  const uint64_t ports = rig().total(&WorkerCounters::nat_ports_used);
  stop();
  TableContent other = usual_content();
  aim_at(other, 3);  // so that a flow that is not known would go elsewhere
  start(other);
  EXPECT_EQ(rig().store().note(), "");
  EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), connections.size());
  EXPECT_EQ(rig().total(&WorkerCounters::flows), connections.size());
  EXPECT_EQ(rig().total(&WorkerCounters::nat_ports_used), ports);
  EXPECT_EQ(rig().of_service(2, &ServiceFeedback::flows), connections.size() / 2);
  for (const Connection& c : connections) expect_goes_on(rig(), c);
  EXPECT_EQ(rig().of_service(1, &ServiceFeedback::missed), 0u);
}

TEST_F(Restart, ANewFlowGetsNoPortOfAnOldOne) {
  TableContent content = usual_content();
  aim_at(content, 1);
  content.nat[0].first_port = 5000;
  content.nat[0].last_port = 5003;
  start(content);
  std::set<uint16_t> ports;
  for (uint32_t i = 0; i < 3; ++i) ports.insert(open(rig(), false, i, kNat).at_backend.source_port);
  stop();
  start(content);
  ports.insert(open(rig(), false, 9, kNat).at_backend.source_port);
  EXPECT_EQ(ports.size(), 4u);
  EXPECT_TRUE(rig().send_one(Tcp("203.0.113.77", 1, kVip4, kNat).flags(kSynFlag)).flags & kRstFlag);
}

TEST_F(Restart, TimeoutsGoOn) {
  start(usual_content());
  const Connection silent = open(rig(), false, 1, kNat);
  rig().sweep_ms(200'000);
  const Connection fresh = open(rig(), false, 2, kNat);
  const uint32_t idle_ms = usual_content().services[1].idle_timeout_ms;
  ASSERT_GT(idle_ms, 210'000u);
  stop(idle_ms - 150'000);
  start(usual_content());
  EXPECT_EQ(rig().lost(FlowLoss::expired), 1u);
  EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), 1u);
  expect_goes_on(rig(), fresh);
  stop(idle_ms - 1000);
  start(usual_content());
  expect_goes_on(rig(), fresh);
  static_cast<void>(silent);
}

TEST_F(Restart, HalfOpenFlowsAreFinished) {
  start(usual_content());
  Connection c{false, 4, kNat, {}};
  c.at_backend = rig().send_one(c.from_client().flags(kSynFlag).seq(1000));
  stop();
  start(usual_content());
  EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), 1u);
  EXPECT_EQ(rig().send_one(c.from_backend().flags(kSynFlag).seq(5000).ack(1001)).destination,
            address_of(false, 4));
  rig().send_one(c.from_client().seq(1001).ack(5001));
  expect_goes_on(rig(), c);
}

TEST_F(Restart, ABackendWhoseIdMeansAnotherIsForgotten) {
  TableContent content = usual_content();
  aim_at(content, 2);
  start(content);
  const Connection c = open(rig(), false, 1, kDsr);
  open(rig(), false, 2, kNat);
  stop();
  content.pools[0].backends[1].address_v4 = address("198.18.1.99");
  start(content);
  EXPECT_EQ(rig().lost(FlowLoss::unknown_backend), 2u);
  EXPECT_EQ(rig().total(&WorkerCounters::flows), 0u);
  static_cast<void>(c);
}

TEST_F(Restart, ABackendThatIsToResetDoesSoAfterwards) {
  TableContent content = usual_content();
  aim_at(content, 2);
  start(content);
  const Connection c = open(rig(), false, 2, kNat);
  stop();
  content.pools[0].backends[1].disposition = static_cast<uint8_t>(BackendDisposition::reset);
  start(content);
  const auto sent = rig().sweep_ms(3000);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_TRUE(sent[0].flags & kRstFlag);
  EXPECT_EQ(sent[0].destination, address_of(false, 2));
  static_cast<void>(c);
}

TEST_F(Restart, AnotherNumberOfWorkersHasAllFlows) {
  std::vector<std::pair<Connection, uint32_t>> connections;
  start(usual_content(), {.workers = 2});
  for (uint32_t i = 0; i < 60; ++i)
    for (const bool v6 : {false, true})
      for (const uint16_t port : {kDsr, kNat})
        connections.emplace_back(open(rig(), v6, i, port, i % 2), i % 2);
  stop();
  for (const uint32_t workers : {3u, 1u, 4u}) {
    start(usual_content(), {.workers = workers});
    EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), connections.size()) << workers;
    // Wherever the NIC puts the client's packets now.
    for (const auto& [c, worker] : connections) expect_goes_on(rig(), c, (c.client + worker) % workers);
    stop();
  }
}

// The same where NAT ports are chosen by a NIC's hash: other workers' ports, and then none's by hash.
TEST_F(Restart, AnotherNumberOfWorkersHasAllFlowsWhoseRepliesANicSpreads) {
  const RssKey key = random_rss_key();
  const auto spread_over = [&key](uint32_t workers) {
    return RigOptions{.workers = workers,
                      .rss_digest = workers,
                      .spreads = std::make_shared<ReplySpreads>(nic_model(key, 128, workers), workers)};
  };
  std::vector<Connection> connections;
  start(usual_content(), spread_over(2));
  for (uint32_t i = 0; i < 60; ++i)
    for (const bool v6 : {false, true})
      for (const uint16_t port : {kDsr, kNat}) connections.push_back(open(rig(), v6, i, port, i % 2));
  EXPECT_EQ(rig().total(&WorkerCounters::handed_over), 0u);
  stop();
  for (const uint32_t workers : {1u, 2u, 3u}) {
    start(usual_content(), spread_over(workers));
    EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), connections.size()) << workers;
    for (const Connection& c : connections) expect_goes_on(rig(), c, c.client % workers);
    stop();
  }
  // The same workers behind a NIC that spreads otherwise, or not at all.
  RigOptions options = spread_over(3);
  options.rss_digest = 99;
  options.spreads = std::make_shared<ReplySpreads>(nic_model(random_rss_key(), 128, 3), 3);
  start(usual_content(), options);
  EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), connections.size());
  for (const Connection& c : connections) expect_goes_on(rig(), c, c.client % 3);
  stop();
  start(usual_content(), {.workers = 3, .rss_digest = 1});
  EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), connections.size());
  for (const Connection& c : connections) expect_goes_on(rig(), c, c.client % 3);
}

TEST_F(Restart, TheRssKeyOutlivesTheProcess) {
  start(usual_content(), {.workers = 2});
  const RssKey key = rig().store().rss_key();
  EXPECT_NE(key, RssKey{});
  open(rig(), false, 1, kNat);
  stop();
  start(usual_content(), {.workers = 3});
  EXPECT_EQ(rig().store().rss_key(), key);
}

TEST_F(Restart, AnotherRssKeyFindsTheFlows) {
  start(usual_content(), {.workers = 2, .rss_digest = 1});
  const Connection a = open(rig(), false, 1, kNat, 0), b = open(rig(), true, 2, kDsr, 1);
  stop();
  start(usual_content(), {.workers = 2, .rss_digest = 2});
  expect_goes_on(rig(), a, 1);
  expect_goes_on(rig(), b, 0);
}

// The NIC has the last word on where a flow is: a flow from before is asked for where it was, and when it is
// over the client's next one, from the same port, stays where it arrives.
TEST_F(Restart, AFlowThatIsOverGivesItsPlaceToTheWorkerThatItsClientReaches) {
  for (const uint16_t port : {kNat, kDsr}) {
    start(usual_content(), {.workers = 2, .rss_digest = 1});
    const Connection before = open(rig(), false, 1, port, 0);
    open(rig(), true, 9, kNat, 1);  // as long as one is left
    stop();
    start(usual_content(), {.workers = 2, .rss_digest = 2});
    const auto flows = [this](uint32_t worker) { return rig().worker(worker).counters().flows; };
    const auto handed_over = [this] { return rig().total(&WorkerCounters::handed_over); };
    // While it lives, no SYN, which may be forged, takes it away.
    EXPECT_EQ(rig().send_one(before.from_client().flags(kSynFlag).seq(77), 1).source_port,
              before.at_backend.source_port);
    EXPECT_EQ(flows(0), 1u);
    EXPECT_EQ(flows(1), 1u);
    rig().send(before.from_client().seq(1001).ack(5001).flags(kRstFlag), 1);
    rig().sweep_ms(usual_content().settings.timeout_closing_ms + 5000);
    EXPECT_EQ(flows(0), 0u);
    uint64_t passed = handed_over();
    const Connection after = open(rig(), false, 1, port, 1);
    EXPECT_EQ(handed_over(), passed + 2) << "its SYN, to the worker that had the flow and back";
    EXPECT_EQ(flows(0), 0u);
    EXPECT_EQ(flows(1), 2u);
    passed = handed_over();
    expect_goes_on(rig(), after, 1);
    EXPECT_EQ(handed_over(), passed);
    stop();
    std::filesystem::remove_all(directory_ / "tables");
    std::filesystem::remove(directory_ / kFlowsFile);
  }
}

// Only new flows of the process are left: nobody is asked for them.
TEST_F(Restart, NobodyIsAskedOnceNoFlowOfBeforeIsLeft) {
  for (const uint16_t port : {kNat, kDsr}) {
    SCOPED_TRACE(port);
    start(usual_content(), {.workers = 2, .rss_digest = 1});
    const Connection old = open(rig(), false, 1, port, 0), other = open(rig(), true, 2, kDsr, 1);
    stop();
    start(usual_content(), {.workers = 2, .rss_digest = 2});
    const auto handed_over = [this] { return rig().total(&WorkerCounters::handed_over); };
    const auto reset = [this](const Connection& c, uint32_t worker) {
      rig().send(c.from_client().seq(c.isn + 1).ack(5001).flags(kRstFlag), worker);
    };
    const auto end = [&](const Connection& c, uint32_t worker) {
      reset(c, worker);
      rig().sweep_ms(usual_content().settings.timeout_closing_ms + 5000);
    };
    // In the place of an old one its client's next one begins where the old one was; it is asked for as well.
    reset(old, 1);
    const Connection next = open(rig(), false, 1, port, 1, 9000);
    EXPECT_EQ(rig().worker(0).counters().flows, 1u);
    end(other, 0);
    uint64_t passed = handed_over();
    rig().send_one(next.from_client().seq(9001).ack(5001), 1);
    EXPECT_EQ(handed_over(), passed + 1);
    end(next, 1);
    EXPECT_EQ(rig().total(&WorkerCounters::flows), 0u);
    passed = handed_over();
    const Connection after = open(rig(), false, 1, port, 1);
    expect_goes_on(rig(), after, 1);
    EXPECT_EQ(handed_over(), passed);
    stop();
    std::filesystem::remove_all(directory_ / "tables");
    std::filesystem::remove(directory_ / kFlowsFile);
  }
}

TEST_F(Restart, ASmallerTableSaysWhatItHasNoRoomFor) {
  start(usual_content(), {.flows = 64});
  for (uint32_t i = 0; i < 40; ++i) open(rig(), false, i, kNat);
  stop();
  start(usual_content(), {.flows = 32});
  EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), 32u);
  EXPECT_EQ(rig().lost(FlowLoss::no_room), 8u);
}

TEST_F(Restart, ANatRangeThatShrankLosesWhatIsOutside) {
  TableContent content = usual_content();
  start(content);
  uint32_t outside = 0;
  for (uint32_t i = 0; i < 20; ++i) outside += open(rig(), false, i, kNat).at_backend.source_port > 30000;
  stop();
  content.nat[0].last_port = 30000;
  start(content);
  EXPECT_EQ(rig().lost(FlowLoss::foreign_port), outside);
  EXPECT_EQ(rig().total(&WorkerCounters::flows_kept), 20 - outside);
}

// Bytes of one entry over another's, as if a process had died while it copied: whatever their number, what
// comes of it is one of the two flows or none.
TEST_F(Restart, HalfAnEntryIsDropped) {
  // The clients' addresses share three bytes.
  for (size_t bytes = 4; bytes < sizeof(NatEntry<V4>); ++bytes) {
    start(usual_content(), {.flows = 16});
    const Connection a = open(rig(), false, 1, kNat), b = open(rig(), false, 200, kNat);
    stop();
    {
      std::fstream file(entries_file("nat-v4"), std::ios::in | std::ios::out | std::ios::binary);
      std::array<char, sizeof(NatEntry<V4>)> part;
      file.seekg(kEntriesAt + 1 * sizeof part).read(part.data(), static_cast<std::streamsize>(bytes));
      file.seekp(kEntriesAt + 2 * sizeof part).write(part.data(), static_cast<std::streamsize>(bytes));
      ASSERT_TRUE(file.good());
    }
    start(usual_content(), {.flows = 16});
    const uint64_t torn = rig().lost(FlowLoss::torn), duplicates = rig().lost(FlowLoss::duplicate);
    EXPECT_EQ(torn + duplicates, 1u) << bytes;
    EXPECT_TRUE(torn == 1 || bytes > offsetof(NatEntry<V4>, tcp_delta)) << bytes;
    expect_goes_on(rig(), a);
    EXPECT_TRUE(rig().send_one(b.from_client().seq(1001).ack(5001)).flags & kRstFlag) << bytes;
    stop();
    std::filesystem::remove_all(directory_ / "tables");
    std::filesystem::remove(directory_ / kFlowsFile);
  }
}

// The store's own file decides whether entries are looked at.
TEST_F(Restart, AnythingElseStartsEmptyAndSaysWhy) {
  const std::pair<size_t, const char*> fields[] = {
      {offsetof(FlowsState, magic), "not a file of flows"},
      {offsetof(FlowsState, version), "another version"},
      {offsetof(FlowsState, flow_key), "checksum"},
      {offsetof(FlowsState, alive_ns) + 7, "no process has run"},
  };
  for (const auto& [offset, text] : fields) {
    start(usual_content());
    open(rig(), false, 1, kNat);
    stop();
    const std::string path = directory_ / kFlowsFile;
    FILE* file = std::fopen(path.c_str(), "r+");
    std::fseek(file, static_cast<long>(offset), SEEK_SET);
    std::fputc(0x55, file);
    std::fclose(file);
    start(usual_content());
    EXPECT_NE(rig().store().note().find(text), std::string::npos) << rig().store().note();
    EXPECT_EQ(rig().total(&WorkerCounters::flows), 0u);
    stop();
  }
}

// The same by a process that wrote its file well.
TEST_F(Restart, AnotherLayoutOrBootStartsEmptyAndSaysSo) {
  const std::pair<size_t, const char*> fields[] = {{offsetof(FlowsState, flow_layout), "layout"},
                                                   {offsetof(FlowsState, boot_id), "reboot"}};
  for (const auto& [offset, text] : fields) {
    start(usual_content());
    open(rig(), false, 1, kNat);
    stop();
    const auto state = std::make_unique<FlowsState>();
    std::fstream file(directory_ / kFlowsFile, std::ios::in | std::ios::out | std::ios::binary);
    file.read(reinterpret_cast<char*>(state.get()), sizeof(FlowsState));
    reinterpret_cast<char*>(state.get())[offset] ^= 1;
    state->checksum = XXH3_64bits(state.get(), offsetof(FlowsState, checksum));
    file.seekp(0).write(reinterpret_cast<const char*>(state.get()), sizeof(FlowsState));
    file.close();
    start(usual_content());
    EXPECT_NE(rig().store().note().find(text), std::string::npos) << rig().store().note();
    EXPECT_EQ(rig().total(&WorkerCounters::flows), 0u);
    stop();
  }
}

TEST_F(Restart, AnEmptiedRunDirectoryStartsEmpty) {
  start(usual_content());
  open(rig(), false, 1, kNat);
  stop();
  std::filesystem::remove(directory_ / kFlowsFile);
  start(usual_content());
  EXPECT_EQ(rig().total(&WorkerCounters::flows), 0u);
}

TEST_F(Restart, TwoProcessesNeverShareAStore) {
  start(usual_content());
  const FlowStoreRequest request{directory_, directory_ / "tables", 1, 1024, 1};
  EXPECT_THROW(FlowStore{request}, std::runtime_error);
}

}  // namespace
}  // namespace portico::test
