// SPDX-License-Identifier: Apache-2.0
#include "control/api/http_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

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

TEST(HttpServerTcp, ListensOnAddressesAlone) {
  boost::asio::io_context io;
  const auto handler = [](const ApiRequest&, const ApiRespond&) {};
  EXPECT_NO_THROW(HttpServer::on_tcp(io, "127.0.0.1:0", handler));
  EXPECT_TRUE(is_loopback("127.0.0.2:1"));
  EXPECT_TRUE(is_loopback("[::1]:1"));
  EXPECT_FALSE(is_loopback("0.0.0.0:1"));
  for (const char* bad : {"", "9090", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x", "host:80"})
    EXPECT_THROW(HttpServer::on_tcp(io, bad, handler), std::runtime_error) << bad;
}

// A server whose answers have no end: pieces of 256 KiB, as many as each client takes.
class HttpStreamTest : public HttpServerTest {
 protected:
  void SetUp() override {
    HttpServerTest::SetUp();
    io_.stop();
    thread_.join();
    io_.restart();
    server_.reset();  // its end removes the socket
    server_ = HttpServer::on_unix(io_, path(), [this](const ApiRequest& request, const ApiRespond& respond) {
      ApiResponse response{200, "text/event-stream", "plain"};
      if (request.path == "/stream")
        response.stream = [this, sent = std::make_shared<int>(0)] {
          ++asked_;
          return ++*sent == 1 ? std::make_shared<const std::string>("first\n\n") : big_;
        };
      respond(response);
    });
    thread_ = std::thread([this] { io_.run(); });
  }
  int open_stream() const {
    const int fd = connect();
    const std::string request = get("/stream");
    send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    return fd;
  }
  // Up to `text`, or to the end.
  static std::string read_until(int fd, const std::string& text) {
    std::string answer;
    char byte;
    while (answer.find(text) == std::string::npos && read(fd, &byte, 1) == 1) answer += byte;
    return answer;
  }

  std::shared_ptr<const std::string> big_ = std::make_shared<const std::string>(256 * 1024, 'x');
  std::atomic<int> asked_ = 0;
};

TEST_F(HttpStreamTest, SendsPieceAfterPiece) {
  const int fd = open_stream();
  const std::string begin = read_until(fd, "xxx");
  EXPECT_TRUE(begin.starts_with("HTTP/1.1 200 OK\r\n")) << begin;
  EXPECT_NE(begin.find("Content-Type: text/event-stream\r\n"), std::string::npos) << begin;
  EXPECT_EQ(begin.find("Content-Length"), std::string::npos) << begin;
  EXPECT_NE(begin.find("\r\n\r\nfirst\n\nxxx"), std::string::npos) << begin;
  close(fd);
  EXPECT_TRUE(talk(get("/")).starts_with("HTTP/1.1 200"));
}

TEST_F(HttpStreamTest, TakesNoMoreStreamsThanItsLimit) {
  std::vector<int> streams;
  for (uint32_t i = 0; i < kMaxApiStreams; ++i) {
    streams.push_back(open_stream());
    EXPECT_NE(read_until(streams.back(), "first").find("200 OK"), std::string::npos);
  }
  EXPECT_TRUE(talk(get("/stream")).starts_with("HTTP/1.1 503"));
  EXPECT_TRUE(talk(get("/")).starts_with("HTTP/1.1 200"));
  for (const int fd : streams) close(fd);
  // One that is gone is found out by the next piece.
  std::string answer;
  for (int i = 0; i < 500 && !answer.starts_with("HTTP/1.1 200"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const int fd = open_stream();
    answer = read_until(fd, "\r\n");
    close(fd);
  }
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
}

TEST_F(HttpStreamTest, DropsAClientThatDoesNotRead) {
  const int fd = open_stream();
  read_until(fd, "first");
  // What the kernel takes for it, and not a piece more, until its time is over.
  char buffer[4096];
  uint64_t received = 0;
  std::this_thread::sleep_for(std::chrono::seconds(kStreamTimeoutSeconds + 2));
  EXPECT_LE(asked_, 4) << "no more is made than the client takes";
  for (ssize_t n; received < 8 * big_->size() && (n = read(fd, buffer, sizeof buffer)) > 0;)
    received += static_cast<uint64_t>(n);
  EXPECT_LT(received, 4 * big_->size()) << "the server has closed it";
  close(fd);
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
