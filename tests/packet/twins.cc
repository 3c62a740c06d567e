// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/twins.h"

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <stdexcept>

#include "dataplane/core.h"

namespace portico {

// Sees what no counter tells.
struct WorkerProbe {
  static WorkerCore& core(Worker& worker) { return *worker.core_; }
};

}  // namespace portico

namespace portico::test {

namespace {

constexpr HashKey kFlowKey{{0x0123456789abcdef, 0xfedcba9876543210}};
constexpr uint32_t kFirstCursor = 7;

rte_mbuf* mbuf_of(const Given& given) {
  const size_t first = given.split == 0 ? given.frame.size() : std::min(given.split, given.frame.size());
  const auto segment = [&](size_t begin, size_t end) {
    rte_mbuf* const m = rte_pktmbuf_alloc(packet_pool());
    if (m == nullptr) throw std::runtime_error("no packet buffer");
    std::copy(given.frame.begin() + static_cast<long>(begin), given.frame.begin() + static_cast<long>(end),
              rte_pktmbuf_append(m, static_cast<uint16_t>(end - begin)));
    return m;
  };
  rte_mbuf* const m = segment(0, first);
  if (first < given.frame.size()) rte_pktmbuf_chain(m, segment(first, given.frame.size()));
  m->port = given.port;
  m->ol_flags = given.ol_flags;
  m->hash.usr = given.user;
  return m;
}

Bytes first_segment(const rte_mbuf* m) {
  const auto* const data = rte_pktmbuf_mtod(m, const uint8_t*);
  return Bytes(data, data + m->data_len);
}

std::string difference_of(const rte_mbuf* a, const rte_mbuf* b) {
  if (first_segment(a) != first_segment(b)) return "bytes";
  if (a->pkt_len != b->pkt_len || a->nb_segs != b->nb_segs) return "length";
  if (a->port != b->port) return "port of arrival";
  return a->ol_flags == b->ol_flags ? "" : "flags";
}

std::string difference_of(const PacketBuffer& a, const PacketBuffer& b) {
  if (a.count != b.count) return std::to_string(a.count) + " and " + std::to_string(b.count) + " frames";
  for (uint32_t i = 0; i < a.count; ++i) {
    const std::string found = difference_of(a.packets[i], b.packets[i]);
    if (!found.empty()) return "frame " + std::to_string(i) + ": " + found;
  }
  return "";
}

std::string difference_of(const Output& a, const Output& b) {
  if (a.ports_used != b.ports_used || a.workers_used != b.workers_used) return "buffers used";
  std::string found = difference_of(a.kernel, b.kernel);
  if (!found.empty()) return "to the kernel: " + found;
  for (uint32_t i = 0; i < kMaxPorts && a.ports_used != 0; ++i) {
    if (found = difference_of(a.ports[i], b.ports[i]); !found.empty())
      return "port " + std::to_string(i) + ": " + found;
  }
  for (uint32_t i = 0; i < kMaxWorkers && a.workers_used != 0; ++i) {
    if (found = difference_of(a.workers[i], b.workers[i]); !found.empty())
      return "worker " + std::to_string(i) + ": " + found;
  }
  return "";
}

// Of structures that are nothing but 64-bit counters.
template <typename T>
std::string word_difference(const char* what, const T& a, const T& b, size_t bytes = sizeof(T)) {
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    uint64_t x, y;
    std::memcpy(&x, reinterpret_cast<const char*>(&a) + at, sizeof x);
    std::memcpy(&y, reinterpret_cast<const char*>(&b) + at, sizeof y);
    if (x != y)
      return std::string(what) + " word " + std::to_string(at / sizeof x) + ": " + std::to_string(x) +
             " and " + std::to_string(y);
  }
  return "";
}

std::string difference_of(const WorkerCounters& a, const WorkerCounters& b, uint16_t highest_id) {
  std::string found = word_difference("counter", a, b, offsetof(WorkerCounters, services));
  for (uint16_t id = 0; id <= highest_id && found.empty(); ++id) {
    found = word_difference("service's counter", a.services[id], b.services[id]);
    if (found.empty()) found = word_difference("backend's counter", a.backends[id], b.backends[id]);
  }
  return found;
}

template <typename F>
std::string find_by_keys(WorkerCore& core, const DsrFlows<F>& flows, uint32_t reference) {
  const DsrEntry<F>& e = flows[reference];
  const auto is_it = [&](const DsrEntry<F>& other) { return &other == &e; };
  const uint64_t hash = F::hash(core.flow_key, e.client, e.client_port, e.vip, e.vip_port);
  return flows.find(hash, 0, is_it) == reference ? "" : "not under its key";
}
template <typename F>
std::string find_by_keys(WorkerCore& core, const NatFlows<F>& flows, uint32_t reference) {
  const NatEntry<F>& e = flows[reference];
  const auto is_it = [&](const NatEntry<F>& other) { return &other == &e; };
  const uint64_t client = F::hash(core.flow_key, e.client, e.client_port, e.vip, e.vip_port);
  const uint64_t backend = F::hash(core.flow_key, e.backend_address, e.backend_port, e.nat, e.nat_port);
  const bool is_found =
      flows.find(client, 0, is_it) == reference && flows.find(backend, 0, is_it) == reference;
  return is_found ? "" : "not under its keys";
}

// Entries are the same bytes in the same places: the free ones are lists, of which the order shows next time.
template <typename Flows>
std::string difference_of(WorkerCore& core_b, const Flows* a, const Flows* b) {
  if (a == nullptr || b == nullptr) return a == b ? "" : "only one has any";
  if (a->highest() != b->highest() || a->size() != b->size())
    return std::to_string(a->size()) + " and " + std::to_string(b->size());
  for (uint32_t r = 1; r <= a->highest(); ++r) {
    const auto &x = (*a)[r], &y = (*b)[r];
    if (!std::ranges::equal(std::as_bytes(std::span(&x, 1)), std::as_bytes(std::span(&y, 1))))
      return std::to_string(r) + ", states " + std::to_string(static_cast<int>(x.vitals.state())) + " and " +
             std::to_string(static_cast<int>(y.vitals.state()));
    if (!b->is_live(r)) continue;
    if (const std::string found = find_by_keys(core_b, *b, r); !found.empty())
      return std::to_string(r) + " " + found;
  }
  return "";
}

template <typename F>
std::string nat_difference(const NatFlows<F>* a, const NatFlows<F>* b) {
  if (a == nullptr || b == nullptr) return "";
  for (uint16_t nat = 0; nat < kMaxNatAddresses; ++nat) {
    if (const_cast<NatFlows<F>*>(a)->cursor(nat) != const_cast<NatFlows<F>*>(b)->cursor(nat))
      return "cursor of NAT address " + std::to_string(nat);
  }
  return "";
}

template <typename F>
std::string flow_difference(WorkerCore& a, WorkerCore& b) {
  const auto *const nat_a = a.set<F>().nat.load(), *const nat_b = b.set<F>().nat.load();
  std::string found = difference_of<DsrFlows<F>>(b, a.set<F>().dsr.load(), b.set<F>().dsr.load());
  if (!found.empty()) return "dsr flow " + found;
  found = difference_of<NatFlows<F>>(b, nat_a, nat_b);
  return found.empty() ? nat_difference<F>(nat_a, nat_b) : "nat flow " + found;
}

std::string worker_difference(Worker& a, Worker& b, uint16_t highest_id) {
  std::string found = difference_of(a.output(), b.output());
  if (found.empty()) found = difference_of(a.counters(), b.counters(), highest_id);
  if (found.empty()) found = flow_difference<V4>(WorkerProbe::core(a), WorkerProbe::core(b));
  if (found.empty()) found = flow_difference<V6>(WorkerProbe::core(a), WorkerProbe::core(b));
  return found;
}

// Of the endpoint that has most of the NAT ports in use.
uint32_t fullest(Worker& worker) {
  uint32_t flows = 0;
  const auto look = [&](const auto* nat) {
    flows = nat == nullptr ? flows : std::max(flows, nat->use().fullest().flows);
  };
  look(WorkerProbe::core(worker).set<V4>().nat.load());
  look(WorkerProbe::core(worker).set<V6>().nat.load());
  return flows;
}

bool operator==(const std::optional<Unresolved>& a, const std::optional<Unresolved>& b) {
  if (!a || !b) return !a && !b;
  return a->address == b->address && a->port == b->port;
}

// Ports are handed out from the same one on.
template <typename F>
void set_cursors(WorkerCore& core) {
  auto* const nat = core.set<F>().nat.load();
  for (uint16_t i = 0; nat != nullptr && i < kMaxNatAddresses; ++i) nat->cursor(i) = kFirstCursor;
}

void take(PacketBuffer& buffer, Sent::To to, uint32_t index, std::vector<Sent>* sent) {
  for (uint32_t i = 0; i < buffer.count; ++i) {
    if (sent != nullptr)
      sent->push_back({to, index, first_segment(buffer.packets[i]), buffer.packets[i]->hash.usr});
    rte_pktmbuf_free(buffer.packets[i]);
  }
  buffer.count = 0;
}

void take(Output& output, std::vector<Sent>* sent) {
  for (uint32_t i = 0; i < kMaxPorts && output.ports_used != 0; ++i)
    take(output.ports[i], Sent::To::port, i, sent);
  for (uint32_t i = 0; i < kMaxWorkers && output.workers_used != 0; ++i)
    take(output.workers[i], Sent::To::worker, i, sent);
  take(output.kernel, Sent::To::kernel, 0, sent);
  output.ports_used = output.workers_used = 0;
}

}  // namespace

