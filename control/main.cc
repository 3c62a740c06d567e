// SPDX-License-Identifier: Apache-2.0
// portico-control: configuration, health and neighbours in; tables, guard and addresses out.
#include <getopt.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "contract/layout.h"
#include "contract/run_dir.h"
#include "control/api/api.h"
#include "control/api/http_server.h"
#include "control/config.h"
#include "control/flow_tables.h"
#include "control/service.h"
#include "control/web/web.h"

namespace portico {
namespace {

constexpr const char* kUsage =
    "usage: portico-control --config FILE [--run-dir DIR] [options]\n"
    "  --config FILE        the configuration (default /etc/portico/portico.yaml)\n"
    "  --run-dir DIR        shared with portico-dataplane, on a tmpfs (default /run/portico)\n"
    "  --state-dir DIR      where drained backends and health stay (default: the run directory)\n"
    "  --metrics ADDR:PORT  also serve /metrics over TCP, on a loopback address\n"
    "  --http ADDR:PORT     also serve the web page, and with it /metrics and the API's reading part; on a\n"
    "                       loopback address, with --http-tokens on others, too\n"
    "  --http-tokens FILE   who may drain, hold, resume and set weights there: a line NAME TOKEN for each\n"
    "  --check              check the configuration, print what is wrong, change nothing\n"
    "  --cleanup            remove the addresses and the guard that control installed, and the\n"
    "                       dataplane's flow tables, then end\n"
    "  --force              with --cleanup: even while control or the dataplane runs\n"
    "  --log-level LEVEL    debug, info, warn or error (default info)\n"
    "  --version            print the version and the table's ABI version\n"
    "SIGHUP reads the configuration again. SIGTERM ends control; the dataplane goes on.\n";

struct Options {
  ServiceOptions service{
      .config_path = "/etc/portico/portico.yaml", .run_dir = "/run/portico", .state_dir = ""};
  std::string metrics, http, http_tokens, log_level = "info";
  bool check = false, cleanup = false, force = false, version = false, help = false;
};

std::optional<Options> parse_options(int argc, char** argv) {
  static const option kLong[] = {{"config", required_argument, nullptr, 'c'},
                                 {"run-dir", required_argument, nullptr, 'r'},
                                 {"state-dir", required_argument, nullptr, 's'},
                                 {"metrics", required_argument, nullptr, 'm'},
                                 {"http", required_argument, nullptr, 'w'},
                                 {"http-tokens", required_argument, nullptr, 't'},
                                 {"log-level", required_argument, nullptr, 'l'},
                                 {"check", no_argument, nullptr, 'k'},
                                 {"cleanup", no_argument, nullptr, 'x'},
                                 {"force", no_argument, nullptr, 'f'},
                                 {"version", no_argument, nullptr, 'v'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {}};
  Options options;
  for (int c = 0; (c = getopt_long(argc, argv, "c:r:h", kLong, nullptr)) != -1;) {
    if (c == 'c')
      options.service.config_path = optarg;
    else if (c == 'r')
      options.service.run_dir = optarg;
    else if (c == 's')
      options.service.state_dir = optarg;
    else if (c == 'm')
      options.metrics = optarg;
    else if (c == 'w')
      options.http = optarg;
    else if (c == 't')
      options.http_tokens = optarg;
    else if (c == 'l')
      options.log_level = optarg;
    else if (c == 'k')
      options.check = true;
    else if (c == 'x')
      options.cleanup = true;
    else if (c == 'f')
      options.force = true;
    else if (c == 'v')
      options.version = true;
    else if (c == 'h')
      options.help = true;
    else
      return std::nullopt;
  }
  if (optind < argc) return std::nullopt;
  return options;
}

// Each probe has a descriptor: as many as the system allows, else an outage of many backends leaves none.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// "portico-control (pid 12) and portico-dataplane (pid 34)" of those that are alive; "" if none is.
std::string alive_on(const std::string& run_dir) {
  std::string text;
  const auto append = [&](const char* name, const WriterState& writer) {
    if (!writer.alive) return;
    if (!text.empty()) text += " and ";
    text += name;
    if (writer.pid != 0) text += " (pid " + std::to_string(writer.pid) + ")";
  };
  append("portico-control", table_writer(run_dir));
  append("portico-dataplane", feedback_writer(run_dir));
  return text;
}

int clean_up(const Config& config, const std::string& run_dir, bool force) {
  const std::string alive = alive_on(run_dir);
  if (!alive.empty() && !force) {
    std::fprintf(stderr,
                 "portico-control: nothing was removed: %s still on %s; end the dataplane, then control, and "
                 "try again, or use --force\n",
                 alive.c_str(), run_dir.c_str());
    return 1;
  }
  if (const auto error = remove_installed(config.instance)) {
    std::fprintf(stderr, "portico-control: %s\n", error->c_str());
    return 1;
  }
  // Kept for the dataplane's next start.
  if (const auto left = remove_flow_tables(run_dir); !left.empty())
    std::fprintf(stderr, "portico-control: %s\n", left.c_str());
  return 0;
}

// Signals for the life of the loop.
class Signals {
 public:
  Signals(boost::asio::io_context& io, Service& service)
      : io_(io), service_(service), set_(io, SIGHUP, SIGTERM, SIGINT) {
    wait();
  }

 private:
  void wait() {
    set_.async_wait([this](const boost::system::error_code& error, int signal) {
      if (error) return;
      if (signal != SIGHUP) return io_.stop();
      service_.reload({.who = "SIGHUP", .version = {}, .most_broken = {}}, [](const ReloadResult&) {});
      wait();
    });
  }
  boost::asio::io_context& io_;
  Service& service_;
  boost::asio::signal_set set_;
};

// The API's socket, made anew if somebody removed it.
class LocalSocket {
 public:
  LocalSocket(boost::asio::io_context& io, std::string path, ApiHandler handler)
      : io_(io), path_(std::move(path)), handler_(std::move(handler)), timer_(io) {
    server_ = HttpServer::on_unix(io_, path_, handler_);
    wait();
  }

 private:
  void wait() {
    timer_.expires_after(std::chrono::seconds(1));
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      struct stat status;
      if (lstat(path_.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) make_anew();
      wait();
    });
  }
  void make_anew() {
    server_.reset();
    try {
      server_ = HttpServer::on_unix(io_, path_, handler_);
      told_.clear();
      spdlog::error("{}: was removed; made anew", path_);
    } catch (const std::exception& e) {
      if (told_ != e.what()) spdlog::error("{}", e.what());
      told_ = e.what();
    }
  }
  boost::asio::io_context& io_;
  const std::string path_;
  const ApiHandler handler_;
  boost::asio::steady_timer timer_;
  std::unique_ptr<HttpServer> server_;
  std::string told_;  // what making it anew failed with
};

// What is served over TCP. Ends control's start if it cannot be: who asked for it relies on it.
class TcpServers {
 public:
  TcpServers(boost::asio::io_context& io, Api& api, const Options& options, Access access) {
    if (!options.metrics.empty())
      metrics_ = HttpServer::on_tcp(io, options.metrics,
                                    [&api](const ApiRequest& request, const ApiRespond& respond) {
                                      api.handle_metrics(request, respond);
                                    });
    if (options.http.empty()) return;
    const auto web = std::make_shared<Web>(api, std::move(access), !is_loopback(options.http));
    http_ = HttpServer::on_tcp(io, options.http, [web](const ApiRequest& request, const ApiRespond& respond) {
      web->handle(request, respond);
    });
    spdlog::info("the web page is at http://{}/", options.http);
  }

