// SPDX-License-Identifier: Apache-2.0
// An HTTP client that asks at a steady rate, whether or not answers come, and says how long they took from
// the moment each request was due: a server that stalls is not asked less meanwhile, so its stall is counted
// in full.
//
//   bench-load-client ADDRESS PORT PATH --rate N [--seconds N] [--connections N] [--close]
//
// Without --close: requests over --connections kept connections (default 64), each with one request at a
// time; with it: a new connection for each. IPv4. Prints one JSON object; exit status 1 if any request
// failed.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kPatience = 2 * kSecond;  // for answers that are still due at the end
constexpr size_t kMaxOpen = 20'000;          // more connections at once: the request counts as failed

uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
}

struct Options {
  std::string address, path;
  uint16_t port = 0;
  double rate = 0, seconds = 2;
  size_t connections = 64;
  bool close = false;
};

struct Connection {
  int fd = -1;
  bool is_connecting = false;
  uint64_t due = 0;  // of the request under way; 0: none
  std::string answer;
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), epoll_(epoll_create1(0)), interval_(static_cast<double>(kSecond) / options.rate) {
    request_ = "GET " + options.path + " HTTP/1.1\r\nHost: " + options.address + "\r\n" +
               (options.close ? "Connection: close\r\n" : "") + "\r\n";
  }

  void run() {
    if (!options_.close) {
      for (size_t i = 0; i < options_.connections; ++i) open(0);
      const uint64_t limit = now_ns() + kPatience;
      while (idle_.size() < options_.connections && now_ns() < limit) wait(limit);
      if (idle_.size() < options_.connections) throw std::runtime_error("not all connections open");
    }
    const uint64_t begin = now_ns();
    const auto total = static_cast<uint64_t>(options_.rate * options_.seconds);
    while (sent_ < total) {
      const uint64_t due = begin + static_cast<uint64_t>(static_cast<double>(sent_) * interval_);
      if (due <= now_ns()) {
        ++sent_;
        ask(due);
      } else {
        wait(due);
      }
      if (sent_ % 16 == 0) wait(0);
    }
    seconds_ = static_cast<double>(now_ns() - begin) / static_cast<double>(kSecond);
    const uint64_t limit = now_ns() + kPatience;
    while (took_.size() + failed_ < sent_ && now_ns() < limit) wait(limit);
    failed_ = sent_ - took_.size();
  }

  int report() {
    std::sort(took_.begin(), took_.end());
    const auto at = [this](double part) {
      if (took_.empty()) return 0.0;
      const auto index = static_cast<size_t>(part * static_cast<double>(took_.size() - 1));
      return static_cast<double>(took_[index]) / 1000;
    };
    std::printf(
        "{\"sent\": %zu, \"ok\": %zu, \"failed\": %zu, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
        "\"max_us\": %.1f}\n",
        sent_, took_.size(), failed_, static_cast<double>(sent_) / seconds_, at(0.5), at(0.99), at(1));
    return failed_ == 0 ? 0 : 1;
  }

 private:
  void ask(uint64_t due) {
    if (options_.close) {
      open(due);
    } else if (idle_.empty()) {
      waiting_.push_back(due);
    } else {
      Connection* const c = idle_.back();
      idle_.pop_back();
      send(*c, due);
    }
  }

  void open(uint64_t due) {
    if (open_.size() - unused_.size() >= kMaxOpen) return fail_one();
    if (unused_.empty()) unused_.push_back(open_.emplace_back(std::make_unique<Connection>()).get());
    Connection* const c = unused_.back();
    unused_.pop_back();
    *c = {socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), true, due, {}};
    const int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(options_.port);
    inet_pton(AF_INET, options_.address.c_str(), &to.sin_addr);
    if (connect(c->fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS)
      return lose(*c);
    watch(*c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
  }

  void watch(Connection& c, int operation, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = &c;
    epoll_ctl(epoll_, operation, c.fd, &event);
  }

  void wait(uint64_t until) {
    epoll_event events[64];
    const uint64_t now = now_ns();
    const uint64_t left = until > now ? until - now : 0;
    const timespec timeout{static_cast<time_t>(left / kSecond), static_cast<long>(left % kSecond)};
    const int n = epoll_pwait2(epoll_, events, 64, &timeout, nullptr);
    for (int i = 0; i < n; ++i) handle(*static_cast<Connection*>(events[i].data.ptr), events[i].events);
  }

  void handle(Connection& c, uint32_t events) {
    if (c.is_connecting) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) return lose(c);
      if ((events & EPOLLOUT) == 0) return;
      c.is_connecting = false;
      watch(c, EPOLL_CTL_MOD, EPOLLIN);
      if (options_.close)
        send(c, c.due);
      else
        idle_.push_back(&c);
      return;
    }
    read(c);
  }

  void send(Connection& c, uint64_t due) {
    c.due = due;
    c.answer.clear();
    const auto size = static_cast<ssize_t>(request_.size());
    if (::send(c.fd, request_.data(), request_.size(), MSG_NOSIGNAL) != size) lose(c);
  }

  void read(Connection& c) {
    char buffer[4096];
    const ssize_t n = recv(c.fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return lose(c);
    c.answer.append(buffer, static_cast<size_t>(n));
    if (!is_whole(c.answer)) return;
    if (c.answer.compare(0, 12, "HTTP/1.1 200") != 0) return lose(c);
    took_.push_back(now_ns() - c.due);
    c.due = 0;
    if (options_.close) return drop(c);
    if (waiting_.empty()) {
      idle_.push_back(&c);
    } else {
      const uint64_t due = waiting_.front();
      waiting_.pop_front();
      send(c, due);
    }
  }

  static bool is_whole(const std::string& answer) {
    const size_t end = answer.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const size_t length = answer.find("Content-Length: ");
    if (length == std::string::npos || length > end)
      throw std::runtime_error("an answer without Content-Length");
    return answer.size() >= end + 4 + std::strtoul(answer.c_str() + length + 16, nullptr, 10);
  }

  void lose(Connection& c) {
    if (c.due != 0 || !options_.close) fail_one();
    drop(c);
  }
  void fail_one() { ++failed_; }

  void drop(Connection& c) {
    close(c.fd);
    c.fd = -1;
    std::erase(idle_, &c);
    unused_.push_back(&c);
  }

  const Options options_;
  const int epoll_;
  const double interval_;  // ns between requests
  std::string request_;
  std::vector<std::unique_ptr<Connection>> open_;
  std::vector<Connection*> unused_, idle_;
  std::deque<uint64_t> waiting_;  // due, and no connection is free
  std::vector<uint64_t> took_;    // ns
  size_t sent_ = 0, failed_ = 0;
  double seconds_ = 0;
};

Options parse(int argc, char** argv) {
  Options options;
  if (argc < 4)
    throw std::runtime_error("usage: ADDRESS PORT PATH --rate N [--seconds N] [--connections N] [--close]");
  options.address = argv[1];
  options.port = static_cast<uint16_t>(std::atoi(argv[2]));
  options.path = argv[3];
  for (int i = 4; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--close") {
      options.close = true;
      continue;
    }
    if (i + 1 == argc) throw std::runtime_error(name + " has no value");
    const double value = std::atof(argv[++i]);
    if (name == "--rate")
      options.rate = value;
    else if (name == "--seconds")
      options.seconds = value;
    else if (name == "--connections")
      options.connections = static_cast<size_t>(value);
    else
      throw std::runtime_error("unknown option " + name);
  }
  if (options.rate <= 0 || options.seconds <= 0) throw std::runtime_error("--rate and --seconds are above 0");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);  // wake when a request is due, not up to 50 us later
    Load load(parse(argc, argv));
    load.run();
    return load.report();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-load-client: %s\n", error.what());
    return 2;
  }
}
