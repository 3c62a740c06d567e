// SPDX-License-Identifier: Apache-2.0
#include "control/guard.h"

#include <nftables/libnftables.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <set>

namespace portico {

namespace {

// Before connection tracking and before most firewalls: whatever those decide, the kernel does not answer.
constexpr const char* kHookPriority = "-310";
// nftables takes names of up to 255 characters; the rest is room for "portico-".
constexpr size_t kMaxInstanceLength = 200;

std::string sanitised(const std::string& instance) {
  std::string name;
  for (const char c : instance.substr(0, kMaxInstanceLength)) {
    const bool is_plain = std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
    name += is_plain ? c : '_';
  }
  return name;
}

std::string set_of(const char* name, const char* address_type, const char* flags,
                   const std::string& elements) {
  std::string text = std::string("  set ") + name + " { type " + address_type + " . inet_service; " + flags;
  if (!elements.empty()) text += " elements = { " + elements + " };";
  return text + " }\n";
}

void append(std::string& list, const std::string& element) {
  if (!list.empty()) list += ", ";
  list += element;
}

// Ascending, and none touches another: nftables merges no ranges in sets of tuples, it refuses them.
std::vector<NatRange> merged(std::span<const NatRange> ranges) {
  std::vector<NatRange> sorted(ranges.begin(), ranges.end()), result;
  std::sort(sorted.begin(), sorted.end());
  for (const NatRange& range : sorted) {
    if (!result.empty() && result.back().address == range.address &&
        range.first_port <= result.back().last_port + 1) {
      result.back().last_port = std::max(result.back().last_port, range.last_port);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

// The six sets: listeners, NAT ranges and backends by family.
std::string sets_text(std::span<const Endpoint> listeners, std::span<const NatRange> nat,
                      std::span<const Endpoint> backends) {
  std::string services4, services6, nat4, nat6, backends4, backends6;
  for (const Endpoint& backend : std::set<Endpoint>(backends.begin(), backends.end())) {
    append(backend.address.is_v4() ? backends4 : backends6,
           to_string(backend.address) + " . " + std::to_string(backend.port));
  }
  for (const Endpoint& listener : std::set<Endpoint>(listeners.begin(), listeners.end())) {
    append(listener.address.is_v4() ? services4 : services6,
           to_string(listener.address) + " . " + std::to_string(listener.port));
  }
  for (const NatRange& range : merged(nat)) {
    append(range.address.is_v4() ? nat4 : nat6, to_string(range.address) + " . " +
                                                    std::to_string(range.first_port) + "-" +
                                                    std::to_string(range.last_port));
  }
  return set_of("services4", "ipv4_addr", "", services4) + set_of("services6", "ipv6_addr", "", services6) +
         set_of("nat4", "ipv4_addr", "flags interval;", nat4) +
         set_of("nat6", "ipv6_addr", "flags interval;", nat6) +
         set_of("backends4", "ipv4_addr", "", backends4) + set_of("backends6", "ipv6_addr", "", backends6);
}

std::string rules(const char* side, const char* port, const char* condition,
                  std::initializer_list<const char*> sets) {
  std::string text;
  for (const char* set : sets) {
    const bool v4 = set[std::strlen(set) - 1] == '4';
    text += std::string("    ") + condition + (v4 ? "ip " : "ip6 ") + side + " . tcp " + port + " @" + set +
            " counter name guarded drop\n";
  }
  return text;
}

std::string chains_text() {
  const std::string priority = std::string(" priority ") + kHookPriority + "; policy accept;\n";
  const auto ours = {"services4", "services6", "nat4", "nat6"};
  return "  chain arriving {\n    type filter hook prerouting" + priority +
         rules("daddr", "dport", "", ours) + "  }\n" + "  chain passing {\n    type filter hook forward" +
         priority + rules("saddr", "sport", "", {"backends4", "backends6"}) + "  }\n" +
         // No packet of these gets as far as the kernel's TCP by the rules above. Should one, by a hole that
         // nobody thought of, its answer must not reset the client.
         "  chain leaving {\n    type filter hook output" + priority +
         rules("saddr", "sport", "tcp flags & rst == rst ", ours) + "  }\n";
}

}  // namespace

Guard::Guard(const std::string& instance) : table_("portico-" + sanitised(instance)) {}

Guard::~Guard() {
  if (context_ != nullptr) nft_ctx_free(context_);
}

Guard::Failure Guard::open() {
  if (context_ != nullptr) return std::nullopt;
  context_ = nft_ctx_new(NFT_CTX_DEFAULT);
  if (context_ == nullptr) return "cannot start libnftables: out of memory or descriptors";
  nft_ctx_buffer_output(context_);
  nft_ctx_buffer_error(context_);
  return std::nullopt;
}

Guard::Failure Guard::run(const std::string& commands) {
  if (auto failure = open()) return failure;
  if (nft_run_cmd_from_buffer(context_, commands.c_str()) == 0) return std::nullopt;
  // The first line says it; the others point into our own text.
  std::string reason = nft_ctx_get_error_buffer(context_);
  reason = reason.substr(0, reason.find('\n'));
  return "the nftables guard cannot be set: " + reason +
         " (control needs root or CAP_NET_ADMIN, and a kernel with nf_tables: 'modprobe nf_tables', 'nft "
         "list "
         "ruleset')";
}

Guard::Failure Guard::apply(std::span<const Endpoint> listeners, std::span<const NatRange> nat,
                            std::span<const Endpoint> backends) {
  const std::string sets = sets_text(listeners, nat, backends);
  was_mended_ = false;
  if (sets == applied_ && !listed_.empty() && listing() == listed_) return std::nullopt;
  const bool is_repair = sets == applied_;
  const auto before = dropped();
  // A table that is not there cannot be deleted, so it is added first; all of it is one transaction.
  const std::string name = "table inet " + table_;
  const std::string counter =
      "  counter guarded { packets " + std::to_string(before.value_or(0)) + " bytes 0; }\n";
  auto failure =
      run(name + "\ndelete " + name + "\n" + name + " {\n" + counter + sets + chains_text() + "}\n");
  applied_ = failure ? "" : sets;
  listed_ = failure ? "" : listing();
  was_mended_ = is_repair && !failure;
  return failure;
}

Guard::Failure Guard::remove() {
  applied_.clear();
  const std::string name = "table inet " + table_;
  return run(name + "\ndelete " + name + "\n");
}

// The table in the kernel's words, without its counter's values; "" if it is not there.
std::string Guard::listing() {
  if (run("list table inet " + table_ + "\n")) return "";
  std::string text = nft_ctx_get_output_buffer(context_);
  const size_t at = text.find("packets ");
  if (at != std::string::npos) text.erase(at, text.find('\n', at) - at);
  return text;
}

Guard::Failure Guard::find_hole(std::span<const Endpoint> listeners, std::span<const NatRange> nat,
                                std::span<const Endpoint> backends) {
  const std::string text = listing();
  if (text.empty()) return "the guard is not there";
  for (const bool v4 : {true, false}) {
    const std::string sets = v4 ? "4" : "6";
    for (const char* set : {"services", "nat", "backends"}) {
      const bool is_source = std::strcmp(set, "backends") == 0;
      const std::string rule = std::string(v4 ? "ip" : "ip6") +
                               (is_source ? " saddr . tcp sport @" : " daddr . tcp dport @") + set + sets;
      const size_t at = text.find(rule);
      if (at == std::string::npos || !text.substr(at, text.find('\n', at) - at).ends_with("drop"))
        return std::string("the guard has no rule for ") + (v4 ? "IPv4 " : "IPv6 ") + set;
    }
  }
  // All of a set in one question: each reads the whole set from the kernel.
  std::string elements[6];  // of `sets`, below
  for (const Endpoint& one : listeners)
    append(elements[one.address.is_v4() ? 0 : 1], to_string(one.address) + " . " + std::to_string(one.port));
  for (const NatRange& one : nat)
    for (const uint16_t port : {one.first_port, one.last_port})
      append(elements[one.address.is_v4() ? 2 : 3], to_string(one.address) + " . " + std::to_string(port));
  for (const Endpoint& one : backends)
    append(elements[one.address.is_v4() ? 4 : 5], to_string(one.address) + " . " + std::to_string(one.port));
  const char* const sets[] = {"services4", "services6", "nat4", "nat6", "backends4", "backends6"};
  for (size_t i = 0; i < std::size(sets); ++i)
    if (!elements[i].empty() &&
        run("get element inet " + table_ + " " + sets[i] + " { " + elements[i] + " }\n"))
      return std::string("the guard's set ") + sets[i] + " lacks some of { " + elements[i] + " }";
  return std::nullopt;
}

std::optional<uint64_t> Guard::dropped() {
  if (run("list counter inet " + table_ + " guarded\n")) return std::nullopt;
  const std::string text = nft_ctx_get_output_buffer(context_);
  const size_t at = text.find("packets ");
  if (at == std::string::npos) return std::nullopt;
  return std::strtoull(text.c_str() + at + std::strlen("packets "), nullptr, 10);
}

}  // namespace portico
