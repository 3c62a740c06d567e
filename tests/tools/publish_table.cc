// SPDX-License-Identifier: Apache-2.0
// A table publisher for tests and experiments: reads lines, publishes what they describe, stays and keeps the
// heartbeat. Plays control without health checks, netlink or addresses.
//
//   publish_table RUN_DIR < LINES
//
//   workers N | flows N | mbufs N | worker-cpus LIST | huge-pages on|off | idle poll|adaptive | instance NAME
//   port NAME [DEVARGS]
//   next-hop ADDRESS MAC SOURCE_MAC PORT_INDEX [VLAN]    MAC "-": unresolved
//   route PREFIX NEXT_HOP_INDEX | route PREFIX on-link PORT_INDEX
//   pool NAME [serve|reset|drop]
//   backend NAME POOL ADDRESS NEXT_HOP_INDEX [WEIGHT [forward|finish|reset]]
//   service NAME POOL nat|dsr-l2 [connection|client]
//   listen SERVICE ADDRESS PORT
//   allow SERVICE PREFIX
//   nat ADDRESS FIRST_PORT LAST_PORT
//   publish      publishes all lines since the start or the last `clear`, answers "generation N"
//   clear        forgets them; names keep their ids
//
// A line that is wrong is answered with "error: ..." and ends the program with status 1.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "contract/publisher.h"

namespace portico {
namespace {

constexpr uint32_t kSlots = 1009;  // prime; enough for even shares of a few backends

[[noreturn]] void wrong(const std::string& text) {
  throw std::runtime_error(text);
}

template <size_t N>
void set_text(char (&field)[N], const std::string& text) {
  if (text.size() >= N) wrong("too long: " + text);
  std::memset(field, 0, N);
  std::memcpy(field, text.data(), text.size());
}

// The words of one line, taken from the left.
class Words {
 public:
  explicit Words(const std::string& line) : stream_(line) {}

  std::string text(const char* what) {
    std::string word;
    if (!(stream_ >> word)) wrong(std::string("missing ") + what);
    return word;
  }
  std::string optional_text(const std::string& otherwise) {
    std::string word;
    return stream_ >> word ? word : otherwise;
  }
  uint32_t number(const char* what) { return to_number(text(what), what); }
  uint32_t optional_number(uint32_t otherwise, const char* what) {
    const std::string word = optional_text("");
    return word.empty() ? otherwise : to_number(word, what);
  }
  Address address() {
    const std::string word = text("address");
    const auto address = Address::parse(word);
    if (!address) wrong("not an address: " + word);
    return *address;
  }
  Prefix prefix() {
    const std::string word = text("prefix");
    const auto prefix = Prefix::parse(word);
    if (!prefix) wrong("not a prefix: " + word);
    return *prefix;
  }
  // The position of the word among `words`, from 1, as the contract's enums count.
  uint8_t choice(const std::string& word, std::initializer_list<const char*> words) {
    uint8_t value = 0;
    for (const char* candidate : words) {
      ++value;
      if (word == candidate) return value;
    }
    wrong("unknown word: " + word);
  }

 private:
  static uint32_t to_number(const std::string& word, const char* what) {
    char* end = nullptr;
    const unsigned long value = std::strtoul(word.c_str(), &end, 10);
    if (word.empty() || *end != '\0' || value > UINT32_MAX)
      wrong(std::string("not a number for ") + what + ": " + word);
    return static_cast<uint32_t>(value);
  }
  std::istringstream stream_;
};

// Ids that stay with their names.
class Ids {
 public:
  uint16_t of(const std::string& name) {
    return ids_.try_emplace(name, static_cast<uint16_t>(ids_.size())).first->second;
  }

 private:
  std::map<std::string, uint16_t> ids_;
};

class Description {
 public:
  Description() { clear(); }
  void clear();
  void read(const std::string& line);
  TableContent content() const;

 private:
  bool read_setting(const std::string& verb, Words& words);
  void read_next_hop(Words& words);
  void read_route(Words& words);
  void read_backend(Words& words);
  void read_service(Words& words);
  TableContent::Pool& pool(const std::string& name);

