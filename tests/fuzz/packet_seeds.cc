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
    bytes_.push_back(control);
    bytes_.push_back(static_cast<uint8_t>(frame.size() >> 8));
    bytes_.push_back(static_cast<uint8_t>(frame.size()));
    bytes_.insert(bytes_.end(), frame.begin(), frame.end());
    return *this;
  }
  void write(const std::filesystem::path& path) const {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<long>(bytes_.size()));
  }

 private:
  Bytes bytes_;
};

struct Ends {
  const char *name, *client, *vip, *nat, *backend;
};

// The first port that worker 0 of 2 takes.
constexpr uint16_t kFirstNatPort = 1026;

void write_seeds(const std::filesystem::path& directory, const Ends& e) {
  const auto path = [&](const char* what) { return directory / (std::string(what) + "-" + e.name); };
  const auto client = [&](uint16_t port) { return Tcp(e.client, 40000, e.vip, port); };
  const auto backend = [&](int i) { return Tcp(e.backend + std::to_string(i), 443, e.nat, kFirstNatPort); };
  Script()
      .add(client(80).flags(kSynFlag))
      .add(client(80).ack(5), kPassTime)
      .add(client(80).ack(6), kReset | kSweep)
      .write(path("dsr"));
  Script nat;
  nat.add(client(443).flags(kSynFlag).options({2, 4, 5, 0xb4}));
  for (int i = 1; i <= 3; ++i) nat.add(backend(i).flags(kSynFlag).seq(9).ack(1001), kSecondWorker);
  nat.add(client(443).seq(1001).ack(10).payload("GET /")).add(client(443).flags(kFinFlag).ack(11), kPassTime);
  nat.add(client(443).ack(12), kReset | kSweep).write(path("nat"));
  Script icmp;
  icmp.add(client(443).flags(kSynFlag));
  const uint8_t type = e.vip[4] == ':' ? 1 : 3;
  for (int i = 1; i <= 3; ++i) {
    const Bytes sent = Tcp(e.nat, kFirstNatPort, e.backend + std::to_string(i), 443).flags(kSynFlag).ip();
    icmp.add(icmp_error(e.client, e.nat, type, sent, sent.size()));
  }
  const Bytes reply = Tcp(e.vip, 443, e.client, 40000).ack(1).ip();
  icmp.add(icmp_error(e.client, e.vip, type, reply, reply.size()), kSecondWorker).write(path("icmp"));
  Script().add(client(80).flags(kSynFlag).vlan(4).vlan(5)).add(client(443).ack(1)).write(path("odd"));
}

}  // namespace
}  // namespace portico::test

int main(int argc, char** argv) {
  using namespace portico::test;
  if (argc != 2) return std::fprintf(stderr, "usage: packet-seeds DIRECTORY\n"), 2;
  std::filesystem::create_directories(argv[1]);
  write_seeds(argv[1], {"v4", "203.0.113.7", "198.18.0.10", "198.18.0.20", "198.18.1."});
  write_seeds(argv[1], {"v6", "2001:db8:c::7", "2001:db8::10", "2001:db8::20", "2001:db8:1::"});
  Script()
      .add(Tcp("2001:db8:c::7", 1, "2001:db8::10", 80).flags(kSynFlag).extension(60, {1, 4, 0, 0, 0, 0}))
      .write(std::filesystem::path(argv[1]) / "extension");
  Script()
      .add(Tcp("203.0.113.7", 1, "198.18.0.10", 80).flags(kSynFlag).fragment(0x2000))
      .write(std::filesystem::path(argv[1]) / "fragment");
  return 0;
}
