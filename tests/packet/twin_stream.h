// SPDX-License-Identifier: Apache-2.0
// Random packets and tables from a seed: clients that open, use and close connections, the backends' answers
// to what was forwarded, and everything that is wrong with either.
#pragma once

#include <random>
#include <vector>

#include "tests/packet/twins.h"

namespace portico::test {

// A table of both modes and families, with an access list, affinity by client, few NAT ports, and a network
// without a MAC address.
TableContent twin_content();
inline constexpr uint16_t kHighestTwinId = 5;  // of services and backends

// Changes one thing that control may change. The content may then break a rule: to be tried.
void change(TableContent& content, std::mt19937& random);

class TwinStream {
 public:
  explicit TwinStream(std::mt19937& random)
      : random_(random), isns_(kFamilies * kClients * kPorts * kServices) {}

  std::vector<Given> burst(size_t frames);
  // Backends answer what has been sent to them.
  void learn(const std::vector<Sent>& sent);

 private:
  static constexpr size_t kFamilies = 2, kClients = 6, kPorts = 8, kServices = 6, kMostLearnt = 128;

  size_t below(size_t n) { return random_() % n; }
  bool one_in(size_t n) { return below(n) == 0; }
  Tcp from_client();
  Tcp from_backend();
  Bytes error();
  Bytes frame();
  void decorate(Tcp& tcp);
  void spoil(Given& given);

  std::mt19937& random_;
  std::vector<uint32_t> isns_;  // of the connections that clients have, by family, client, port and service
  std::vector<Bytes> learnt_;   // frames that went to backends
};

}  // namespace portico::test
