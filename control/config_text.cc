// SPDX-License-Identifier: Apache-2.0
#include "control/config_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace portico {

namespace {

struct Unit {
  std::string_view name;
  int64_t ms;
};
constexpr Unit kUnits[] = {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}};
constexpr int64_t kLongestMs = 1000 * kUnits[0].ms;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_alnum(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Takes the leading characters for which `wanted` holds off `text`.
template <typename Predicate>
std::string_view take_while(std::string_view& text, Predicate wanted) {
  size_t n = 0;
  while (n < text.size() && wanted(text[n])) ++n;
  const std::string_view taken = text.substr(0, n);
  text.remove_prefix(n);
  return taken;
}

}  // namespace

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Milliseconds> parse_duration(std::string_view text) {
  if (text == "0") return Milliseconds{0};
  if (text.empty()) return std::nullopt;
  int64_t total = 0;
  const Unit* smallest_allowed = std::begin(kUnits);
  while (!text.empty()) {
    const auto count = parse_number(take_while(text, is_digit));
    const std::string_view name = take_while(text, [](char c) { return !is_digit(c); });
    const Unit* unit =
        std::find_if(smallest_allowed, std::end(kUnits), [&](const Unit& u) { return u.name == name; });
    if (!count || unit == std::end(kUnits) || *count > static_cast<uint64_t>(kLongestMs)) return std::nullopt;
    if (static_cast<int64_t>(*count) > kLongestMs / unit->ms) return std::nullopt;
    total += static_cast<int64_t>(*count) * unit->ms;
    smallest_allowed = unit + 1;
  }
  if (total > kLongestMs) return std::nullopt;
  return Milliseconds{total};
}

std::string format_duration(Milliseconds duration) {
  std::string text;
  int64_t rest = duration.count();
  for (const Unit& unit : kUnits) {
    if (rest < unit.ms) continue;
    text += fmt::format("{}{}", rest / unit.ms, unit.name);
    rest %= unit.ms;
  }
  return text.empty() ? "0s" : text;
}

std::optional<Address> parse_host_address(std::string_view text, std::string& problem) {
  const auto address = Address::parse(text);
  if (!address) {
    const bool has_slash = text.find('/') != std::string_view::npos;
    problem = fmt::format(
        "`{}` is not an address; write {}", text,
        has_slash ? "one address without a prefix length" : "one such as 192.0.2.1 or 2001:db8::1");
    return std::nullopt;
  }
  if (address->is_v4() && text.find(':') != std::string_view::npos) {
    problem = fmt::format("`{}` is an IPv4-mapped address; write {}", text, to_string(*address));
    return std::nullopt;
  }
  const uint8_t first = address->is_v4() ? address->bytes[12] : address->bytes[0];
  const bool unspecified = address->is_none() || (address->is_v4() && first == 0);
  const bool multicast = address->is_v4() ? first >= 224 : first == 0xff;
  if (unspecified || multicast) {
    problem =
        fmt::format("`{}` is {}; write the unicast address of one host", text,
                    unspecified ? "the unspecified address" : "a multicast, reserved or broadcast address");
    return std::nullopt;
  }
  return address;
}

std::optional<Address> parse_forwarded_address(std::string_view text, std::string& problem) {
  const auto address = parse_host_address(text, problem);
  if (!address) return std::nullopt;
  const auto& b = address->bytes;
  Address v6_loopback{};
  v6_loopback.bytes[15] = 1;
  const bool loopback = address->is_v4() ? b[12] == 127 : *address == v6_loopback;
  const bool link_local =
      address->is_v4() ? b[12] == 169 && b[13] == 254 : b[0] == 0xfe && (b[1] & 0xc0) == 0x80;
  if (loopback || link_local) {
    problem = fmt::format("`{}` is a {} address, which is never forwarded; write one that can be routed",
                          text, loopback ? "loopback" : "link-local");
    return std::nullopt;
  }
  return address;
}

namespace {

std::optional<uint16_t> parse_port(std::string_view text, std::string& problem) {
  const auto port = parse_number(text);
  if (!port || *port == 0 || *port > 65535) {
    problem = fmt::format("`{}` is not a port; write a number from 1 to 65535", text);
    return std::nullopt;
  }
  return static_cast<uint16_t>(*port);
}

// Splits "address:port" and "[address]:port"; a bare IPv6 address has no port.
void split_endpoint(std::string_view text, std::string_view& host, std::optional<std::string_view>& port) {
  const size_t bracket = text.starts_with('[') ? text.find(']') : std::string_view::npos;
  if (bracket != std::string_view::npos) {
    host = text.substr(1, bracket - 1);
    const std::string_view rest = text.substr(bracket + 1);
    if (!rest.empty()) port = rest.starts_with(':') ? rest.substr(1) : rest;
    return;
  }
  const size_t colon = text.rfind(':');
  const bool bare_v6 = colon != std::string_view::npos && text.find(':') != colon;
  host = bare_v6 ? text : text.substr(0, colon);
  if (!bare_v6 && colon != std::string_view::npos) port = text.substr(colon + 1);
}

}  // namespace

std::optional<Endpoint> parse_endpoint(std::string_view text, std::optional<uint16_t> default_port,
                                       std::string& problem) {
  std::string_view host;
  std::optional<std::string_view> port_text;
  split_endpoint(text, host, port_text);
  if (!port_text && !default_port) {
    problem = fmt::format(
        "`{}` has no port; write ADDRESS:PORT, such as 203.0.113.10:443 or "
        "\"[2001:db8::10]:443\" (with the quotes)",
        text);
    return std::nullopt;
  }
  const auto address = parse_host_address(host, problem);
  if (!address) return std::nullopt;
  std::optional<uint16_t> port = default_port;
  if (port_text) port = parse_port(*port_text, problem);
  if (!port) return std::nullopt;
  return Endpoint{*address, *port};
}

