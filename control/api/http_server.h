// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 server on a Unix socket or a TCP address, within bounds that no client can widen: sizes of
// headers and bodies, number of connections, time for each request. What it refuses itself has the error body
// of docs/api.md, too. At the limit of connections the one that is silent for longest makes room. Answers may
// be streams without an end; a client that does not take what it is sent in time loses its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boost::asio {
class io_context;
}

namespace portico {

inline constexpr uint32_t kMaxApiConnections = 64;
inline constexpr uint32_t kMaxApiHeaderBytes = 8192;
inline constexpr uint32_t kMaxApiBodyBytes = 65536;
inline constexpr uint32_t kMaxApiFileBytes = 16u << 20;  // of a body that is a configuration: kFilePath
inline constexpr std::string_view kFilePath = "/v1/plan";
inline constexpr uint32_t kApiTimeoutSeconds = 5;  // for a whole request, an answer, or silence between two
inline constexpr uint32_t kMaxApiStreams = 16;     // of the connections
inline constexpr uint32_t kStreamPeriodMs = 100;   // between two looks for something to send
inline constexpr uint32_t kStreamTimeoutSeconds = 10;  // for a client to take one piece
inline constexpr uint32_t kStreamSilenceSeconds = 15;  // then a comment finds out whether it is still there

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
  std::string host;          // of the headers
  std::string authorization;
  std::string who;  // over TCP: the holder of the token that came along, set by who has checked it
};

// The next piece of an answer without an end; null: nothing new now. Asked only when the piece before has
// been sent, so a slow client costs two pieces of memory, of which many clients may share each.
using ApiStream = std::function<std::shared_ptr<const std::string>()>;

struct ApiResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};  // more than type, length and no-store
  ApiStream stream = {};                                          // instead of the body
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
  // Listens on "address:port" ("[address]:port" for IPv6). Throws std::runtime_error.
  static std::unique_ptr<HttpServer> on_tcp(boost::asio::io_context& io, const std::string& endpoint,
                                            ApiHandler handler);
  virtual ~HttpServer() = default;
};

// Whether "address:port" is of this host alone. Throws std::runtime_error if it is no address and port.
bool is_loopback(const std::string& endpoint);

// A query's or a path's percent-encoded text. nullopt if it is malformed.
std::optional<std::string> percent_decode(std::string_view text);
// The decoded value of a key in "a=1&b=2"; nullopt if it is not there or malformed.
std::optional<std::string> query_value(std::string_view query, std::string_view key);

}  // namespace portico
