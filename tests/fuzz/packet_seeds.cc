// SPDX-License-Identifier: Apache-2.0
// Writes the packet fuzzer's seeds, made by the packet builder, into a directory: packet-seeds DIRECTORY.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/fuzz/packet_script.h"
#include "tests/packet/frame.h"

namespace portico::test {
namespace {

class Script {
 public:
  Script& add(const Bytes& frame, uint8_t control = 0) {
    steps_.push_back({control, frame});
    return *this;
  }
  void write(const std::filesystem::path& path) const {
    const Bytes bytes = write_script(steps_);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
  }

 private:
  std::vector<ScriptStep> steps_;
};

struct Ends {
  const char *name, *client, *vip, *nat, *backend, *stranger, *on_link;
};

// The ports that worker 0 of 2 takes, from a place of its own choice.
constexpr uint16_t kNatPorts[] = {kFirstNatPort, kFirstNatPort + 2};

// A flow's whole life; access lists; who asks with too few hops; more flows than there is room for.
void write_rarer_seeds(const std::filesystem::path& directory, const Ends& e) {
  const auto path = [&](const char* what) { return directory / (std::string(what) + "-" + e.name); };
  const auto client = [&](uint16_t from, uint16_t to) { return Tcp(e.client, from, e.vip, to); };
  Script life;
  life.add(client(5, 80).flags(kSynFlag)).add(client(5, 80).ack(1)).add(client(5, 80).flags(kFinFlag).ack(2));
  life.add(client(5, 80).flags(kSynFlag).seq(7), kPassTime).add(client(5, 80).flags(kRstFlag), kSweep);
  life.add(client(5, 80).flags(kSynFlag).seq(9)).add(client(5, 80).ack(3).ttl(1)).write(path("life"));
  Script allowed;
  allowed.add(client(6, 3306).flags(kSynFlag)).add(client(7, 3306).flags(kSynFlag));
  allowed.add(Tcp(e.stranger, 6, e.vip, 3306).flags(kSynFlag)).add(Tcp(e.stranger, 6, e.vip, 443).ack(4));
  allowed.add(Tcp(e.on_link, 6, e.vip, 443).ack(4), kNoTable).write(path("access"));
  Script flood;
  for (uint16_t port = 1; port <= 20; ++port)
    flood.add(client(port, 443).flags(kSynFlag), port & kSecondWorker);
  flood.add(client(1, 443).ack(5)).add(client(1, 443).payload("x").ack(6), kReset).write(path("flood"));
  Script unresolved;
  unresolved.add(Tcp(e.on_link, 9, e.vip, 443).flags(kSynFlag)).add(Tcp(e.on_link, 9, e.vip, 443).ack(1));
  unresolved.add(Tcp(e.on_link, 9, e.vip, 443).payload("x").ack(1), kReset | kPassTime);
  unresolved.add(Tcp(e.on_link, 9, e.vip, 80).ack(1), kSweep | kPassTime).write(path("unresolved"));
}

void write_seeds(const std::filesystem::path& directory, const Ends& e) {
  const auto path = [&](const char* what) { return directory / (std::string(what) + "-" + e.name); };
  const auto client = [&](uint16_t port) { return Tcp(e.client, 40000, e.vip, port); };
  const auto backend = [&](int i, uint16_t port) {
    return Tcp(e.backend + std::to_string(i), 443, e.nat, port);
  };
  Script()
      .add(client(80).flags(kSynFlag))
      .add(client(80).ack(5), kPassTime)
      .add(client(80).ack(6), kReset | kSweep)
      .write(path("dsr"));
  Script nat;
  nat.add(client(443).flags(kSynFlag).options({2, 4, 5, 0xb4}));
  for (const uint16_t port : kNatPorts)
    for (int i = 1; i <= 3; ++i) nat.add(backend(i, port).flags(kSynFlag).seq(9).ack(1001), kSecondWorker);
  nat.add(client(443).seq(1001).ack(10).payload("GET /")).add(client(443).flags(kFinFlag).ack(11), kPassTime);
  nat.add(client(443).ack(12), kReset | kSweep).write(path("nat"));
  Script proxy;
  proxy.add(client(443).flags(kSynFlag).options({34, 2, 1, 1}).payload("early"), kProxy);
  for (const uint16_t port : kNatPorts)
    for (int i = 1; i <= 3; ++i)
      proxy.add(backend(i, port).flags(kSynFlag).seq(9).ack(1001).options({3, 3, 7, 1}), kSecondWorker);
  proxy.add(client(443).seq(1001).ack(10).payload("GET /")).add(client(443).seq(1001).ack(10));
  for (const uint16_t port : kNatPorts)
    for (int i = 1; i <= 3; ++i)
      proxy.add(backend(i, port).seq(10).ack(990).options({5, 10, 0, 0, 3, 233, 0, 0, 3, 234, 1, 1}), kSweep);
  proxy.add(client(443).seq(1000).ack(10).payload("?")).add(client(443).flags(kRstFlag).seq(1001), kPassTime);
  proxy.write(path("proxy"));
  Script icmp;
  icmp.add(client(443).flags(kSynFlag));
  const uint8_t type = e.vip[4] == ':' ? 1 : 3;
  for (int i = 0; i < 6; ++i) {
    const std::string to = e.backend + std::to_string(1 + i / 2);
    const Bytes sent = Tcp(e.nat, kNatPorts[i % 2], to, 443).flags(kSynFlag).ip();
    icmp.add(icmp_error(e.client, e.nat, type, sent, sent.size()));
  }
  const Bytes reply = Tcp(e.vip, 443, e.client, 40000).ack(1).ip();
  icmp.add(icmp_error(e.client, e.vip, type, reply, reply.size()), kSecondWorker).write(path("icmp"));
  Script()
      .add(client(80).flags(kSynFlag).vlan(4).vlan(5))
      .add(client(80).flags(kSynFlag).vlan(5))
      .add(client(443).ack(1))
      .write(path("odd"));
  write_rarer_seeds(directory, e);
}

}  // namespace
}  // namespace portico::test

int main(int argc, char** argv) {
  using namespace portico::test;
  if (argc != 2) return std::fprintf(stderr, "usage: packet-seeds DIRECTORY\n"), 2;
  std::filesystem::create_directories(argv[1]);
  write_seeds(argv[1],
              {"v4", "203.0.113.7", "198.18.0.10", "198.18.0.20", "198.18.1.", "198.51.100.9", "192.0.2.9"});
  write_seeds(argv[1], {"v6", "2001:db8:c::7", "2001:db8::10", "2001:db8::20",
                        "2001:db8:1::", "2001:db8:d::9", "2001:db8:e::9"});
  Script()
      .add(Tcp("2001:db8:c::7", 1, "2001:db8::10", 80).flags(kSynFlag).extension(60, {1, 4, 0, 0, 0, 0}))
      .write(std::filesystem::path(argv[1]) / "extension");
  Script()
      .add(Tcp("203.0.113.7", 1, "198.18.0.10", 80).flags(kSynFlag).fragment(0x2000))
      .write(std::filesystem::path(argv[1]) / "fragment");
  return 0;
}
