// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/frame.h"

#include <cstdio>

namespace portico::test {

namespace {

void put16(Bytes& out, uint32_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void put32(Bytes& out, uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}
void set16(Bytes& out, size_t at, uint32_t value) {
  out[at] = static_cast<uint8_t>(value >> 8);
  out[at + 1] = static_cast<uint8_t>(value);
}
uint16_t get16(const Bytes& in, size_t at) {
  return static_cast<uint16_t>(in.at(at) << 8 | in.at(at + 1));
}
uint32_t get32(const Bytes& in, size_t at) {
  return static_cast<uint32_t>(get16(in, at)) << 16 | get16(in, at + 2);
}
void append(Bytes& out, const Bytes& more) {
  out.insert(out.end(), more.begin(), more.end());
}

Bytes wire(const Address& a) {
  return a.is_v4() ? Bytes(a.bytes.begin() + 12, a.bytes.end()) : Bytes(a.bytes.begin(), a.bytes.end());
}

Bytes pseudo_header(const Address& source, const Address& destination, size_t size, uint8_t protocol) {
  Bytes out = wire(source);
  append(out, wire(destination));
  put32(out, static_cast<uint32_t>(size));
  put32(out, protocol);
  return out;
}

uint16_t checksum(const Bytes& bytes) {
  return static_cast<uint16_t>(~internet_sum(bytes));
}

Bytes ipv4_header(const Address& source, const Address& destination, uint8_t protocol, uint8_t ttl,
                  uint16_t fragment, const Bytes& options, size_t payload) {
  Bytes out;
  put16(out, 0x4000u | static_cast<uint32_t>((20 + options.size()) / 4) << 8);
  put16(out, static_cast<uint32_t>(20 + options.size() + payload));
  put16(out, 0x1234);
  put16(out, fragment);
  put16(out, static_cast<uint32_t>(ttl << 8 | protocol));
  put16(out, 0);
  append(out, wire(source));
  append(out, wire(destination));
  append(out, options);
  set16(out, 10, checksum(out));
  return out;
}

Bytes ipv6_header(const Address& source, const Address& destination, uint8_t next, uint8_t ttl,
                  size_t payload) {
  Bytes out;
  put32(out, 0x60000000);
  put16(out, static_cast<uint32_t>(payload));
  put16(out, static_cast<uint32_t>(next << 8 | ttl));
  append(out, wire(source));
  append(out, wire(destination));
  return out;
}

Bytes frame_of(const Bytes& ip, const std::vector<uint16_t>& vlans) {
  Bytes out = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0xcc};
  for (const uint16_t vlan : vlans) {
    put16(out, 0x8100);
    put16(out, vlan);
  }
  put16(out, ip.at(0) >> 4 == 6 ? 0x86dd : 0x0800);
  append(out, ip);
  return out;
}

std::string mac_text(const Bytes& frame, size_t at) {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", frame[at], frame[at + 1], frame[at + 2],
                frame[at + 3], frame[at + 4], frame[at + 5]);
  return text;
}

void read_tcp(Seen& seen, const Bytes& segment) {
  seen.source_port = get16(segment, 0);
  seen.destination_port = get16(segment, 2);
  if (segment.size() < 20) return;
  seen.seq = get32(segment, 4);
  seen.ack = get32(segment, 8);
  const size_t header = static_cast<size_t>(segment[12] >> 4) * 4;
  seen.flags = segment[13];
  seen.window = static_cast<uint16_t>(get16(segment, 14));
  if (segment.size() < header) return;
  seen.options = Bytes(segment.begin() + 20, segment.begin() + static_cast<long>(header));
  seen.payload = std::string(segment.begin() + static_cast<long>(header), segment.end());
}

}  // namespace

uint16_t internet_sum(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    sum += i % 2 == 0 ? static_cast<uint32_t>(bytes[i]) << 8 : bytes[i];
    if (sum > 0xffff) sum -= 0xffff;
  }
  return static_cast<uint16_t>(sum);
}

void mend_ip_sum(Bytes& frame) {
  if (frame.size() < 34 || frame[12] != 8 || frame[13] != 0) return;
  const size_t header = static_cast<size_t>(frame[14] & 15) * 4;
  if (header < 20 || frame.size() < 14 + header) return;
  frame[24] = frame[25] = 0;
  set16(frame, 24, checksum(Bytes(frame.begin() + 14, frame.begin() + 14 + static_cast<long>(header))));
}

Tcp::Tcp(const std::string& source, uint16_t source_port, const std::string& destination,
         uint16_t destination_port)
    : source_(Address::parse(source).value()),
      destination_(Address::parse(destination).value()),
      source_port_(source_port),
      destination_port_(destination_port) {}