  // Before anything is touched: the token file, and where must not be listened.
  static Access read_access(const Options& options) {
    Access access = Access::from_file(options.http_tokens);
    if (!options.metrics.empty()) check_listen(options.metrics, false, "metrics are served on loopback only");
    if (!options.http.empty())
      check_listen(options.http, access.has_tokens(), "give --http-tokens FILE, too, to serve there");
    return access;
  }

 private:
  std::unique_ptr<HttpServer> metrics_, http_;
};

int run(const Options& options, const ConfigResult& loaded) {
  Access access = TcpServers::read_access(options);
  boost::asio::io_context io(1);
  Service service(io, options.service);
  service.start(loaded);
  Api api(io, service);
  const auto handler = [&api](const ApiRequest& request, const ApiRespond& respond) {
    api.handle(request, respond);
  };
  const LocalSocket local(io, options.service.run_dir + "/control.sock", handler);
  const TcpServers tcp(io, api, options, std::move(access));
  const Signals signals(io, service);
  spdlog::info("portico-control {} for instance {} is running", PORTICO_VERSION, loaded.config->instance);
  io.run();
  spdlog::info("ending; the dataplane goes on by the last table");
  return 0;
}

int main_of(int argc, char** argv) {
  const auto options = parse_options(argc, argv);
  if (!options || options->help) {
    std::fputs(kUsage, options ? stdout : stderr);
    return options ? 0 : 2;
  }
  if (options->version) {
    std::printf("portico-control %s (table ABI %u)\n", PORTICO_VERSION, kAbiVersion);
    return 0;
  }
  // Logs go to stderr; journald or the terminal has the time of day.
  spdlog::set_default_logger(spdlog::stderr_color_st("control"));
  const auto level = spdlog::level::from_str(options->log_level);
  if (level == spdlog::level::off && options->log_level != "off") {
    std::fprintf(stderr, "portico-control: unknown log level \"%s\"\n", options->log_level.c_str());
    return 2;
  }
  spdlog::set_level(level);
  // The configuration, whole or not at all.
  const ConfigResult loaded = load_config(options->service.config_path, /*check_system=*/!options->cleanup);
  std::fputs(format_messages(loaded, options->service.config_path).c_str(), stderr);
  if (!loaded.config) return 1;
  if (options->check) return 0;
  if (options->cleanup) return clean_up(*loaded.config, options->service.run_dir, options->force);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);  // until the loop runs: there is nothing to reload yet
  raise_descriptor_limit();
  return run(*options, loaded);
}

}  // namespace
}  // namespace portico

int main(int argc, char** argv) {
  try {
    return portico::main_of(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "portico-control: %s\n", e.what());
    return 1;
  }
}
