// SPDX-License-Identifier: Apache-2.0
#include "dataplane/tap.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <rte_mbuf.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "contract/tap_interface.h"

namespace portico {
namespace {

constexpr int kMaxSegments = 16;

ifreq request_for(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof request.ifr_name - 1));
  return request;
}

}  // namespace

Tap::Tap(const std::string& name, const std::array<uint8_t, 6>& mac, uint32_t mtu)
    : name_(name), handle_(open_tap(name)) {
  if (!handle_.is_open()) {
    fail("the kernel gives no such interface",
         errno == EBUSY    ? "another process holds it: is a dataplane running on this port?"
         : errno == ENOENT ? "load the kernel's tun module (`modprobe tun`)"
                           : "run as root; if an interface of that name is something else, rename it");
  }
  configure(mac, mtu);
}

void Tap::configure(const std::array<uint8_t, 6>& mac, uint32_t mtu) {
  const FileHandle control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = request_for(name_);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  std::memcpy(request.ifr_hwaddr.sa_data, mac.data(), mac.size());
  if (ioctl(control.fd(), SIOCSIFHWADDR, &request) != 0)
    fail("it does not take the NIC's MAC address", "remove it with `ip link delete " + name_ + "`");
  request = request_for(name_);
  request.ifr_mtu = static_cast<int>(mtu);
  if (ioctl(control.fd(), SIOCSIFMTU, &request) != 0)
    fail("it does not take MTU " + std::to_string(mtu), "set the port's `mtu` lower");
}

void Tap::fail(const std::string& what, const std::string& remedy) const {
  throw std::runtime_error("tap " + name_ + ": " + what + ": " + std::strerror(errno) + "; " + remedy);
}

uint32_t Tap::write(rte_mbuf* const* packets, uint32_t count) {
  uint32_t taken = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (packets[i]->nb_segs > kMaxSegments) continue;
    iovec parts[kMaxSegments];
    int used = 0;
    for (rte_mbuf* m = packets[i]; m != nullptr; m = m->next)
      parts[used++] = {rte_pktmbuf_mtod(m, void*), rte_pktmbuf_data_len(m)};
    if (writev(handle_.fd(), parts, used) >= 0)
      ++taken;
    else if (errno != EINVAL)  // else this frame is broken, and others need not be
      break;
  }
  return taken;
}

HostDevice::Read Tap::read(rte_mempool* pool, rte_mbuf** packets, uint32_t room) {
  Read done;
  while (done.count + done.too_large < room) {
    rte_mbuf* const m = rte_pktmbuf_alloc(pool);
    if (m == nullptr) {
      done.lacks_buffers = true;
      break;
    }
    const uint16_t space = rte_pktmbuf_tailroom(m);
    // What somebody has made too large by raising the interface's MTU is cut off; the byte behind shows it.
    uint8_t beyond;
    const iovec parts[2] = {{rte_pktmbuf_mtod(m, void*), space}, {&beyond, 1}};
    const ssize_t size = readv(handle_.fd(), parts, 2);
    if (size <= 0 || size > space) {
      rte_pktmbuf_free(m);
      if (size <= 0) break;
      ++done.too_large;
      continue;
    }
    m->data_len = static_cast<uint16_t>(size);
    m->pkt_len = static_cast<uint32_t>(size);
    packets[done.count++] = m;
  }
  return done;
}

void Tap::set_link(bool up) {
  int carrier = up ? 1 : 0;
  ioctl(handle_.fd(), TUNSETCARRIER, &carrier);
}

}  // namespace portico
