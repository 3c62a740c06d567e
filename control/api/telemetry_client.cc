// SPDX-License-Identifier: Apache-2.0
#include "control/api/telemetry_client.h"

#include <array>
#include <boost/asio/generic/seq_packet_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <memory>

namespace portico {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Protocol = asio::generic::seq_packet_protocol;

constexpr size_t kMaxAnswer = 16384;  // DPDK's own limit for a reply (MAX_OUTPUT_LEN)

// One question: connect, greeting, command, answer. Lives as long as an operation of it does.
class Question : public std::enable_shared_from_this<Question> {
 public:
  Question(asio::io_context& io, std::string command, std::function<void(TelemetryAnswer)> done)
      : socket_(io), timer_(io), command_(std::move(command)), done_(std::move(done)) {}

  void start(const std::string& path, std::chrono::seconds patience) {
    timer_.expires_after(patience);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error) self->finish("the dataplane did not answer in time");
    });
    const asio::local::stream_protocol::endpoint local(path);
    const Protocol::endpoint endpoint(local.data(), local.size());
    socket_.async_connect(endpoint, [self = shared_from_this()](error_code error) {
      if (error) return self->finish("cannot ask the dataplane: " + error.message());
      self->receive([self] { self->send(); });
    });
  }

 private:
  void receive(std::function<void()> next) {
    socket_.async_receive(asio::buffer(buffer_), flags_,
                          [self = shared_from_this(), next = std::move(next)](error_code error, size_t size) {
                            if (error || size == 0)
                              return self->finish("the dataplane closed the connection");
                            self->size_ = size;
                            next();
                          });
  }
  void send() {
    socket_.async_send(asio::buffer(command_), 0, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->finish("cannot ask the dataplane: " + error.message());
      self->receive([self] { self->finish({}); });
    });
  }
  void finish(std::optional<std::string> error) {
    if (!done_) return;
    auto done = std::exchange(done_, nullptr);
    TelemetryAnswer answer{.json = {}, .error = std::move(error)};
    if (!answer.error) answer.json.assign(buffer_.data(), size_);
    error_code ignored;
    socket_.close(ignored);
    timer_.cancel(ignored);
    done(std::move(answer));
  }

  Protocol::socket socket_;
  asio::steady_timer timer_;
  std::string command_;
  std::function<void(TelemetryAnswer)> done_;
  std::array<char, kMaxAnswer> buffer_{};
  size_t size_ = 0;
  asio::socket_base::message_flags flags_ = 0;
};

}  // namespace

std::string find_telemetry_socket(const std::string& run_dir) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir + "/dpdk", error)) {
    const auto socket = entry.path() / "dpdk_telemetry.v2";
    if (std::filesystem::exists(socket, error)) return socket;
  }
  return {};
}

void ask_telemetry(asio::io_context& io, const std::string& socket_path, const std::string& command,
                   std::function<void(TelemetryAnswer)> done, std::chrono::seconds patience) {
  if (socket_path.empty() || socket_path.size() >= 108)
    return done({.json = {}, .error = "the dataplane has no telemetry socket; is it running?"});
  std::make_shared<Question>(io, command, std::move(done))->start(socket_path, patience);
}

}  // namespace portico