Twins::Twins(WorkerConfig config, const Table& table, uint16_t highest_id) : highest_id_(highest_id) {
  config.huge_pages = false;
  config.pool = packet_pool();
  config.flow_key = kFlowKey;
  struct Way {
    bool short_ways, vectors, are_flows_near;
  };
  for (const Way way : {Way{false, false, true}, Way{true, false, true}, Way{true, true, false}}) {
    config.short_ways = way.short_ways;
    config.vectors = way.vectors;
    config.near_bytes = way.are_flows_near ? ~uint64_t{0} : 0;
    workers_.push_back(std::make_unique<Worker>(config));
    workers_.back()->prepare(table);
    set_cursors<V4>(WorkerProbe::core(*workers_.back()));
    set_cursors<V6>(WorkerProbe::core(*workers_.back()));
  }
}

Twins::~Twins() {
  for (auto& worker : workers_) take(worker->output(), nullptr);
}

void Twins::prepare(const Table& table) {
  for (auto& worker : workers_) worker->prepare(table);
}

void Twins::move_flows(std::mt19937& random, uint32_t workers) {
  std::vector<MovedFlows::Place> places;
  workers_[0]->list_flows(places);
  for (MovedFlows::Place& place : places) place.worker = static_cast<uint32_t>(random() % workers);
  const auto moved = std::make_shared<const MovedFlows>(places);
  for (auto& worker : workers_) worker->set_moved_flows(moved);
}

