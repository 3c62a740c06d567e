// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "control/cli/views.h"

namespace portico::cli {

namespace {

using nlohmann::json;

// The object under a key, or null if it is missing, null or something else.
const json* object_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? &*found : nullptr;
}

std::string text_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string client_text(const json& explanation) {
  std::string address = text_at(explanation, "client");
  const auto port = explanation.find("client_port");
  if (port == explanation.end() || !port->is_number_unsigned() || *port == 0) return address;
  return fmt::format("{}:{}", address.find(':') == std::string::npos ? address : "[" + address + "]",
                     port->get<unsigned>());
}

std::string flow_words(const json& flow) {
  std::string words = fmt::format("{}{}, idle {}, worker {}", flow.value("state", ""),
                                  flow.value("probationary", false) ? " (on probation)" : "",
                                  format_age(flow.value("idle_ms", int64_t{0})), flow.value("worker", 0));
  const std::string nat = text_at(flow, "nat");
  return nat.empty() ? words : words + ", from " + nat;
}

std::string hop_words(const json& hop) {
  std::string words = hop.value("address", "");
  words += hop.value("resolved", false) ? " at " + hop.value("mac", "") : " (its MAC address is not known)";
  words += " on " + hop.value("port", "");
  if (const int vlan = hop.value("vlan", 0); vlan != 0) words += fmt::format(" VLAN {}", vlan);
  return words;
}

// One line for each backend that a connection may choose.
std::string choices_text(const json& choices, const Style& style) {
  using enum Table::Align;
  Table table({left, left, left, left}, "   ");
  for (const json& choice : choices) {
    const std::string health = text_at(choice, "health"), admin = text_at(choice, "admin");
    const json* hop = object_at(choice, "next_hop");
    std::string remark =
        hop != nullptr ? "next hop " + hop_words(*hop) : "no next hop for the client's family";
    if (!admin.empty() && admin != "active") remark += "   " + admin;
    table.add({{text_at(choice, "name")},
               {health == "up"     ? "UP"
                : health == "down" ? "DOWN"
                                   : "WAIT",
                health == "up"     ? Colour::good
                : health == "down" ? Colour::bad
                                   : Colour::warning},
               {fmt::format("share {:>4}", format_percent(choice.value("share", 0.0)))},
               {remark}});
  }
  return table.print(style, "    ");
}

// What went by the taps of ports that DPDK drives alone and in fragments; nothing if nothing did.
std::string ways_text(const json& drops, const Style& style) {
  const auto count = [&](const char* key) { return drops.value(key, uint64_t{0}); };
  std::string text;
  if (count("kernel_taken") != 0 || count("from_kernel") != 0)
    text = fmt::format("by the taps: {} packets to the kernel, {} from it\n",
                       format_count(count("kernel_taken")), format_count(count("from_kernel")));
  if (count("reassembled") != 0 || count("fragmented") != 0)
    text += fmt::format("fragments: {} packets put together from {}, {} sent in {}\n",
                        format_count(count("reassembled")), format_count(count("fragments_joined")),
                        format_count(count("fragmented")), format_count(count("fragments_sent")));
  if (count("steered_no_socket") != 0)
    text += style.paint(Colour::bad,
                        fmt::format("{} packets came to queues that no worker polls; `portico doctor`\n",
                                    format_count(count("steered_no_socket"))));
  if (count("kernel_waits") == 0) return text;
  return text +
         style.paint(Colour::warning,
                     fmt::format("what the kernel sends waited {} times for a packet buffer; raise `mbufs`",
                                 format_count(count("kernel_waits")))) +
         "\n";
}

// Whether the service lets the client in, and the prefix that says so.
std::string access_words(const json& explanation, bool allowed) {
  const json* rule = object_at(explanation, "access_rule");
  if (rule != nullptr)
    return fmt::format("{}: `{}` has {}", allowed ? "allowed" : "denied", text_at(*rule, "list"),
                       text_at(*rule, "prefix"));
  return allowed ? "allowed" : "denied: the client is in no prefix of `allow`";
}

}  // namespace

