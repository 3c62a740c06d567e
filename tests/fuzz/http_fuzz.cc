// SPDX-License-Identifier: Apache-2.0
// Any bytes on the API's socket: the server answers or closes, and hands its handler only requests that keep
// its bounds. Each input is one connection, whose client then says no more.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <string>

#include "control/api/http_server.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void handle(const ApiRequest& request, const ApiRespond& respond) {
  require(request.peer.has_value());
  require(request.body.size() <= (request.path == kFilePath ? kMaxApiFileBytes : kMaxApiBodyBytes));
  require(request.method.size() + request.path.size() + request.query.size() <= kMaxApiHeaderBytes);
  const auto value = query_value(request.query, "client");
  require(!value || value->size() <= request.query.size());
  ApiResponse response;
  response.body = request.path + (value ? *value : "");
  respond(std::move(response));
}

class Server {
 public:
  Server() : path_(dir_.path() / "control.sock"), server_(HttpServer::on_unix(io_, path_, handle)) {}

  void take(const uint8_t* data, size_t size) {
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    require(client >= 0 && connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    const ssize_t sent = send(client, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    require(sent == static_cast<ssize_t>(size));
    shutdown(client, SHUT_WR);
    io_.restart();
    while (io_.poll() > 0) continue;
    char answer[4096];
    while (recv(client, answer, sizeof answer, MSG_DONTWAIT) > 0) continue;
    close(client);
    io_.restart();
    while (io_.poll() > 0) continue;
  }

 private:
  TempDir dir_;
  std::string path_;
  boost::asio::io_context io_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace
}  // namespace portico::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static portico::test::Server server;
  server.take(data, size);
  return 0;
}