void Twins::process(const std::vector<Given>& burst, bool were_handed_over, const Table* table,
                    uint64_t now) {
  for (auto& worker : workers_) {
    std::vector<rte_mbuf*> mbufs;
    mbufs.reserve(burst.size());
    for (const Given& given : burst) mbufs.push_back(mbuf_of(given));
    const auto n = static_cast<uint32_t>(mbufs.size());
    were_handed_over ? worker->process_handed_over(mbufs.data(), n, table, now)
                     : worker->process(mbufs.data(), n, table, now);
  }
}

void Twins::sweep(const Table& table, uint64_t now) {
  for (auto& worker : workers_) worker->sweep(table, now);
}

std::string Twins::difference() {
  constexpr const char* kNames[] = {"", "portable", "vector"};
  for (size_t i = 1; i < workers_.size(); ++i) {
    const std::string found = worker_difference(*workers_[0], *workers_[i], highest_id_);
    if (!found.empty()) return std::string(kNames[i]) + " short ways: " + found;
  }
  return resolve_difference();
}

std::string Twins::difference_in_use() {
  for (size_t i = 1; i < workers_.size(); ++i) {
    if (fullest(*workers_[0]) != fullest(*workers_[i])) return "use of the fullest endpoint";
  }
  return "";
}

std::string Twins::resolve_difference() {
  for (bool is_empty = false; !is_empty;) {
    const auto wanted = workers_[0]->resolve_queue().pop();
    is_empty = !wanted;
    for (size_t i = 1; i < workers_.size(); ++i) {
      if (!(workers_[i]->resolve_queue().pop() == wanted)) return "address to resolve";
    }
  }
  return "";
}

