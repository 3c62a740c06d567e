// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 server on a Unix socket or a TCP address, within bounds that no client can widen: sizes of
// headers and bodies, number of connections, time for each request. What it refuses itself has the error body
// of docs/api.md, too. At the limit of connections the one that is silent for longest makes room.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace boost::asio {
class io_context;
}

namespace portico {

inline constexpr uint32_t kMaxApiConnections = 64;
inline constexpr uint32_t kMaxApiHeaderBytes = 8192;
inline constexpr uint32_t kMaxApiBodyBytes = 65536;
inline constexpr uint32_t kApiTimeoutSeconds = 5;  // for a whole request, an answer, or silence between two

// Who is at the other end of a Unix socket (SO_PEERCRED, SO_PEERGROUPS).
struct Peer {
  uint32_t uid = 0;
  std::vector<uint32_t> groups;  // primary and supplementary
};

struct ApiRequest {
  std::string method;  // "GET"
  std::string path;    // percent-decoded, without the query: "/v1/status"
  std::string query;   // as sent, without '?'
  std::string body;
  std::optional<Peer> peer;  // nothing over TCP
};

struct ApiResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
};

// Answers a request, now or later, once. Runs on the io_context's thread.
using ApiRespond = std::function<void(ApiResponse)>;
using ApiHandler = std::function<void(const ApiRequest&, ApiRespond)>;

// Lives on the io_context's thread. Destroying it ends its connections.
class HttpServer {
 public:
  // Listens on a Unix socket; a leftover of a dead process is replaced. Mode 0660. Throws std::runtime_error
  // with path, reason and remedy.
  static std::unique_ptr<HttpServer> on_unix(boost::asio::io_context& io, const std::string& path,
                                             ApiHandler handler);
  // Listens on "address:port" ("[address]:port" for IPv6); loopback only. Throws std::runtime_error.
  static std::unique_ptr<HttpServer> on_tcp(boost::asio::io_context& io, const std::string& endpoint,
                                            ApiHandler handler);
  virtual ~HttpServer() = default;
};

// A query's or a path's percent-encoded text. nullopt if it is malformed.
std::optional<std::string> percent_decode(std::string_view text);
// The decoded value of a key in "a=1&b=2"; nullopt if it is not there or malformed.
std::optional<std::string> query_value(std::string_view query, std::string_view key);

}  // namespace portico
