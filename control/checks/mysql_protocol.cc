// SPDX-License-Identifier: Apache-2.0
#include "control/checks/mysql_protocol.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>

namespace portico {
namespace {

// Capability flags.
constexpr uint32_t kLongPassword = 0x1;
constexpr uint32_t kProtocol41 = 0x200;
constexpr uint32_t kSecureConnection = 0x8000;
constexpr uint32_t kPluginAuth = 0x80000;

constexpr size_t kNonceSize = 20;
constexpr size_t kMaxText = 200;
constexpr uint8_t kUtf8mb4 = 45;  // utf8mb4_general_ci

// Reads from the front of a packet; every read past its end fails, and all after it.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  size_t left() const { return rest_.size(); }

  std::string bytes(size_t count) {
    if (count > rest_.size()) {
      ok_ = false;
      rest_ = {};
    }
    const auto part = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(part.size());
    return {part.begin(), part.end()};
  }

  uint32_t integer(size_t size) {
    uint32_t value = 0, shift = 0;
    for (const char byte : bytes(size)) {
      value |= uint32_t{static_cast<uint8_t>(byte)} << shift;
      shift += 8;
    }
    return value;
  }

  std::string until_nul() {
    const auto nul = std::find(rest_.begin(), rest_.end(), uint8_t{0});
    if (nul == rest_.end()) {
      ok_ = false;
      return {};
    }
    std::string text = bytes(static_cast<size_t>(nul - rest_.begin()));
    bytes(1);
    return text;
  }

  std::string all() { return bytes(rest_.size()); }

 private:
  std::span<const uint8_t> rest_;
  bool ok_ = true;
};

// Text of the server for logs and screens: no control characters, no end of it.
std::string printable(std::string text) {
  if (text.size() > kMaxText) text.resize(kMaxText);
  for (char& c : text)
    if (c < ' ' || c > '~') c = '?';
  return text;
}

// After the 0xff. Errors before the login carry no SQL state.
MysqlError parse_error(Reader& in) {
  MysqlError error;
  error.code = static_cast<uint16_t>(in.integer(2));
  std::string text = in.all();
  if (text.starts_with('#') && text.size() >= 6) text.erase(0, 6);
  error.text = printable(text);
  return error;
}

void append_integer(std::string& out, uint32_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

std::string sha1(std::string_view a, std::string_view b = {}) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool done = context != nullptr && EVP_DigestInit_ex(context, EVP_sha1(), nullptr) == 1 &&
                    EVP_DigestUpdate(context, a.data(), a.size()) == 1 &&
                    EVP_DigestUpdate(context, b.data(), b.size()) == 1 &&
                    EVP_DigestFinal_ex(context, digest.data(), &size) == 1;
  EVP_MD_CTX_free(context);
  if (!done) throw std::runtime_error("the cryptographic library offers no SHA-1");
  return {digest.begin(), digest.begin() + size};
}

}  // namespace

MysqlHeader parse_mysql_header(std::span<const uint8_t, kMysqlHeaderSize> bytes) {
  return {bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16, bytes[3]};
}

MysqlFirstPacket parse_mysql_greeting(std::span<const uint8_t> payload) {
  Reader in(payload);
  const uint32_t protocol = in.integer(1);
  if (in.ok() && protocol == 0xff) {
    MysqlError error = parse_error(in);
    if (in.ok()) return error;
    return MysqlMalformed{"its error packet is cut short"};
  }
  if (!in.ok() || protocol != 10) return MysqlMalformed{"what it sends first is no MySQL greeting"};

  MysqlGreeting greeting;
  greeting.version = printable(in.until_nul());
  in.integer(4);  // connection id
  greeting.nonce = in.bytes(8);
  in.bytes(1);
  greeting.capabilities = in.integer(2);
  in.bytes(3);  // character set, status
  greeting.capabilities |= in.integer(2) << 16;
  const uint32_t nonce_size = in.integer(1);
  in.bytes(10);
  if (!in.ok()) return MysqlMalformed{"its greeting is cut short"};
  if ((greeting.capabilities & kProtocol41) == 0 || (greeting.capabilities & kSecureConnection) == 0)
    return MysqlMalformed{"it speaks a protocol older than MySQL 4.1"};
  // The second part has max(13, size - 8) bytes with a final NUL; only 12 of them are ever used.
  if (nonce_size != 0 && nonce_size < kNonceSize) return MysqlMalformed{"its login nonce is too short"};
  greeting.nonce += in.bytes(kNonceSize - 8);
  if (!in.ok()) return MysqlMalformed{"its greeting is cut short"};
  return greeting;
}

