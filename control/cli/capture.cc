// SPDX-License-Identifier: Apache-2.0
// `portico capture`: listens in the run directory for what the dataplane captures, and writes it to a file.
// The dataplane ends when this process does.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <ostream>

#include "contract/run_dir.h"
#include "control/cli/answer.h"
#include "control/config_text.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using nlohmann::json;

constexpr int kConnectPatienceMs = 3000;

// Set by SIGINT and SIGTERM: end the capture and finish the file.
volatile std::sig_atomic_t is_asked_to_end = 0;
void ask_to_end(int) {
  is_asked_to_end = 1;
}

// The socket that the dataplane connects to, under a name that nobody guesses. Gone with this object.
class Listener {
 public:
  explicit Listener(const std::string& run_dir) : token_(fmt::format("{:016x}", random_epoch())) {
    path_ = run_dir + "/capture-" + token_ + ".sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.size() >= sizeof address.sun_path) {
      error_ = ENAMETOOLONG;
      return;
    }
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    socket_ = FileHandle(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const mode_t before = umask(0177);
    const bool is_bound =
        socket_.is_open() &&
        bind(socket_.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
        listen(socket_.fd(), 1) == 0;
    error_ = is_bound ? 0 : errno;
    umask(before);
  }
  ~Listener() {
    if (error_ == 0) unlink(path_.c_str());
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  const std::string& token() const { return token_; }
  const std::string& path() const { return path_; }
  int error() const { return error_; }

  // The dataplane's end; not open: it did not come in time.
  FileHandle accept() const {
    pollfd ready{socket_.fd(), POLLIN, 0};
    if (poll(&ready, 1, kConnectPatienceMs) <= 0) return FileHandle();
    return FileHandle(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  std::string token_, path_;
  FileHandle socket_;
  int error_ = 0;
};

bool write_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

// Until the dataplane has said all. False: the file could not be written, errno says why.
bool copy(int from, int to) {
  std::array<char, 65536> buffer;
  bool is_ending = false;
  for (;;) {
    // It sees the half that is closed, writes what it has, and ends.
    if (is_asked_to_end != 0 && !is_ending) is_ending = shutdown(from, SHUT_WR) == 0;
    const ssize_t n = read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return true;
    if (!write_all(to, buffer.data(), static_cast<size_t>(n))) return false;
  }
}

json body_of(const CaptureRequest& request, const std::string& token, std::string& problem) {
  json body = {
      {"token", token}, {"packets", request.packets}, {"bytes", request.bytes}, {"snap", request.snap}};
  const auto time = parse_duration(request.time);
  if (!time || time->count() < 1000) problem = "`--time` is no duration of at least a second";
  body["seconds"] = time ? time->count() / 1000 : 0;
  std::string not_client, not_service;
  const auto client = parse_endpoint(request.target, 0, not_client);
  if (client) {
    body["client"] = to_string(client->address);
    body["port"] = client->port;
  } else if (is_good_name(request.target, not_service)) {
    body["service"] = request.target;
  } else {
    problem = "`" + request.target + "` is neither a service's name nor a client's address";
  }
  return body;
}

// Without SA_RESTART: read(2) must come back.
void listen_to_signals() {
  struct sigaction action {};
  action.sa_handler = ask_to_end;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

FileHandle open_output(const std::string& path) {
  return FileHandle(path == "-" ? dup(STDOUT_FILENO)
                                : open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
}

int report(const Context& context, const ApiClient& client, const CaptureRequest& request) {
  // On standard output the packets are.
  std::ostream& out = request.file == "-" ? context.err : context.out;
  const ApiReply reply = client.get("/v1/capture");
  const json status = json::parse(reply.body, nullptr, false);
  if (!reply.ok() || !status.is_object())
    return fail(context, kExitFailed, "the file is written, but control does not say how much was missed",
                reply.remedy);
  const uint64_t missed = status.value("missed_rate", uint64_t{0}) + status.value("missed_full", uint64_t{0});
  if (context.json)
    out << dump(status);
  else
    out << fmt::format("{} packets, {} bytes, {} missed; ended by {}\n",
                       format_count(status.value("packets", uint64_t{0})),
                       format_count(status.value("bytes", uint64_t{0})), format_count(missed),
                       to_printable(status.value("ended", "")));
  return kExitWell;
}

}  // namespace

int capture(const Context& context, const CaptureRequest& request) {
  const Listener listener(context.run_dir);
  if (listener.error() != 0)
    return fail(context, kExitNoControl,
                fmt::format("cannot listen on {}: {}", listener.path(), std::strerror(listener.error())),
                "run it as root, or as the user of portico-control");
  std::string problem;
  const json body = body_of(request, listener.token(), problem);
  if (!problem.empty()) return fail(context, kExitUsage, problem, "");
  const FileHandle file = open_output(request.file);
  if (!file.is_open())
    return fail(context, kExitFailed, fmt::format("cannot write {}: {}", request.file, std::strerror(errno)),
                "");
  listen_to_signals();
  const ApiClient client(context.run_dir);
  const ApiReply reply = client.post("/v1/capture", body.dump());
  if (!reply.ok()) return with_answer(context, reply, [](const json&) { return Shown{}; });
  const FileHandle from = listener.accept();
  if (!from.is_open())
    return fail(context, kExitFailed, "the dataplane does not send what it captures", "see its log");
  if (!copy(from.fd(), file.fd()))
    return fail(context, kExitFailed, fmt::format("cannot write {}: {}", request.file, std::strerror(errno)),
                "");
  return report(context, client, request);
}

}  // namespace portico::cli