Bytes Tcp::segment() const {
  Bytes out;
  put16(out, source_port_);
  put16(out, destination_port_);
  put32(out, seq_);
  put32(out, ack_);
  put16(out, static_cast<uint32_t>((20 + options_.size()) / 4) << 12 | flags_);
  put16(out, window_);
  put32(out, 0);
  append(out, options_);
  append(out, Bytes(payload_.begin(), payload_.end()));
  Bytes covered = pseudo_header(source_, destination_, out.size(), 6);
  append(covered, out);
  set16(out, 16, checksum(covered));
  return out;
}

Bytes Tcp::ip() const {
  Bytes rest = segment();
  uint8_t next = protocol_;
  for (auto e = extensions_.rbegin(); e != extensions_.rend(); ++e) {
    Bytes header = {next, static_cast<uint8_t>(e->second.size() / 8)};
    append(header, e->second);  // 6 bytes, or 8 more each
    append(header, rest);
    rest = header;
    next = e->first;
  }
  Bytes out = source_.is_v4()
                  ? ipv4_header(source_, destination_, protocol_, ttl_, fragment_, ip_options_, rest.size())
                  : ipv6_header(source_, destination_, next, ttl_, rest.size());
  append(out, rest);
  return out;
}

Tcp::operator Bytes() const {
  return frame_of(ip(), vlans_);
}

Bytes icmp_error(const std::string& source, const std::string& destination, uint8_t type, const Bytes& packet,
                 size_t embedded) {
  const Address from = Address::parse(source).value(), to = Address::parse(destination).value();
  Bytes message = {type, 1, 0, 0, 0, 0, 0, 0};
  append(message,
         Bytes(packet.begin(), packet.begin() + static_cast<long>(std::min(embedded, packet.size()))));
  Bytes covered = from.is_v4() ? Bytes{} : pseudo_header(from, to, message.size(), 58);
  append(covered, message);
  set16(message, 2, checksum(covered));
  Bytes ip = from.is_v4() ? ipv4_header(from, to, 1, 64, 0, {}, message.size())
                          : ipv6_header(from, to, 58, 64, message.size());
  append(ip, message);
  return frame_of(ip, {});
}

Seen read_ip(const Bytes& packet) {
  Seen seen;
  const bool is_v6 = packet.at(0) >> 4 == 6;
  const size_t header = is_v6 ? 40 : static_cast<size_t>(packet[0] & 15) * 4;
  const size_t total = is_v6 ? 40u + get16(packet, 4) : get16(packet, 2);
  const bool is_whole = packet.size() >= total;
  const auto address = [&](size_t at) {
    if (is_v6) return Address::from_v6(packet.data() + at);
    uint32_t word;
    std::memcpy(&word, packet.data() + at, 4);
    return Address::from_v4(word);
  };
  const Address source = address(is_v6 ? 8 : 12), destination = address(is_v6 ? 24 : 16);
  seen.source = to_string(source);
  seen.destination = to_string(destination);
  seen.ttl = packet[is_v6 ? 7 : 8];
  seen.protocol = packet[is_v6 ? 6 : 9];
  size_t at = header;
  while (is_v6 && (seen.protocol == 0 || seen.protocol == 60)) {
    seen.protocol = packet.at(at);
    at += (packet.at(at + 1) + 1u) * 8;
  }
  const Bytes rest(packet.begin() + static_cast<long>(at),
                   packet.begin() + static_cast<long>(std::min(total, packet.size())));
  seen.checksums_right =
      is_v6 || internet_sum(Bytes(packet.begin(), packet.begin() + static_cast<long>(header))) == 0xffff;
  if (is_whole) {
    Bytes covered =
        seen.protocol == 1 ? Bytes{} : pseudo_header(source, destination, rest.size(), seen.protocol);
    append(covered, rest);
    seen.checksums_right = seen.checksums_right && internet_sum(covered) == 0xffff;
  }
  if (seen.protocol == 6) read_tcp(seen, rest);
  if (seen.protocol == 1 || seen.protocol == 58) seen.icmp_embedded = Bytes(rest.begin() + 8, rest.end());
  return seen;
}

Seen read_frame(const Bytes& frame) {
  size_t at = 12;
  int vlan = 0;
  if (get16(frame, at) == 0x8100) {
    vlan = get16(frame, at + 2);
    at += 4;
  }
  const Bytes ip(frame.begin() + static_cast<long>(at) + 2, frame.end());
  Seen seen = read_ip(ip);
  seen.ip = ip;
  seen.mac = mac_text(frame, 0);
  seen.own_mac = mac_text(frame, 6);
  seen.vlan = vlan;
  seen.frame_size = frame.size();
  return seen;
}

}  // namespace portico::test
