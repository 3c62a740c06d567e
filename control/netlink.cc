// SPDX-License-Identifier: Apache-2.0
#include "control/netlink.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace portico {

namespace {

// The kernel fills dump messages up to 32 KiB where the reader takes as much.
constexpr size_t kReceiveSize = 32768;
// Room for a burst of news: thousands of neighbours or routes that change at once.
constexpr int kNewsBufferSize = 4 << 20;

int call_handler(const nlmsghdr* message, void* handler) {
  const auto& call = *static_cast<const NetlinkHandler*>(handler);
  if (call) call(message);
  return MNL_CB_OK;
}

// Null and errno on failure.
mnl_socket* open_socket(uint32_t groups) {
  mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (socket == nullptr) return nullptr;
  if (mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) != 0) {
    const int error = errno;
    mnl_socket_close(socket);
    errno = error;
    return nullptr;
  }
  const int fd = mnl_socket_get_fd(socket);
  if (groups == 0) {
    // The answer, or a dump's first part, is there when sending returns: only a lost one is waited for, and
    // control's one loop, with its heartbeat and checks, stands still meanwhile.
    const timeval patience{.tv_sec = 0, .tv_usec = 500'000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  } else {
    // Beyond net.core.rmem_max where we may; what does not fit is lost and read anew.
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kNewsBufferSize, sizeof kNewsBufferSize) != 0)
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kNewsBufferSize, sizeof kNewsBufferSize);
  }
  return socket;
}

// A datagram answers one request.
bool is_answer_to(uint32_t sequence, std::span<const char> datagram) {
  nlmsghdr first;
  if (datagram.size() < sizeof first) return false;
  std::memcpy(&first, datagram.data(), sizeof first);
  return first.nlmsg_seq == sequence;
}

}  // namespace

NetlinkRequest::NetlinkRequest(uint16_t type, uint16_t flags)
    : header_(mnl_nlmsg_put_header(buffer_.data())) {
  header_->nlmsg_type = type;
  header_->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
}

void NetlinkRequest::put(uint16_t attribute, const Address& address) {
  const size_t skip = address.is_v4() ? 12 : 0;
  mnl_attr_put(header_, attribute, address.bytes.size() - skip, address.bytes.data() + skip);
}

std::optional<NetlinkSocket> NetlinkSocket::open(uint32_t groups) {
  mnl_socket* socket = open_socket(groups);
  if (socket == nullptr) return std::nullopt;
  return NetlinkSocket(socket);
}

NetlinkSocket::~NetlinkSocket() {
  if (socket_ != nullptr) mnl_socket_close(socket_);
}

NetlinkSocket::NetlinkSocket(NetlinkSocket&& other) noexcept
    : socket_(std::exchange(other.socket_, nullptr)), sequence_(other.sequence_) {}

int NetlinkSocket::fd() const {
  return mnl_socket_get_fd(socket_);
}

int NetlinkSocket::request(NetlinkRequest& request, const NetlinkHandler& handler) {
  nlmsghdr* header = request.header();
  // A dump ends by itself, everything else by its acknowledgement. (One bit of NLM_F_DUMP alone is
  // NLM_F_EXCL.)
  if ((header->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) header->nlmsg_flags |= NLM_F_ACK;
  header->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_, header, header->nlmsg_len) < 0) return errno;
  return receive_answer(handler);
}

int NetlinkSocket::receive_answer(const NetlinkHandler& handler) {
  std::vector<char> buffer(kReceiveSize);
  auto* argument = const_cast<NetlinkHandler*>(&handler);
  for (int result = MNL_CB_OK; result > MNL_CB_STOP;) {
    const ssize_t size = mnl_socket_recvfrom(socket_, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;  // by a signal
    if (size < 0) {
      const int error = errno;
      reopen();
      return error;
    }
    const auto length = static_cast<size_t>(size);
    if (!is_answer_to(sequence_, {buffer.data(), length})) continue;
    result =
        mnl_cb_run(buffer.data(), length, sequence_, mnl_socket_get_portid(socket_), call_handler, argument);
    if (result < 0) return errno;
  }
  return 0;
}

// What still comes to the old socket, a dump that goes on for instance, is lost with it.
void NetlinkSocket::reopen() {
  mnl_socket* fresh = open_socket(0);
  if (fresh == nullptr) return;
  mnl_socket_close(socket_);
  socket_ = fresh;
}

bool NetlinkSocket::receive_news(const NetlinkHandler& handler) {
  std::vector<char> buffer(kReceiveSize);
  auto* argument = const_cast<NetlinkHandler*>(&handler);
  for (;;) {
    const ssize_t size = recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno != ENOBUFS;
    // Sequence and port 0: news answer no request.
    mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, 0, call_handler, argument);
  }
}

uint32_t attribute_u32(const nlattr* attribute) {
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) < sizeof(uint32_t)) return 0;
  return mnl_attr_get_u32(attribute);
}

std::optional<Address> attribute_address(const nlattr* attribute) {
  if (attribute == nullptr) return std::nullopt;
  const void* bytes = mnl_attr_get_payload(attribute);
  switch (mnl_attr_get_payload_len(attribute)) {
    case 4: {
      uint32_t v4;
      std::memcpy(&v4, bytes, sizeof v4);
      return Address::from_v4(v4);
    }
    case 16:
      return Address::from_v6(bytes);
    default:
      return std::nullopt;
  }
}

uint8_t address_family(const Address& address) {
  return address.is_v4() ? AF_INET : AF_INET6;
}

}  // namespace portico