MysqlLoginReply parse_mysql_login_reply(std::span<const uint8_t> payload) {
  Reader in(payload);
  const uint32_t kind = in.integer(1);
  if (!in.ok()) return MysqlMalformed{"its answer to the login is empty"};
  switch (kind) {
    case 0x00:
      return MysqlOk{};
    case 0x01:
      return MysqlAuthMoreData{};
    case 0xff: {
      MysqlError error = parse_error(in);
      if (in.ok()) return error;
      return MysqlMalformed{"its error packet is cut short"};
    }
    case 0xfe: {
      if (in.left() == 0) return MysqlAuthSwitch{"mysql_old_password", {}};
      MysqlAuthSwitch wanted;
      wanted.plugin = printable(in.until_nul());
      wanted.nonce = in.all();
      if (!in.ok()) return MysqlMalformed{"its answer to the login is cut short"};
      if (wanted.nonce.ends_with('\0')) wanted.nonce.pop_back();
      return wanted;
    }
    default:
      return MysqlMalformed{"its answer to the login is none of the protocol"};
  }
}

std::string mysql_packet(uint8_t sequence, std::string_view payload) {
  std::string packet;
  append_integer(packet, static_cast<uint32_t>(payload.size()), 3);
  packet.push_back(static_cast<char>(sequence));
  packet.append(payload);
  return packet;
}

std::string mysql_login_packet(const MysqlGreeting& greeting, std::string_view user,
                               std::string_view password) {
  const uint32_t wanted = kLongPassword | kProtocol41 | kSecureConnection | kPluginAuth;
  const uint32_t capabilities = wanted & (greeting.capabilities | kLongPassword);
  const std::string scramble = mysql_native_scramble(password, greeting.nonce);
  std::string payload;
  append_integer(payload, capabilities, 4);
  append_integer(payload, 1 << 24, 4);  // largest packet it may send
  payload.push_back(static_cast<char>(kUtf8mb4));
  payload.append(23, '\0');
  payload.append(user);
  payload.push_back('\0');
  payload.push_back(static_cast<char>(scramble.size()));
  payload.append(scramble);
  if (capabilities & kPluginAuth) payload.append("mysql_native_password").push_back('\0');
  return mysql_packet(1, payload);
}

std::string mysql_quit_packet() {
  return mysql_packet(0, "\x01");
}

std::string mysql_native_scramble(std::string_view password, std::string_view nonce) {
  if (password.empty()) return {};
  std::string scramble = sha1(password);
  const std::string mask = sha1(nonce.substr(0, kNonceSize), sha1(scramble));
  for (size_t i = 0; i < scramble.size(); ++i) scramble[i] = static_cast<char>(scramble[i] ^ mask[i]);
  return scramble;
}

bool is_mysql_login_refusal(uint16_t code) {
  switch (code) {
    case 1044:  // ER_DBACCESS_DENIED_ERROR
    case 1045:  // ER_ACCESS_DENIED_ERROR
    case 1251:  // ER_NOT_SUPPORTED_AUTH_MODE
    case 1524:  // ER_PLUGIN_IS_NOT_LOADED: the account's
    case 1698:  // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    case 1862:  // ER_MUST_CHANGE_PASSWORD_LOGIN
    case 3118:  // ER_ACCOUNT_HAS_BEEN_LOCKED, MySQL
    case 3159:  // ER_SECURE_TRANSPORT_REQUIRED: this login comes without TLS
    case 4151:  // ER_ACCOUNT_HAS_BEEN_LOCKED, MariaDB
      return true;
    default:
      return false;
  }
}

}  // namespace portico
