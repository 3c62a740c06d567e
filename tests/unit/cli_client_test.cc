// SPDX-License-Identifier: Apache-2.0
// The whole program against a server with canned answers, and against none.
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "contract/feedback_file.h"
#include "control/cli/client.h"
#include "control/cli/commands.h"

namespace portico::cli {
namespace {

using nlohmann::json;

// Accepts one connection, keeps the request, sends an answer as it stands, closes.
class FakeControl {
 public:
  FakeControl(const std::string& folder, std::string answer) : answer_(std::move(answer)) {
    listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (folder + "/control.sock").c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeControl() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  // The request, once the client has its answer.
  std::string request() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    thread_ = std::thread([] {});
    return request_;
  }

 private:
  // Whether all of the body that the header announces is here.
  bool is_whole() const {
    const size_t end = request_.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const size_t length = request_.find("Content-Length: ");
    if (length == std::string::npos || length > end) return true;
    return request_.size() >= end + 4 + std::stoul(request_.substr(length + 16));
  }
  void serve() {
    const int fd = accept(listener_, nullptr, nullptr);
    if (fd < 0) return;
    char buffer[4096];
    ssize_t n = 0;
    while (!is_whole() && (n = read(fd, buffer, sizeof buffer)) > 0)
      request_.append(buffer, static_cast<size_t>(n));
    if (answer_.empty()) {
      n = read(fd, buffer, sizeof buffer);  // until the client gives up
    } else {
      EXPECT_EQ(write(fd, answer_.data(), answer_.size()), static_cast<ssize_t>(answer_.size()));
    }
    close(fd);
  }

  std::string answer_, request_;
  int listener_ = -1;
  std::thread thread_;
};

std::string http(unsigned status, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) + " x\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\nConnection: close\r\n\r\n" + body;
}

class CliProgram : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/portico-cli-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    unsetenv("PORTICO_RUN_DIR");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Runs `portico ARGUMENTS --run-dir FOLDER`.
  int run_program(std::vector<const char*> arguments, bool terminal = false) {
    arguments.insert(arguments.begin(), "portico");
    arguments.insert(arguments.end(), {"--run-dir", folder_.c_str()});
    out_.str("");
    err_.str("");
    return run(static_cast<int>(arguments.size()), arguments.data(), out_, err_, terminal);
  }

  std::string folder_;
  std::ostringstream out_, err_;
};

TEST_F(CliProgram, ExitStatusFollowsTheLevel) {
  const std::pair<const char*, int> cases[] = {{"ok", 0}, {"degraded", 1}, {"unserved", 2}};
  for (const auto& [level, exit] : cases) {
    FakeControl control(folder_, http(200, json{{"level", level}, {"instance", "edge-1"}}.dump()));
    EXPECT_EQ(run_program({"status"}), exit);
    EXPECT_EQ(out_.str().substr(0, 6), "edge-1");
    EXPECT_EQ(control.request().substr(0, 23), "GET /v1/status HTTP/1.1");
    std::filesystem::remove(folder_ + "/control.sock");
  }
}

TEST_F(CliProgram, JsonIsPassedOn) {
  const json status = {{"level", "degraded"}, {"instance", "edge-1"}};
  FakeControl control(folder_, http(200, status.dump()));
  EXPECT_EQ(run_program({"status", "--json"}, true), 1);
  EXPECT_EQ(json::parse(out_.str()), status);
}

TEST_F(CliProgram, WithoutControlSaysSoAndWhatTheFilesSay) {
  EXPECT_EQ(run_program({"status"}), kExitNoControl);
  EXPECT_NE(err_.str().find("control is not running: " + folder_ + "/control.sock: No such file"),
            std::string::npos)
      << err_.str();
  EXPECT_NE(out_.str().find("dataplane  the dataplane has not run here; start portico-dataplane"),
            std::string::npos)
      << out_.str();
  EXPECT_EQ(run_program({"reload"}), kExitNoControl);
}

TEST_F(CliProgram, WithoutControlALivingDataplaneIsSeen) {
  FeedbackWriter writer(folder_, "1");
  Feedback& feedback = writer.begin();
  feedback.header.state = static_cast<uint32_t>(DataplaneState::running);
  feedback.header.worker_count = 1;
  feedback.header.adopted_generation = 812;
  feedback.workers[0].flows = 1204;
  writer.end();
  EXPECT_EQ(run_program({"status"}), kExitNoControl);
  EXPECT_NE(out_.str().find("dataplane  running, process "), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("table 812 in use, flows 1,204"), std::string::npos) << out_.str();
  EXPECT_EQ(run_program({"status", "--json"}), kExitNoControl);
  EXPECT_EQ(json::parse(out_.str())["dataplane"]["working"], true);
}

