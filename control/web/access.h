// SPDX-License-Identifier: Apache-2.0
// Who may read and who may act over HTTP on TCP.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/api/http_server.h"

namespace portico {

inline constexpr size_t kMinTokenLength = 16;

class Access {
 public:
  // Anybody may read on a loopback address, nobody may act.
  Access() = default;

  // `path`: a file with a line `NAME TOKEN` for each who may act; empty: nobody. Throws std::runtime_error if
  // it cannot be read, is open to everybody, or has a line that makes no sense.
  static Access from_file(const std::string& path);

  bool has_tokens() const { return !tokens_.empty(); }

  // The name that belongs to the token of `Authorization: Bearer TOKEN`.
  std::optional<std::string> who(const ApiRequest& request) const;

 private:
  std::vector<std::pair<std::string, std::string>> tokens_;  // name, token
};

// Whether a request was made to an address, or `localhost`, and not to a name that somebody's DNS may point
// here (DNS rebinding): a page of another site cannot send such a Host header.
bool is_direct(const ApiRequest& request);

// Throws std::runtime_error, with the remedy, for an address and port that must not be listened on:
// malformed, or beyond loopback where that is not allowed.
void check_listen(const std::string& endpoint, bool may_be_open, const std::string& remedy);

}  // namespace portico
