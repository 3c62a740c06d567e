// SPDX-License-Identifier: Apache-2.0
// Runs one check's probes in a row and prints how many had which result, one line for each.
// `bare` is what a simple checker of another make does: connect, close.
//   mysql-check-tool bare|tcp|mysql TARGET PORT COUNT TIMEOUT_MS [USER PASSWORD]
#include "control/checks/coroutines.h"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdlib>
#include <map>

#include "control/checks/probe.h"

namespace {

using namespace portico;

std::string describe(const ProbeResult& result) {
  return result.outcome == ProbeOutcome::success ? "success" : "failure: " + result.reason;
}

ProbeResult connect_and_close(boost::asio::io_context& io, const ProbeRequest& request) {
  using boost::asio::ip::tcp;
  tcp::socket socket(io);
  boost::system::error_code error;
  socket.connect({boost::asio::ip::make_address(to_string(request.target.address)), request.target.port},
                 error);
  return {error ? ProbeOutcome::failure : ProbeOutcome::success, error ? error.message() : "", 0};
}

boost::asio::awaitable<void> run(boost::asio::io_context& io, ProbeRequest request, bool bare, int count,
                                 std::map<std::string, int>& results) {
  Prober prober(io);
  for (int i = 0; i < count; ++i) {
    if (bare) {
      ++results[describe(connect_and_close(io, request))];
      continue;
    }
    ProbeRequest copy = request;
    const ProbeResult result = co_await prober.probe(std::move(copy));
    ++results[describe(result)];
  }
  // A login under way goes on as it does in control; the process waits for it.
  boost::asio::steady_timer timer(io, std::chrono::milliseconds(200));
  co_await timer.async_wait(boost::asio::use_awaitable);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6 && argc != 8) {
    fmt::print(stderr, "usage: {} bare|tcp|mysql TARGET PORT COUNT TIMEOUT_MS [USER PASSWORD]\n", argv[0]);
    return 2;
  }
  const bool bare = std::string(argv[1]) == "bare";
  ProbeRequest request;
  request.kind = std::string(argv[1]) == "mysql" ? CheckKind::mysql : CheckKind::tcp;
  const auto target = Address::parse(argv[2]);
  if (!target) {
    fmt::print(stderr, "{}: TARGET is an address\n", argv[0]);
    return 2;
  }
  request.target = {*target, static_cast<uint16_t>(std::atoi(argv[3]))};
  request.timeout = Milliseconds(std::atoi(argv[5]));
  if (argc == 8) {
    request.user = argv[6];
    request.password = argv[7];
  }
  boost::asio::io_context io;
  std::map<std::string, int> results;
  const int count = std::atoi(argv[4]);
  boost::asio::co_spawn(
      io, [&] { return run(io, request, bare, count, results); },
      [](const std::exception_ptr& error) {
        if (error) std::rethrow_exception(error);
      });
  io.run();
  for (const auto& [result, times] : results) fmt::print("{} {}\n", times, result);
  return 0;
}
