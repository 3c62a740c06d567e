// SPDX-License-Identifier: Apache-2.0
#include "control/web/access.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "contract/address.h"
#include "control/operator_state.h"
#include "control/printable.h"

namespace portico {
namespace {

// In a time that does not tell how much of it was right.
bool is_same(std::string_view given, std::string_view token) {
  if (given.size() != token.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < token.size(); ++i) difference |= static_cast<unsigned>(given[i] ^ token[i]);
  return difference == 0;
}

std::pair<std::string, std::string> parse_line(const std::string& line, const std::string& place) {
  std::istringstream words(line);
  std::string name, token, more;
  words >> name >> token >> more;
  if (token.empty() || !more.empty() || !is_printable(line))
    throw std::runtime_error(place + ": write NAME TOKEN, one of each");
  if (token.size() < kMinTokenLength)
    throw std::runtime_error(place + ": the token is shorter than " + std::to_string(kMinTokenLength) +
                             " characters; make one with `openssl rand -hex 24`");
  return {name, token};
}

}  // namespace

Access Access::from_file(const std::string& path) {
  Access access;
  if (path.empty()) return access;
  struct stat status {};
  if (stat(path.c_str(), &status) != 0)
    throw std::runtime_error("cannot read token file " + path + ": " + std::strerror(errno));
  if ((status.st_mode & 07) != 0)
    throw std::runtime_error("token file " + path + " is open to everybody; run `chmod 0640 " + path + "`");
  const auto text = read_whole(path);
  if (!text) throw std::runtime_error("cannot read token file " + path + ": may control read it?");
  std::istringstream lines(*text);
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty() || line.front() == '#') continue;
    access.tokens_.push_back(parse_line(line, path + ":" + std::to_string(number)));
  }
  if (access.tokens_.empty()) throw std::runtime_error("token file " + path + " has no token");
  return access;
}

std::optional<std::string> Access::who(const ApiRequest& request) const {
  constexpr std::string_view kScheme = "Bearer ";
  const std::string_view header = request.authorization;
  if (!header.starts_with(kScheme)) return std::nullopt;
  for (const auto& [name, token] : tokens_)
    if (is_same(header.substr(kScheme.size()), token)) return name;
  return std::nullopt;
}

bool is_direct(const ApiRequest& request) {
  std::string host = request.host;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end != std::string::npos && Address::parse(host.substr(1, end - 1)).has_value();
  }
  host = host.substr(0, host.find(':'));
  return host == "localhost" || Address::parse(host).has_value();
}

void check_listen(const std::string& endpoint, bool may_be_open, const std::string& remedy) {
  if (!is_loopback(endpoint) && !may_be_open)
    throw std::runtime_error(endpoint + " is not a loopback address: " + remedy);
}

}  // namespace portico