std::string explain_text(const json& explanation, const Style& style) {
  using enum Table::Align;
  Table table({left, left});
  const bool allowed = explanation.value("allowed", true);
  table.add({{"access"}, {access_words(explanation, allowed), allowed ? Colour::good : Colour::bad}});
  const json* flow = object_at(explanation, "flow");
  const auto choices = explanation.find("choices");
  const bool has_choices = choices != explanation.end() && choices->is_array();
  if (!has_choices) {
    table.add({{"flow"}, {flow != nullptr ? flow_words(*flow) : "none"}});
    const std::string backend = text_at(explanation, "backend");
    const std::string slot =
        explanation.contains("slot") && explanation["slot"].is_number_unsigned() && flow == nullptr
            ? fmt::format(" (slot {})", format_count(explanation["slot"].get<uint64_t>()))
            : "";
    table.add({{"backend"},
               {backend.empty() ? "none" : backend + slot, backend.empty() ? Colour::bad : Colour::none}});
  }
  if (const std::string why = text_at(explanation, "why"); !why.empty()) table.add({{"why"}, {why}});
  if (const json* tunnel = object_at(explanation, "tunnel"))
    table.add({{"tunnel"},
               {fmt::format("from {} to {}", text_at(*tunnel, "source"), text_at(*tunnel, "destination"))}});
  if (const json* hop = object_at(explanation, "next_hop")) table.add({{"next hop"}, {hop_words(*hop)}});
  if (const json* hop = object_at(explanation, "return_hop")) table.add({{"return"}, {hop_words(*hop)}});
  return fmt::format("{} to {} {} ({})\n", client_text(explanation), text_at(explanation, "service"),
                     text_at(explanation, "listen"), text_at(explanation, "mode")) +
         table.print(style, "  ") + (has_choices ? choices_text(*choices, style) : "");
}

std::string flows_text(const json& flows, bool only_count, const Style& style) {
  using enum Table::Align;
  const uint64_t count = flows.value("count", uint64_t{0});
  const bool is_complete = flows.value("complete", false);
  if (only_count) {
    Table table({left, right});
    const json* const states = object_at(flows, "states");
    if (states != nullptr)
      for (const auto& [state, n] : states->items()) table.add({{state}, {format_count(n.get<uint64_t>())}});
    return fmt::format("{}{} connections\n", is_complete ? "" : "at least ", format_count(count)) +
           table.print(style, "  ");
  }
  Table table({left, left, left, left, left, right, right});
  table.add({{"CLIENT"}, {"SERVICE"}, {"BACKEND"}, {"NAT"}, {"STATE"}, {"IDLE"}, {"WORKER"}});
  for (const json& flow : flows.value("flows", json::array())) {
    const std::string pool = text_at(flow, "pool");
    table.add({{text_at(flow, "client")},
               {text_at(flow, "service")},
               {pool.empty() ? "gone" : pool + "/" + text_at(flow, "backend")},
               {text_at(flow, "nat")},
               {text_at(flow, "state") + (flow.value("probationary", false) ? "?" : "")},
               {format_age(flow.value("idle_ms", int64_t{0}))},
               {std::to_string(flow.value("worker", 0))}});
  }
  return table.print(style, "") + (is_complete ? "" : "there are more: `--limit N`, or `--count`\n");
}

std::string drops_text(const json& drops, bool all, const Style& style) {
  using enum Table::Align;
  Table table({left, right, right, left});
  table.add({{"REASON"}, {"PACKETS"}, {"PER s"}, {"MEANING"}});
  bool any = false;
  for (const json& drop : drops.value("drops", json::array())) {
    const uint64_t packets = drop.value("packets", uint64_t{0});
    if (packets == 0 && !all) continue;
    any = true;
    const double rate = drop.value("per_second", 0.0);
    table.add({{drop.value("name", ""), rate >= 0.05 ? Colour::warning : Colour::none},
               {format_count(packets)},
               {format_rate(rate)},
               {drop.value("text", ""), Colour::faint}});
  }
  std::string out = any ? table.print(style) : "no packet was dropped\n";
  out += ways_text(drops, style);
  if (!drops.value("working", true)) {
    out += style.paint(Colour::bad, "! the dataplane does not work; these are its last counters") + "\n";
  }
  return out;
}

}  // namespace portico::cli