  TableContent content_;
  std::map<uint16_t, TableContent::Pool> pools_;
  Ids service_ids_, pool_ids_, backend_ids_;
};

void Description::clear() {
  content_ = {};
  pools_.clear();
  SettingsRecord& settings = content_.settings;
  settings.hash_key[0] = 0x0123456789abcdef;
  settings.hash_key[1] = 0xfedcba9876543210;
  settings.workers = 1;
  settings.flows = 4096;
  settings.idle = static_cast<uint8_t>(IdleMode::adaptive);
  settings.huge_pages = static_cast<uint8_t>(HugePages::off);
  settings.reset_rate = 1000;
  settings.timeout_syn_ms = 30'000;
  settings.timeout_closing_ms = 10'000;
  settings.timeout_half_closed_ms = 240'000;
  settings.gue_port = kDefaultGuePort;
  settings.fragments = static_cast<uint8_t>(Fragments::reassemble);
  set_text(settings.instance, "test");
}

bool Description::read_setting(const std::string& verb, Words& words) {
  SettingsRecord& settings = content_.settings;
  if (verb == "workers")
    settings.workers = words.number("workers");
  else if (verb == "flows")
    settings.flows = words.number("flows");
  else if (verb == "mbufs")
    settings.mbufs = words.number("mbufs");
  else if (verb == "worker-cpus")
    set_text(settings.worker_cpus, words.text("list"));
  else if (verb == "instance")
    set_text(settings.instance, words.text("name"));
  else if (verb == "huge-pages")
    settings.huge_pages = words.choice(words.text("on or off"), {"on", "off"});
  else if (verb == "idle")
    settings.idle = words.choice(words.text("poll or adaptive"), {"poll", "adaptive"});
  else
    return false;
  return true;
}

void Description::read_next_hop(Words& words) {
  NextHopRecord hop{};
  const auto mac = [&words](uint8_t(&bytes)[6]) {
    const std::string word = words.text("MAC");
    if (word == "-") return false;
    unsigned b[6];
    if (std::sscanf(word.c_str(), "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6) {
      wrong("not a MAC address: " + word);
    }
    for (int i = 0; i < 6; ++i) bytes[i] = static_cast<uint8_t>(b[i]);
    return true;
  };
  hop.address = words.address();
  hop.resolved = mac(hop.mac) ? 1 : 0;
  mac(hop.source_mac);
  hop.port = static_cast<uint16_t>(words.number("port"));
  hop.vlan = static_cast<uint16_t>(words.optional_number(0, "VLAN"));
  hop.mtu = 1500;
  content_.next_hops.push_back(hop);
}

void Description::read_route(Words& words) {
  const Prefix prefix = words.prefix();
  RouteRecord route{};
  route.prefix = prefix.address;
  route.length = prefix.length;
  const std::string hop = words.text("next hop");
  if (hop == "on-link") {
    route.on_link = 1;
    route.next_hop = kNone;
    route.port = static_cast<uint16_t>(words.number("port"));
  } else {
    route.next_hop = static_cast<uint16_t>(std::stoul(hop));
    if (route.next_hop < content_.next_hops.size()) route.port = content_.next_hops[route.next_hop].port;
  }
  content_.routes.push_back(route);
}

TableContent::Pool& Description::pool(const std::string& name) {
  const uint16_t id = pool_ids_.of(name);
  TableContent::Pool& pool = pools_[id];
  if (pool.record.lookup_size == 0) {
    pool.record.id = id;
    pool.record.disposition = static_cast<uint8_t>(PoolDisposition::serve);
    pool.record.lookup_size = kSlots;
    set_text(pool.record.name, name);
  }
  return pool;
}

void Description::read_backend(Words& words) {
  BackendRecord backend{};
  const std::string name = words.text("name");
  TableContent::Pool& its_pool = pool(words.text("pool"));
  backend.id = backend_ids_.of(name);
  backend.pool = its_pool.record.id;
  set_text(backend.name, name);
  const Address address = words.address();
  const auto hop = static_cast<uint16_t>(words.number("next hop"));
  (address.is_v4() ? backend.address_v4 : backend.address_v6) = address;
  backend.next_hop_v4 = address.is_v4() ? hop : kNone;
  backend.next_hop_v6 = address.is_v4() ? kNone : hop;
  backend.weight = static_cast<uint16_t>(words.optional_number(100, "weight"));
  backend.disposition = words.choice(words.optional_text("forward"), {"forward", "finish", "reset"});
  its_pool.backends.push_back(backend);
}

void Description::read_service(Words& words) {
  ServiceRecord service{};
  const std::string name = words.text("name");
  service.id = service_ids_.of(name);
  set_text(service.name, name);
  service.pool = pool(words.text("pool")).record.id;
  service.mode = words.choice(words.text("mode"), {"nat", "dsr-l2"});
  service.affinity = words.choice(words.optional_text("connection"), {"connection", "client"});
  service.affinity_prefix_v6 = 64;
  service.source_prefix_v4 = 32;
  service.source_prefix_v6 = 64;
  if (words.optional_text("") == "proxy-v2") service.proxy_protocol = static_cast<uint8_t>(ProxyProtocol::v2);
  service.access_list = kNone;
  service.idle_timeout_ms = 7'440'000;
  content_.services.push_back(service);
}

void Description::read(const std::string& line) {
  Words words(line);
  const std::string verb = words.optional_text("");
  if (verb.empty() || verb[0] == '#' || read_setting(verb, words)) return;
  if (verb == "port") {
    PortRecord port{};
    set_text(port.name, words.text("name"));
    set_text(port.devargs, words.optional_text(""));
    content_.ports.push_back(port);
  } else if (verb == "next-hop") {
    read_next_hop(words);
  } else if (verb == "route") {
    read_route(words);
  } else if (verb == "pool") {
    TableContent::Pool& its = pool(words.text("name"));
    its.record.disposition = words.choice(words.optional_text("serve"), {"serve", "reset", "drop"});
  } else if (verb == "backend") {
    read_backend(words);
  } else if (verb == "service") {
    read_service(words);
  } else if (verb == "listen") {
    const uint16_t service = service_ids_.of(words.text("service"));
    const Address address = words.address();
    content_.listeners.push_back({address, static_cast<uint16_t>(words.number("port")), service, 0});
  } else if (verb == "allow") {
    const uint16_t service = service_ids_.of(words.text("service"));
    const Prefix prefix = words.prefix();
    content_.access.push_back({prefix.address, service, prefix.length, 1, 0});
    for (ServiceRecord& record : content_.services) {
      if (record.id == service) record.access_list = service;
    }
  } else if (verb == "nat") {
    const Address address = words.address();
    const auto first = static_cast<uint16_t>(words.number("first port"));
    content_.nat.push_back({address, first, static_cast<uint16_t>(words.number("last port")), 0});
  } else {
    wrong("unknown word: " + verb);
  }
}

// In the order that the contract asks for. Slots name the backends that have weight in turn.
TableContent Description::content() const {
  TableContent content = content_;
  for (PortRecord& port : content.ports) port.queues = content.settings.workers;
  std::sort(content.services.begin(), content.services.end(),
            [](const ServiceRecord& a, const ServiceRecord& b) { return a.id < b.id; });
  std::sort(content.listeners.begin(), content.listeners.end(),
            [](const ListenerRecord& a, const ListenerRecord& b) {
              return std::tie(a.address, a.port) < std::tie(b.address, b.port);
            });
  std::sort(content.routes.begin(), content.routes.end(), [](const RouteRecord& a, const RouteRecord& b) {
    return std::tie(a.prefix, a.length) < std::tie(b.prefix, b.length);
  });
  std::sort(content.access.begin(), content.access.end(), [](const AccessRecord& a, const AccessRecord& b) {
    return std::tie(a.list, a.prefix, a.length) < std::tie(b.list, b.prefix, b.length);
  });
  for (const auto& [id, described] : pools_) {
    TableContent::Pool pool = described;
    std::sort(pool.backends.begin(), pool.backends.end(),
              [](const BackendRecord& a, const BackendRecord& b) { return a.id < b.id; });
    std::vector<uint16_t> usable;
    for (const BackendRecord& backend : pool.backends) {
      if (backend.weight > 0) usable.push_back(backend.id);
    }
    for (uint32_t slot = 0; !usable.empty() && slot < kSlots; ++slot) {
      pool.lookup.push_back(usable[slot % usable.size()]);
    }
    content.pools.push_back(std::move(pool));
  }
  return content;
}

int serve_lines(const std::string& run_dir) {
  ensure_run_dir(run_dir);
  Publisher publisher(run_dir);
  std::mutex lock;
  std::jthread heartbeat([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      {
        const std::lock_guard guard(lock);
        publisher.heartbeat();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  });
  Description description;
  uint64_t config_version = 0;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "clear") {
      description.clear();
    } else if (line == "publish") {
      TableContent content = description.content();
      content.config_version = ++config_version;
      const std::lock_guard guard(lock);
      std::cout << "generation " << publisher.publish(content) << std::endl;
    } else {
      description.read(line);
    }
  }
  return 0;
}

}  // namespace
}  // namespace portico

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "Usage: publish_table RUN_DIR < LINES; the source says which lines\n");
    return 2;
  }
  try {
    return portico::serve_lines(argv[1]);
  } catch (const std::exception& error) {
    std::cout << "error: " << error.what() << std::endl;
    return 1;
  }
}