TEST_F(CliProgram, WhoMayNotReadIsNotToldThatNothingRuns) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  FeedbackWriter writer(folder_, "1");
  std::filesystem::permissions(folder_, std::filesystem::perms{0755});
  const pid_t child = fork();
  if (child == 0) {
    const bool changed = setgroups(0, nullptr) == 0 && setresgid(65534, 65534, 65534) == 0 &&
                         setresuid(65534, 65534, 65534) == 0;
    const bool exit_is_right = changed && run_program({"status"}) == kExitNoControl;
    _exit(!exit_is_right                                                                          ? 1
          : out_.str().find("whether the dataplane runs is not known: ") == std::string::npos     ? 2
          : out_.str().find("feedback: Permission denied; run this as root") == std::string::npos ? 3
                                                                                                  : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(CliProgram, SilentControlIsNotWaitedForForever) {
  FakeControl control(folder_, "");
  const ApiReply reply = ApiClient(folder_, std::chrono::milliseconds(50)).get("/v1/status");
  EXPECT_FALSE(reply.reached());
  EXPECT_NE(reply.problem.find("control does not answer"), std::string::npos) << reply.problem;
}

TEST_F(CliProgram, RefusalShowsErrorAndRemedy) {
  FakeControl control(folder_, http(409, R"({"error": "portal-1 is the last", "remedy": "use --force"})"));
  EXPECT_EQ(run_program({"drain", "portals/portal-1", "--why", "upgrade \"7.7\""}), kExitFailed);
  EXPECT_EQ(err_.str(), "portico: portal-1 is the last\n  use --force\n");
  const std::string request = control.request();
  EXPECT_EQ(request.substr(0, request.find("\r\n")), "POST /v1/backends/portals/portal-1/drain HTTP/1.1");
  EXPECT_EQ(json::parse(request.substr(request.find("\r\n\r\n"))),
            (json{{"why", "upgrade \"7.7\""}, {"force", false}}));
}

TEST_F(CliProgram, BareBackendNameMeansAnyPool) {
  FakeControl control(
      folder_, http(200, R"({"pool": "portals", "backend": "portal-1", "admin": "held", "flows": 1234})"));
  EXPECT_EQ(run_program({"hold", "portal-1"}), 0);
  EXPECT_EQ(out_.str(),
            "portal-1 of pool portals is held: nothing new goes there; it has 1,234 connections\n");
  EXPECT_EQ(control.request().substr(0, 34), "POST /v1/backends/-/portal-1/hold ");
}

TEST_F(CliProgram, ReloadShowsMistakesAsACheckDoes) {
  const json answer = {{"error", "the configuration has errors; nothing was changed"},
                       {"remedy", ""},
                       {"path", "/etc/p.yaml"},
                       {"messages", {{{"is_error", true}, {"line", 3}, {"column", 9}, {"text", "bad"}}}}};
  FakeControl control(folder_, http(422, answer.dump()));
  EXPECT_EQ(run_program({"reload"}), kExitFailed);
  EXPECT_EQ(err_.str(),
            "/etc/p.yaml:3:9: error: bad\nportico: the configuration has errors; nothing was changed\n");
}

TEST_F(CliProgram, ExplainAsksForTheConnection) {
  FakeControl control(folder_,
                      http(200, R"({"client": "2001:db8::7", "client_port": 40312, "service": "web"})"));
  EXPECT_EQ(run_program({"explain", "[2001:db8::7]:40312", "web", "--listen", "[2001:db8::10]:443"}), 0);
  const std::string request = control.request();
  EXPECT_EQ(
      request.substr(0, request.find("\r\n")),
      "GET /v1/explain?client=2001:db8::7&service=web&port=40312&listen=%5B2001:db8::10%5D:443 HTTP/1.1");
  EXPECT_EQ(out_.str().substr(0, 23), "[2001:db8::7]:40312 to ");
}

TEST_F(CliProgram, AnswersThatAreNotUnderstoodAreErrors) {
  for (const char* body : {"<html>", "[1]", R"({"level": 7})"}) {
    FakeControl control(folder_, http(200, body));
    EXPECT_EQ(run_program({"status"}), kExitFailed) << body;
    EXPECT_FALSE(err_.str().empty());
    std::filesystem::remove(folder_ + "/control.sock");
  }
}

TEST_F(CliProgram, ChecksAFileWithoutControl) {
  std::ofstream(folder_ + "/bad.yaml") << "version: 2\n";
  const std::string path = folder_ + "/bad.yaml";
  EXPECT_EQ(run_program({"check-config", path.c_str()}), kExitFailed);
  EXPECT_NE(err_.str().find(path + ":1:10: error: `version` is `2`"), std::string::npos) << err_.str();
  EXPECT_EQ(run_program({"check-config", "--json", path.c_str()}), kExitFailed);
  EXPECT_EQ(json::parse(out_.str())["valid"], false);
  const std::string good = std::string(PORTICO_SOURCE_ROOT) + "/examples/portico.yaml";
  EXPECT_EQ(run_program({"check-config", "--elsewhere", good.c_str()}), 0);
  EXPECT_EQ(run_program({"config", "--effective", good.c_str()}), 0);
  EXPECT_NE(out_.str().find("mode: nat"), std::string::npos);
}

TEST_F(CliProgram, WrongCommandLines) {
  EXPECT_EQ(run_program({}), kExitUsage);
  EXPECT_EQ(run_program({"statsu"}), kExitUsage);
  EXPECT_EQ(run_program({"drain"}), kExitUsage);
  EXPECT_EQ(run_program({"drain", "a b"}), kExitUsage);
  EXPECT_EQ(run_program({"explain", "nowhere", "web"}), kExitUsage);
  EXPECT_EQ(run_program({"config"}), kExitUsage);
}

TEST_F(CliProgram, WrongCommandLinesAreJsonIfThatIsAskedFor) {
  const std::vector<std::vector<const char*>> wrong = {{"--json", "statsu"},
                                                       {"statsu", "--json"},
                                                       {"status", "--json", "--bogus"},
                                                       {"status", "--bogus", "--json"},
                                                       {"--json", "drain"},
                                                       {"--json"},
                                                       {"drain", "--json", "a b"},
                                                       {"--json", "explain", "\xff", "web"}};
  for (const auto& arguments : wrong) {
    EXPECT_EQ(run_program(arguments), kExitUsage);
    const json answer = json::parse(out_.str(), nullptr, false);
    ASSERT_TRUE(answer.is_object()) << out_.str();
    EXPECT_FALSE(answer.value("error", "").empty()) << out_.str();
    EXPECT_TRUE(answer.contains("remedy"));
    EXPECT_EQ(err_.str(), "");
  }
  for (const auto& arguments :
       std::vector<std::vector<const char*>>{{"--json", "--help"}, {"drain", "--help", "--json"}}) {
    EXPECT_EQ(run_program(arguments), 0);
    const json answer = json::parse(out_.str(), nullptr, false);
    ASSERT_TRUE(answer.is_object()) << out_.str();
    EXPECT_NE(answer.value("help", "").find("drain"), std::string::npos) << out_.str();
  }
}

TEST_F(CliProgram, ErrorsDoNotCommandTheTerminal) {
  EXPECT_EQ(run_program({"statsu\u202e\x1b[2J"}), kExitUsage);
  EXPECT_NE(err_.str().find("statsu\\u202e\\x1b[2J"), std::string::npos) << err_.str();
  FakeControl control(folder_, http(409, R"({"error": "no\u202eway", "remedy": "x"})"));
  EXPECT_EQ(run_program({"drain", "portal-1", "--json"}), kExitFailed);
  EXPECT_NE(out_.str().find("no\\u202eway"), std::string::npos) << out_.str();
  EXPECT_EQ(json::parse(out_.str())["error"], "no\u202eway");
}

TEST_F(CliProgram, VersionSaysWhichTablesItKnows) {
  const std::string expected = "(table ABI " + std::to_string(kAbiVersion) + ")";
  for (const char* word : {"version", "--version"}) {
    EXPECT_EQ(run_program({word}), 0);
    EXPECT_NE(out_.str().find(expected), std::string::npos) << out_.str();
    for (const auto& arguments : {std::vector{word, "--json"}, std::vector{"--json", word}}) {
      EXPECT_EQ(run_program(arguments), 0);
      const json answer = json::parse(out_.str(), nullptr, false);
      ASSERT_TRUE(answer.is_object()) << out_.str();
      EXPECT_EQ(answer.value("table_abi", 0u), kAbiVersion);
      EXPECT_FALSE(answer.value("version", "").empty());
    }
  }
}

TEST_F(CliProgram, HelpNamesEveryCommandAndExitStatus) {
  EXPECT_EQ(run_program({"--help"}), 0);
  for (const char* word : {"status", "drops", "explain", "reload", "check-config", "config", "drain", "hold",
                           "resume", "version", "--json", "PORTICO_RUN_DIR", "Exit status"}) {
    EXPECT_NE(out_.str().find(word), std::string::npos) << word;
  }
}

TEST_F(CliProgram, ColoursOnlyOnTerminals) {
  const std::string body = R"({"instance": "edge-1", "warnings": ["careful"]})";
  for (const bool terminal : {false, true}) {
    FakeControl control(folder_, http(200, body));
    unsetenv("NO_COLOR");
    run_program({"status"}, terminal);
    EXPECT_EQ(out_.str().find('\033') != std::string::npos, terminal);
    std::filesystem::remove(folder_ + "/control.sock");
  }
  FakeControl control(folder_, http(200, body));
  setenv("NO_COLOR", "1", 1);
  run_program({"status"}, true);
  EXPECT_EQ(out_.str().find('\033'), std::string::npos);
  unsetenv("NO_COLOR");
}

}  // namespace
}  // namespace portico::cli