std::vector<Sent> Twins::take_output() {
  std::vector<Sent> sent;
  for (size_t i = 0; i < workers_.size(); ++i) take(workers_[i]->output(), i == 0 ? &sent : nullptr);
  return sent;
}

namespace {

// Where a frame's IP header is.
size_t ip_offset(const Bytes& frame) {
  size_t at = 12;
  for (int tags = 0; tags < 2 && frame.size() > at + 5; ++tags, at += 4) {
    const int type = frame[at] << 8 | frame[at + 1];
    if (type != 0x8100 && type != 0x88a8) break;
  }
  return at + 2;
}

}  // namespace

bool has_right_ip_sum(const Bytes& frame) {
  const size_t ip = ip_offset(frame);
  if (frame.size() < ip + 20 || frame[ip] >> 4 != 4) return true;
  const auto begin = frame.begin() + static_cast<long>(ip);
  const size_t header = static_cast<size_t>(frame[ip] & 15) * 4;
  return frame.size() >= ip + header &&
         internet_sum(Bytes(begin, begin + static_cast<long>(header))) == 0xffff;
}

uint16_t residue_of(const Bytes& frame) {
  const size_t ip = ip_offset(frame);
  if (frame.size() < ip + 20) return 0;
  const bool is_v6 = frame[ip] >> 4 == 6;
  const auto word = [&](size_t at) { return static_cast<size_t>(frame[at] << 8 | frame[at + 1]); };
  if (is_v6 && frame.size() < ip + 40) return 0;
  size_t l4 = ip + (is_v6 ? 40u : static_cast<size_t>(frame[ip] & 15) * 4);
  const size_t end = ip + (is_v6 ? 40 + word(ip + 4) : word(ip + 2));
  uint8_t protocol = frame[ip + (is_v6 ? 6 : 9)];
  while (is_v6 && (protocol == 0 || protocol == 43 || protocol == 60) && l4 + 8 <= frame.size()) {
    protocol = frame[l4];
    l4 += (frame[l4 + 1] + 1u) * 8;
  }
  if (end > frame.size() || l4 + 8 > end || (protocol != 6 && protocol != 1 && protocol != 58)) return 0;
  const auto begin = frame.begin() + static_cast<long>(ip);
  Bytes covered;
  if (protocol != 1) {
    covered.assign(begin + (is_v6 ? 8 : 12), begin + (is_v6 ? 40 : 20));
    const size_t size = end - l4;
    covered.insert(covered.end(), {static_cast<uint8_t>(size >> 8), static_cast<uint8_t>(size), 0, protocol});
  }
  covered.insert(covered.end(), frame.begin() + static_cast<long>(l4),
                 frame.begin() + static_cast<long>(end));
  const uint16_t sum = internet_sum(covered);
  return sum == 0 ? 0xffff : sum;
}

Bytes unwrapped(const Bytes& frame) {
  const size_t ip = ip_offset(frame);
  if (frame.size() < ip + 40) return frame;
  const bool is_v6 = frame[ip] >> 4 == 6;
  const uint8_t protocol = frame[ip + (is_v6 ? 6 : 9)];
  size_t begin = ip + (is_v6 ? 40 : 20);
  if (protocol == 17 && frame.size() > begin + 12) {
    begin += 8;                                           // UDP
    begin += 4 + (frame[begin] & 0x1f) * std::size_t{4};  // GUE and its private data
  } else if (protocol != 4 && protocol != 41) {
    return frame;
  }
  if (begin > frame.size()) return frame;
  Bytes inner(frame.begin(), frame.begin() + static_cast<long>(ip));
  inner.insert(inner.end(), frame.begin() + static_cast<long>(begin), frame.end());
  return inner;
}

}  // namespace portico::test
