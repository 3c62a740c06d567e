// SPDX-License-Identifier: Apache-2.0
// Golden texts: the API's answers as people see them. The answers are the examples of docs/api.md, so that
// the page stays true.
#include "control/cli/views.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace portico::cli {
namespace {

using nlohmann::json;

// The first JSON example after a heading of docs/api.md.
json example(const std::string& heading) {
  std::ifstream file(std::string(PORTICO_SOURCE_ROOT) + "/docs/api.md");
  std::stringstream text;
  text << file.rdbuf();
  const std::string page = text.str();
  const size_t start =
      page.find("```json\n", page.find("\n" + (heading.starts_with("#") ? heading : "## " + heading))) + 8;
  return json::parse(page.substr(start, page.find("\n```", start) - start));
}

const Style kPlain(false);

json two_portals() {
  json status = example("GET /v1/status");
  json up = status["pools"][0]["backends"][0];
  up.update({{"name", "portal-2"},
             {"health", "up"},
             {"reason", ""},
             {"checks_passed", 2},
             {"share", 1.0},
             {"flows", 1233}});
  up["since_ms"] = status["now_ms"].get<int64_t>() - 12LL * 86'400'000;
  status["pools"][0]["backends"].push_back(up);
  status["pools"][0]["total"] = 2;
  status["dataplane"]["workers"].push_back({{"busy", 0.29}});
  status["warnings"] = json::array();
  return status;
}

TEST(CliStatus, ReadsLikeTheManual) {
  EXPECT_EQ(status_text(two_portals(), kPlain),
            "edge-1  up 41d   config 17   table 812 adopted   workers 2: 31% 29%   NAT ports 2%   drops 14/s "
            "(unknown_flow)\n"
            "SERVICE       LISTEN            MODE                                   FLOWS  NEW/s  BIT/s\n"
            "portal-https  203.0.113.10:443  nat, PROXY v2: 1,204 sent, 3 repeated  1,204     87   1.9G\n"
            "portals 1/2 up   ! no redundancy\n"
            "  portal-1   DOWN 4m12s   share   0%   flows     9   mysql: \"Too many connections\"\n"
            "  portal-2   UP   12d     share 100%   flows 1,233   2/2 checks\n");
}

TEST(CliStatus, DeadDataplaneStandsFirst) {
  json status = two_portals();
  status["dataplane"] = {
      {"state", "absent"}, {"working", false}, {"text", "it is not running; start portico-dataplane"}};
  status["table"]["adopted"] = 0;
  const std::string text = status_text(status, kPlain);
  EXPECT_EQ(text.substr(0, text.find("\nSERVICE")),
            "edge-1  DATAPLANE DOWN   config 17   table 812 not adopted\n"
            "! the dataplane does not work: it is not running; start portico-dataplane");
}

TEST(CliStatus, RefusedTableAndWarningsAreShown) {
  json status = two_portals();
  status["table"] = {{"published", 813},
                     {"adopted", 812},
                     {"refused", 813},
                     {"refused_text", "pool 0: size 10 is not prime"}};
  status["dataplane"]["ports"][0]["link_up"] = false;
  status["warnings"] = {"no route to 192.0.2.21"};
  const std::string text = status_text(status, kPlain);
  EXPECT_NE(text.find("table 813 published, 812 adopted"), std::string::npos) << text;
  EXPECT_NE(text.find("\n! table 813 was refused: pool 0: size 10 is not prime\n! port enp3s0f0 has no link\n"
                      "! no route to 192.0.2.21\nSERVICE"),
            std::string::npos)
      << text;
}

TEST(CliStatus, MoreListenersStandBelow) {
  json status = two_portals();
  status["services"][0]["listen"] = {"203.0.113.10:443", "[2001:db8::10]:443"};
  EXPECT_NE(status_text(status, kPlain).find("\n              [2001:db8::10]:443\n"), std::string::npos)
      << status_text(status, kPlain);
}

TEST(CliStatus, SignalsThatHadABackendProbedAreShown) {
  json status = two_portals();
  status["pools"][0]["backends"][1]["signals"] = {
      {"syns_unanswered", 12}, {"syns_repeated", 3}, {"syns_refused", 0}, {"probes", 2}};
  EXPECT_NE(status_text(status, kPlain)
                .find("2/2 checks   probes for SYNs 2: 12 unanswered, 3 repeated, 0 refused\n"),
            std::string::npos)
      << status_text(status, kPlain);
}

TEST(CliStatus, AdministrativeStatesAreExplained) {
  json status = two_portals();
  json& backend = status["pools"][0]["backends"][1];
  backend.update({{"admin", "drained"}, {"admin_who", "uid 1000 (alice)"}, {"admin_why", "upgrade"}});
  backend["admin_since_ms"] = status["now_ms"].get<int64_t>() - 300'000;
  EXPECT_NE(status_text(status, kPlain).find("2/2 checks   drained 5m by uid 1000 (alice): upgrade\n"),
            std::string::npos)
      << status_text(status, kPlain);
}

TEST(CliStatus, TextsOfOthersDoNotCommandTheTerminal) {
  json status = two_portals();
  json& backend = status["pools"][0]["backends"][1];
  backend.update({{"admin", "held"},
                  {"admin_who", ""},
                  {"admin_why", "one\ntwo\x1b[2J\xc2\x9b"},
                  {"admin_since_ms", 0}});
  status["warnings"] = {"three\rfour"};
  const std::string text = status_text(status, kPlain);
  EXPECT_NE(text.find("2/2 checks   held: one\\x0atwo\\x1b[2J\\x9b\n"), std::string::npos) << text;
  EXPECT_NE(text.find("! three\\x0dfour\n"), std::string::npos) << text;
}

TEST(CliStatus, EmptyAnswerIsShown) {
  EXPECT_NE(status_text(json::object(), kPlain).find("DATAPLANE DOWN"), std::string::npos);
}

TEST(CliDrops, ShowsOnlyWhatWasDropped) {
  json drops = example("GET /v1/drops");
  EXPECT_EQ(drops_text(drops, false, kPlain),
            "no packet was dropped\nby the taps: 91,300 packets to the kernel, 88,120 from it\n");
  for (const char* key : {"kernel_taken", "from_kernel"}) drops[key] = 0;
  EXPECT_EQ(drops_text(drops, false, kPlain), "no packet was dropped\n");
  drops["kernel_waits"] = 1001;
  EXPECT_EQ(
      drops_text(drops, false, kPlain),
      "no packet was dropped\nwhat the kernel sends waited 1,001 times for a packet buffer; raise `mbufs`\n");
  drops["kernel_waits"] = 0;
  drops["drops"].push_back(
      {{"name", "unknown_flow"}, {"packets", 1234}, {"per_second", 14.2}, {"text", "a later packet"}});
  EXPECT_EQ(drops_text(drops, false, kPlain),
            "REASON        PACKETS  PER s  MEANING\n"
            "unknown_flow    1,234     14  a later packet\n");
  EXPECT_NE(drops_text(drops, true, kPlain).find("\ntruncated "), std::string::npos);
  drops["working"] = false;
  EXPECT_NE(drops_text(drops, false, kPlain).find("! the dataplane does not work"), std::string::npos);
}

TEST(CliEvents, EachOnALineWithWhoAndWhy) {
  json events = example("GET /v1/events")["events"];
  events.push_back({{"kind", "health"}, {"text", "a\x1b[2J"}});
  const std::string text = events_text(events, kPlain);
  EXPECT_NE(
      text.find(
          "  operator       backend portals/portal-1 was set drained by alice (uid 1000): upgrade to 7.7\n"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("  health         a\\x1b[2J\n"), std::string::npos) << text;
}

TEST(CliExplain, KnownConnection) {
  EXPECT_EQ(explain_text(example("GET /v1/explain"), kPlain),
            "198.18.0.7:40312 to portal-https 203.0.113.10:443 (nat)\n"
            "  access    allowed: `allow` has 198.18.0.0/15\n"
            "  flow      established, idle 0s, worker 0, from 203.0.113.20:1029\n"
            "  backend   portal-2\n"
            "  why       the connection is in the flow table; it stays with its backend\n"
            "  next hop  192.0.2.22 at 02:00:00:00:00:22 on enp3s0f0\n"
            "  return    203.0.113.1 at 02:00:00:00:00:01 on enp3s0f0\n");
}

TEST(CliExplain, WithoutAPortAllChoicesAreShown) {
  json answer = example("GET /v1/explain");
  for (const char* key : {"flow", "backend", "slot", "next_hop"}) answer[key] = nullptr;
  answer["client_port"] = 0;
  answer["why"] = "each connection chooses by its port";
  answer["choices"] = example("### Without a port")["choices"];
  EXPECT_EQ(
      explain_text(answer, kPlain),
      "198.18.0.7 to portal-https 203.0.113.10:443 (nat)\n"
      "  access  allowed: `allow` has 198.18.0.0/15\n"
      "  why     each connection chooses by its port\n"
      "  return  203.0.113.1 at 02:00:00:00:00:01 on enp3s0f0\n"
      "    portal-1   DOWN   share   0%   next hop 192.0.2.21 (its MAC address is not known) on enp3s0f0\n"
      "    portal-2   UP     share 100%   next hop 192.0.2.22 at 02:00:00:00:00:22 on enp3s0f0\n");
}

TEST(CliExplain, UnknownConnectionWithoutBackend) {
  json answer = example("GET /v1/explain");
  answer.update({{"flow", nullptr},
                 {"backend", nullptr},
                 {"next_hop", nullptr},
                 {"return_hop", nullptr},
                 {"allowed", false},
                 {"access_rule", nullptr},
                 {"client_port", nullptr},
                 {"slot", nullptr},
                 {"why", "no backend is usable"}});
  EXPECT_EQ(explain_text(answer, kPlain),
            "198.18.0.7 to portal-https 203.0.113.10:443 (nat)\n"
            "  access   denied: the client is in no prefix of `allow`\n"
            "  flow     none\n"
            "  backend  none\n"
            "  why      no backend is usable\n");
  answer["access_rule"] = {{"list", "deny"}, {"prefix", "198.18.0.0/28"}};
  EXPECT_NE(explain_text(answer, kPlain).find("access   denied: `deny` has 198.18.0.0/28\n"),
            std::string::npos);
}

}  // namespace
}  // namespace portico::cli
