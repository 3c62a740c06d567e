// SPDX-License-Identifier: Apache-2.0
// A route netlink socket (rtnetlink(7)) with the few things that control's parts share: requests that wait
// for their answer, and attributes.
#pragma once

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "contract/address.h"

namespace portico {

// Called with each message of an answer or of news.
using NetlinkHandler = std::function<void(const nlmsghdr*)>;

// One request under construction. Its buffer is enough for every request of ours.
class NetlinkRequest {
 public:
  // `flags` besides NLM_F_REQUEST, e.g. NLM_F_DUMP.
  NetlinkRequest(uint16_t type, uint16_t flags);
  NetlinkRequest(const NetlinkRequest&) = delete;
  NetlinkRequest& operator=(const NetlinkRequest&) = delete;

  // Appends the fixed part, zeroed: ifaddrmsg, rtmsg, ndmsg and so on.
  template <typename Part>
  Part* fixed() {
    return static_cast<Part*>(mnl_nlmsg_put_extra_header(header_, sizeof(Part)));
  }
  void put(uint16_t attribute, const Address& address);
  void put_u8(uint16_t attribute, uint8_t value) { mnl_attr_put_u8(header_, attribute, value); }
  void put_u32(uint16_t attribute, uint32_t value) { mnl_attr_put_u32(header_, attribute, value); }
  void put(uint16_t attribute, size_t size, const void* bytes) {
    mnl_attr_put(header_, attribute, size, bytes);
  }
  nlmsghdr* header() { return header_; }

 private:
  std::array<char, 512> buffer_{};
  nlmsghdr* header_;
};

// Owns the socket. Not thread-safe.
class NetlinkSocket {
 public:
  // `groups`: RTMGRP_* of the news to get; 0 for a socket of requests. nullopt and errno on failure.
  static std::optional<NetlinkSocket> open(uint32_t groups);
  ~NetlinkSocket();
  NetlinkSocket(NetlinkSocket&& other) noexcept;
  NetlinkSocket& operator=(NetlinkSocket&&) = delete;

  int fd() const;

  // Sends and waits for the end of the answer or its acknowledgement. 0, or the errno that the kernel or the
  // socket gave. EINTR: a dump was inconsistent, because something changed meanwhile. An answer that comes
  // too late (EAGAIN, after 10 s) is never taken for that of a later request.
  int request(NetlinkRequest& request, const NetlinkHandler& handler = nullptr);

  // Takes in the news there is, without blocking. False if some was lost (ENOBUFS).
  bool receive_news(const NetlinkHandler& handler);

 private:
  explicit NetlinkSocket(mnl_socket* socket) : socket_(socket) {}
  int receive_answer(const NetlinkHandler& handler);
  void reopen();
  mnl_socket* socket_;
  uint32_t sequence_ = 0;
};

// The attributes of one message by number; null where absent.
template <size_t kCount>
using Attributes = std::array<const nlattr*, kCount>;

// Those that lie in `size` bytes one after the other. Unknown ones are left out.
template <size_t kCount>
Attributes<kCount> attributes_in(const void* bytes, size_t size) {
  Attributes<kCount> result{};
  const auto* at = static_cast<const char*>(bytes);
  for (size_t left = size; left >= sizeof(nlattr);) {
    const auto* attribute = reinterpret_cast<const nlattr*>(at);
    if (attribute->nla_len < sizeof(nlattr) || attribute->nla_len > left) break;
    if (mnl_attr_get_type(attribute) < kCount) result[mnl_attr_get_type(attribute)] = attribute;
    const size_t step = std::min<size_t>(MNL_ALIGN(attribute->nla_len), left);
    at += step;
    left -= step;
  }
  return result;
}

// Of a message whose fixed part is `fixed_size` bytes long.
template <size_t kCount>
Attributes<kCount> attributes(const nlmsghdr* message, size_t fixed_size) {
  const size_t skip = std::min<size_t>(MNL_ALIGN(fixed_size), mnl_nlmsg_get_payload_len(message));
  return attributes_in<kCount>(static_cast<const char*>(mnl_nlmsg_get_payload(message)) + skip,
                               mnl_nlmsg_get_payload_len(message) - skip);
}

// Of a nested attribute.
template <size_t kCount>
Attributes<kCount> nested_attributes(const nlattr* nest) {
  return attributes_in<kCount>(mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest));
}

// 0 if the attribute is absent or too short.
uint32_t attribute_u32(const nlattr* attribute);

// An address of 4 or 16 bytes; nullopt if the attribute is absent or of another length.
std::optional<Address> attribute_address(const nlattr* attribute);

// AF_INET or AF_INET6.
uint8_t address_family(const Address& address);

}  // namespace portico
