// SPDX-License-Identifier: Apache-2.0
// The part of the MySQL client/server protocol that a health check speaks: greeting, login, quit. Pure
// parsing and building of packets, bounded: nothing here trusts a length the server sent. After the
// "MySQL Client/Server Protocol" and MariaDB "Connection Protocol" documentation.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace portico {

// A packet is a 3-byte little-endian length, a sequence number, and that many bytes of payload.
inline constexpr size_t kMysqlHeaderSize = 4;
// No answer to a login is longer; greetings are about 100 bytes.
inline constexpr uint32_t kMysqlMaxPayload = 4096;

struct MysqlHeader {
  uint32_t length;  // of the payload, bytes
  uint8_t sequence;
};
MysqlHeader parse_mysql_header(std::span<const uint8_t, kMysqlHeaderSize> bytes);

struct MysqlGreeting {
  std::string version;        // made printable
  uint32_t capabilities = 0;  // CLIENT_... flags of the server
  std::string nonce;          // 20 bytes
};

struct MysqlError {
  uint16_t code = 0;
  std::string text;  // made printable, at most 200 bytes
};

// A packet that breaks the protocol; `text` says how.
struct MysqlMalformed {
  std::string text;
};

struct MysqlOk {};

// The server wants the login by another plugin than the one offered.
struct MysqlAuthSwitch {
  std::string plugin;  // made printable
  std::string nonce;   // as sent, without its final NUL
};

// A plugin's own message: its dialogue is not spoken here.
struct MysqlAuthMoreData {};

using MysqlFirstPacket = std::variant<MysqlGreeting, MysqlError, MysqlMalformed>;
using MysqlLoginReply = std::variant<MysqlOk, MysqlError, MysqlAuthSwitch, MysqlAuthMoreData, MysqlMalformed>;

// What a server sends first: a greeting of protocol 10, or an error ("Too many connections").
MysqlFirstPacket parse_mysql_greeting(std::span<const uint8_t> payload);

// What it answers to the login.
MysqlLoginReply parse_mysql_login_reply(std::span<const uint8_t> payload);

// Whole packets, header included.
std::string mysql_login_packet(const MysqlGreeting& greeting, std::string_view user,
                               std::string_view password);
std::string mysql_packet(uint8_t sequence, std::string_view payload);
std::string mysql_quit_packet();

// mysql_native_password: SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password))); empty for no password.
std::string mysql_native_scramble(std::string_view password, std::string_view nonce);

// True for an error by which a server refuses a login it has looked at: it is alive.
bool is_mysql_login_refusal(uint16_t code);

}  // namespace portico
