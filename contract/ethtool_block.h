// SPDX-License-Identifier: Apache-2.0
// Questions to an interface's driver by ethtool's ioctl.
#pragma once

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>

#include <string>
#include <vector>

#include "contract/interface_facts.h"

namespace portico {

// A structure of <linux/ethtool.h> that ends in an array whose length is known at run time only.
template <typename Head>
class EthtoolBlock {
 public:
  EthtoolBlock(uint32_t command, size_t tail_bytes) : words_((sizeof(Head) + tail_bytes + 7) / 8) {
    head()->cmd = command;
  }
  Head* head() { return reinterpret_cast<Head*>(words_.data()); }
  bool exchange(const std::string& interface) {
    ifreq ask{};
    ask.ifr_data = reinterpret_cast<char*>(words_.data());
    return interface_ioctl(SIOCETHTOOL, interface, ask);
  }

 private:
  std::vector<uint64_t> words_;
};

}  // namespace portico