std::string format_endpoint(const Endpoint& endpoint) {
  std::string host = to_string(endpoint.address);
  if (endpoint.port == 0) return host;
  return fmt::format("{}:{}", endpoint.address.is_v4() ? host : "[" + host + "]", endpoint.port);
}

std::optional<Prefix> parse_prefix(std::string_view text, std::string& problem) {
  const auto prefix = Prefix::parse(text);
  if (prefix && !(prefix->address.is_v4() && text.find(':') != std::string_view::npos)) return prefix;
  problem = fmt::format(
      "`{}` is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::/32, with all host "
      "bits zero",
      text);
  return std::nullopt;
}

std::optional<std::vector<StatusRange>> parse_status_set(std::string_view text) {
  constexpr uint64_t kLeast = 100, kMost = 599;
  constexpr size_t kMaxRanges = 32;
  std::vector<StatusRange> ranges;
  while (ranges.size() < kMaxRanges) {
    const auto first = parse_number(take_while(text, is_digit));
    auto last = first;
    if (text.starts_with('-')) {
      text.remove_prefix(1);
      last = parse_number(take_while(text, is_digit));
    }
    if (!first || !last || *first < kLeast || *first > *last || *last > kMost) return std::nullopt;
    ranges.push_back({static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)});
    if (text.empty()) return ranges;
    if (!text.starts_with(',')) return std::nullopt;
    text.remove_prefix(1);
    while (text.starts_with(' ')) text.remove_prefix(1);
  }
  return std::nullopt;
}

std::string format_status_set(const std::vector<StatusRange>& ranges) {
  std::string text;
  for (const auto& [first, last] : ranges) {
    if (!text.empty()) text += ',';
    text += first == last ? std::to_string(first) : fmt::format("{}-{}", first, last);
  }
  return text;
}

std::optional<std::string> parse_bytes(std::string_view text) {
  constexpr std::string_view kLetters = "rnt\\", kMeant = "\r\n\t\\";
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    const char letter = ++i < text.size() ? text[i] : '\0';
    if (letter == 'x' && i + 2 < text.size()) {
      unsigned value = 0;
      const char *const first = text.data() + i + 1, *const last = first + 2;
      if (std::from_chars(first, last, value, 16).ptr != last) return std::nullopt;
      bytes += static_cast<char>(value);
      i += 2;
      continue;
    }
    const size_t which = letter == '\0' ? std::string_view::npos : kLetters.find(letter);
    if (which == std::string_view::npos) return std::nullopt;
    bytes += kMeant[which];
  }
  return bytes;
}

std::string format_bytes(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if (c == '\\')
      text += "\\\\";
    else if (c >= ' ' && c <= '~')
      text += c;
    else
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return text;
}

std::optional<std::vector<unsigned>> parse_cpus(std::string_view text, std::string& problem) {
  constexpr unsigned kMaxCpu = 4095;
  std::vector<unsigned> cpus;
  problem =
      fmt::format("`{}` is not a list of CPUs; write one such as 2,3 or 2-5, no CPU twice and at most {}",
                  text, kMaxWorkers);
  while (true) {
    const auto first = parse_number(take_while(text, is_digit));
    auto last = first;
    if (text.starts_with('-')) {
      text.remove_prefix(1);
      last = parse_number(take_while(text, is_digit));
    }
    if (!first || !last || *first > *last || *last > kMaxCpu) return std::nullopt;
    for (uint64_t cpu = *first; cpu <= *last; ++cpu) {
      if (cpus.size() == kMaxWorkers || std::ranges::count(cpus, cpu) != 0) return std::nullopt;
      cpus.push_back(static_cast<unsigned>(cpu));
    }
    if (text.empty()) break;
    if (!text.starts_with(',')) return std::nullopt;
    text.remove_prefix(1);
  }
  problem.clear();
  return cpus;
}

bool is_good_name(std::string_view text, std::string& problem) {
  if (text.empty() || text.size() >= kNameSize) {
    problem = fmt::format("`{}` has {} characters; a name has 1 to {}", text, text.size(), kNameSize - 1);
    return false;
  }
  const auto good = [](char c) { return is_alnum(c) || c == '.' || c == '_' || c == '-'; };
  if (!is_alnum(text.front()) || !std::ranges::all_of(text, good)) {
    problem = fmt::format(
        "`{}` is not a good name; use letters, digits, '.', '_' and '-', and start with a "
        "letter or digit",
        text);
    return false;
  }
  return true;
}

bool parse_hash_key(std::string_view text, uint64_t (&key)[2]) {
  if (text.size() != 32) return false;
  for (size_t i = 0; i < 2; ++i) {
    const std::string_view half = text.substr(i * 16, 16);
    const auto [end, error] = std::from_chars(half.data(), half.data() + half.size(), key[i], 16);
    if (error != std::errc{} || end != half.data() + half.size()) return false;
  }
  return true;
}

namespace {

// Levenshtein distance.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::optional<std::string_view> closest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > kNameSize) return std::nullopt;
  std::optional<std::string_view> best;
  size_t best_distance = 3;
  for (const std::string_view candidate : candidates) {
    const bool prefix = word.size() >= 3 && (candidate.starts_with(word) || word.starts_with(candidate));
    const size_t distance = prefix ? 1 : edit_distance(word, candidate);
    if (distance >= best_distance || distance >= candidate.size()) continue;
    best = candidate;
    best_distance = distance;
  }
  return best;
}

std::string join_choices(std::span<const std::string_view> words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace portico
