// SPDX-License-Identifier: Apache-2.0
#include "control/api/http_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

namespace portico {
namespace {

// A server that echoes what it understood, and plain sockets that talk to it.
class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/portico-http-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    server_ = HttpServer::on_unix(io_, path(), [](const ApiRequest& request, const ApiRespond& respond) {
      respond({200, "text/plain",
               request.method + " " + request.path + "?" + request.query + " " +
                   std::to_string(request.body.size()) + " uid " +
                   (request.peer ? std::to_string(request.peer->uid) : "none")});
    });
    thread_ = std::thread([this] { io_.run(); });
  }
  void TearDown() override {
    io_.stop();
    thread_.join();
    server_.reset();
    std::filesystem::remove_all(dir_);
  }
  std::string path() const { return dir_ / "control.sock"; }

  int connect() const {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  // Sends, and reads until the server closes.
  std::string talk(const std::string& request) const {
    const int fd = connect();
    send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) answer.append(buffer, static_cast<size_t>(n));
    close(fd);
    return answer;
  }
  static std::string get(const std::string& target) {
    return "GET " + target + " HTTP/1.1\r\nHost: portico\r\nConnection: close\r\n\r\n";
  }

  std::filesystem::path dir_;
  boost::asio::io_context io_{1};
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

TEST_F(HttpServerTest, AnswersWithPathQueryBodyAndPeer) {
  const std::string answer = talk(get("/v1/a%20b?x=1&y=%2F"));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find("GET /v1/a b?x=1&y=%2F 0 uid " + std::to_string(getuid())), std::string::npos)
      << answer;
}

TEST_F(HttpServerTest, KeepsAConnectionForSeveralRequests) {
  const std::string one = "POST /p HTTP/1.1\r\nHost: p\r\nContent-Length: 3\r\n\r\nabc";
  const std::string answer = talk(one + one + get("/last"));
  size_t count = 0;
  for (size_t at = 0; (at = answer.find("HTTP/1.1 200", at)) != std::string::npos; ++at) ++count;
  EXPECT_EQ(count, 3u) << answer;
}

TEST_F(HttpServerTest, RefusesWhatIsTooLargeOrNoHttp) {
  EXPECT_TRUE(talk("GET / HTTP/1.1\r\nX: " + std::string(2 * kMaxApiHeaderBytes, 'x') + "\r\n\r\n")
                  .starts_with("HTTP/1.1 431"));
  EXPECT_TRUE(talk("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n").starts_with("HTTP/1.1 413"));
  EXPECT_TRUE(talk("\x16\x03\x01 hello\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(talk(get("/%zz")).starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(talk(get("http://elsewhere/")).starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(talk(get("/still-there")).starts_with("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, SurvivesClientsThatLeaveInTheMiddle) {
  for (const char* part :
       {"", "G", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"}) {
    const int fd = connect();
    send(fd, part, strlen(part), MSG_NOSIGNAL);
    close(fd);
  }
  EXPECT_TRUE(talk(get("/")).starts_with("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, RefusalsHaveTheErrorBody) {
  for (const std::string& request :
       {"GET / HTTP/1.1\r\nX: " + std::string(2 * kMaxApiHeaderBytes, 'x') + "\r\n\r\n",
        std::string("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"), std::string("no HTTP\r\n\r\n"),
        get("/%zz")}) {
    const std::string answer = talk(request);
    EXPECT_NE(answer.find("\r\nContent-Type: application/json\r\n"), std::string::npos) << answer;
    const auto body = nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4), nullptr, false);
    ASSERT_TRUE(body.is_object()) << answer;
    EXPECT_FALSE(body.value("error", "").empty()) << answer;
    EXPECT_FALSE(body.value("remedy", "").empty()) << answer;
  }
}

TEST_F(HttpServerTest, SilentConnectionsDoNotLockOthersOut) {
  std::vector<int> silent;
  for (uint32_t i = 0; i < kMaxApiConnections; ++i) silent.push_back(connect());
  EXPECT_TRUE(talk(get("/")).starts_with("HTTP/1.1 200")) << "the limit is reached, nobody says anything";
  char byte;
  EXPECT_LE(read(silent.front(), &byte, 1), 0) << "the one that is silent for longest was closed";
  EXPECT_EQ(recv(silent.back(), &byte, 1, MSG_DONTWAIT), -1) << "the newest is still open";
  for (const int fd : silent) close(fd);
}

TEST_F(HttpServerTest, TakesNoMoreConnectionsThanItsLimit) {
  std::vector<int> silent;
  for (uint32_t i = 0; i < 3 * kMaxApiConnections; ++i) silent.push_back(connect());
  EXPECT_TRUE(talk(get("/")).starts_with("HTTP/1.1 200"));
  char byte;
  for (uint32_t i = 0; i < 2 * kMaxApiConnections; ++i) EXPECT_LE(read(silent[i], &byte, 1), 0) << i;
  for (const int fd : silent) close(fd);
}

TEST_F(HttpServerTest, SocketIsForUserAndGroupOnly) {
  struct stat info {};
  ASSERT_EQ(stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
}

TEST(HttpServerTcp, ServesLoopbackOnly) {
  boost::asio::io_context io;
  const auto handler = [](const ApiRequest&, const ApiRespond&) {};
  EXPECT_NO_THROW(HttpServer::on_tcp(io, "127.0.0.1:0", handler));
  for (const char* bad : {"", "9090", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x", "0.0.0.0:9090",
                          "198.18.0.1:80", "host:80"})
    EXPECT_THROW(HttpServer::on_tcp(io, bad, handler), std::runtime_error) << bad;
}

TEST(Query, FindsAndDecodesValues) {
  EXPECT_EQ(query_value("a=1&bb=%2Fx&c", "bb"), "/x");
  EXPECT_EQ(query_value("a=1&bb=2", "b"), std::nullopt);
  EXPECT_EQ(query_value("c&a=1", "c"), "");
  EXPECT_EQ(query_value("a=%4", "a"), std::nullopt);
  EXPECT_EQ(query_value("", "a"), std::nullopt);
}

}  // namespace
}  // namespace portico
