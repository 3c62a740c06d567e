// SPDX-License-Identifier: Apache-2.0
#include "contract/interface_facts.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "contract/ethtool_block.h"
#include "contract/run_dir.h"

namespace portico {
namespace {

// Asks by one of <linux/ethtool.h>'s structures, whose `cmd` says what for.
template <typename Question>
bool ask_driver(const std::string& interface, Question& question) {
  ifreq ask{};
  ask.ifr_data = reinterpret_cast<char*>(&question);
  return interface_ioctl(SIOCETHTOOL, interface, ask);
}

// One more than the highest queue that the interface's redirection table names; 0: it has none.
uint32_t spread_queues_of(const std::string& interface) {
  EthtoolBlock<ethtool_rxfh_indir> head(ETHTOOL_GRXFHINDIR, 0);
  if (!head.exchange(interface) || head.head()->size == 0) return 0;
  const uint32_t size = head.head()->size;
  EthtoolBlock<ethtool_rxfh_indir> table(ETHTOOL_GRXFHINDIR, size * sizeof(uint32_t));
  table.head()->size = size;
  if (!table.exchange(interface)) return 0;
  const uint32_t* const queues = table.head()->ring_index;
  return 1 + *std::max_element(queues, queues + size);
}

}  // namespace

bool interface_ioctl(unsigned long request, const std::string& interface, ifreq& ask) {
  if (interface.size() >= sizeof ask.ifr_name) return false;
  const FileHandle handle(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::memcpy(ask.ifr_name, interface.c_str(), interface.size() + 1);
  return handle.is_open() && ioctl(handle.fd(), request, &ask) == 0;
}

InterfaceFacts interface_facts(const std::string& interface) {
  InterfaceFacts facts;
  ifreq ask{};
  facts.exists = interface_ioctl(SIOCGIFFLAGS, interface, ask);
  if (!facts.exists) return facts;
  facts.is_up = (ask.ifr_flags & IFF_UP) != 0;
  facts.is_loopback = (ask.ifr_flags & IFF_LOOPBACK) != 0;
  if (interface_ioctl(SIOCGIFMTU, interface, ask)) facts.mtu = static_cast<uint32_t>(ask.ifr_mtu);
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (ask_driver(interface, channels)) {
    facts.rx_queues = channels.rx_count + channels.combined_count;
    facts.has_combined_queues = channels.max_combined != 0;
  }
  facts.spread_queues = std::min(spread_queues_of(interface), facts.rx_queues);
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  if (ask_driver(interface, driver))
    facts.driver.assign(driver.driver, strnlen(driver.driver, sizeof driver.driver));
  return facts;
}

std::string queues_command(const std::string& interface, const InterfaceFacts& facts, uint32_t queues) {
  if (facts.spread_queues != 0 && facts.spread_queues < queues && queues <= facts.rx_queues)
    return spread_command(interface, queues);
  const std::string count = std::to_string(queues), command = "ethtool -L " + interface;
  if (facts.has_combined_queues) return command + " combined " + count;
  return command + " rx " + count + " tx " + count;
}

std::string spread_command(const std::string& interface, uint32_t queues) {
  return "ethtool -X " + interface + " equal " + std::to_string(queues);
}

}  // namespace portico
