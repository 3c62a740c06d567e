// SPDX-License-Identifier: Apache-2.0
// What a MySQL server, or something that plays one, says to a health check: first byte 0 a greeting, else the
// answer to a login. Text that is shown to people is printable and bounded; a login that is sent is whole.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <variant>

#include "control/checks/mysql_protocol.h"

namespace portico {
namespace {

constexpr size_t kLongestText = 200;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_text(const std::string& text) {
  require(text.size() <= kLongestText);
  for (const char c : text) require(c >= ' ' && c <= '~');
}

void check_login(const MysqlGreeting& greeting) {
  check_text(greeting.version);
  require(greeting.nonce.size() == 20);
  const std::string packet = mysql_login_packet(greeting, "portico", "secret");
  const auto* const bytes = reinterpret_cast<const uint8_t*>(packet.data());
  require(packet.size() > kMysqlHeaderSize);
  const MysqlHeader header = parse_mysql_header(std::span<const uint8_t, kMysqlHeaderSize>(bytes, 4));
  require(header.length == packet.size() - kMysqlHeaderSize && header.sequence == 1);
}

void check_greeting(std::span<const uint8_t> payload) {
  const MysqlFirstPacket first = parse_mysql_greeting(payload);
  if (const auto* greeting = std::get_if<MysqlGreeting>(&first)) check_login(*greeting);
  if (const auto* error = std::get_if<MysqlError>(&first)) check_text(error->text);
  if (const auto* malformed = std::get_if<MysqlMalformed>(&first)) require(!malformed->text.empty());
}

void check_reply(std::span<const uint8_t> payload) {
  const MysqlLoginReply reply = parse_mysql_login_reply(payload);
  if (const auto* error = std::get_if<MysqlError>(&reply)) check_text(error->text);
  if (const auto* wanted = std::get_if<MysqlAuthSwitch>(&reply)) {
    check_text(wanted->plugin);
    require(mysql_native_scramble("secret", wanted->nonce).size() == 20);
  }
}

}  // namespace
}  // namespace portico

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> payload(data + 1, size - 1);
  if (data[0] == 0)
    portico::check_greeting(payload);
  else
    portico::check_reply(payload);
  return 0;
}
