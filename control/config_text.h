// SPDX-License-Identifier: Apache-2.0
// How single values are written in the configuration: durations, numbers, endpoints, names. Pure functions;
// `problem` receives what is wrong and how to write it instead.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/config.h"

namespace portico {

// "100ms", "2s", "2h4m", "1d", "0": whole numbers with a unit each, largest unit first, each unit once.
// Nothing for anything else, and for more than 1000 days.
std::optional<Milliseconds> parse_duration(std::string_view text);

// The inverse: parse_duration(format_duration(d)) == d for every d >= 0.
std::string format_duration(Milliseconds duration);

// Decimal digits only, no sign; nothing if it does not fit.
std::optional<uint64_t> parse_number(std::string_view text);

// An address that one host can have: no port, no zone, not IPv4-mapped, not unspecified, multicast or
// broadcast.
std::optional<Address> parse_host_address(std::string_view text, std::string& problem);

// The same for what packets are forwarded to or from: also not loopback, not link-local.
std::optional<Address> parse_forwarded_address(std::string_view text, std::string& problem);

// "192.0.2.1:443" or "[2001:db8::1]:443". Without a port, `default_port` if that is set.
std::optional<Endpoint> parse_endpoint(std::string_view text, std::optional<uint16_t> default_port,
                                       std::string& problem);
// The inverse; port 0 is left out.
std::string format_endpoint(const Endpoint& endpoint);

// "192.0.2.0/24", "2001:db8::/32", or an address.
std::optional<Prefix> parse_prefix(std::string_view text, std::string& problem);

// "2,3", "2-5", "0,4-7": ascending order is not needed; no CPU twice; at most kMaxWorkers.
std::optional<std::vector<unsigned>> parse_cpus(std::string_view text, std::string& problem);

// "200-299,304": codes and ranges of them, 100 to 599, at most 32.
std::optional<std::vector<StatusRange>> parse_status_set(std::string_view text);
// The inverse.
std::string format_status_set(const std::vector<StatusRange>& ranges);

// A text with \r, \n, \t, \\ and \xNN for bytes that do not show. Nothing for any other escape.
std::optional<std::string> parse_bytes(std::string_view text);
// The inverse.
std::string format_bytes(std::string_view bytes);

// A name of a service, pool, backend, check or instance: 1 to 63 letters, digits, '.', '_', '-'; the first
// one a letter or digit.
bool is_good_name(std::string_view text, std::string& problem);

// 32 hexadecimal digits.
bool parse_hash_key(std::string_view text, uint64_t (&key)[2]);

// The candidate that `word` was probably meant to be: at most two typing errors away, or a prefix of it.
std::optional<std::string_view> closest(std::string_view word, std::span<const std::string_view> candidates);

// "a, b or c".
std::string join_choices(std::span<const std::string_view> words);

}  // namespace portico
