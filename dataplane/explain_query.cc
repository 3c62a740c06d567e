// SPDX-License-Identifier: Apache-2.0
#include <charconv>

#include "dataplane/telemetry.h"

namespace portico {
namespace {

bool parse_port(std::string_view text, uint16_t& port) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), port);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

}  // namespace

std::optional<ExplainQuery> parse_explain(std::string_view parameters, std::string& complaint) {
  std::vector<std::string_view> parts;
  for (size_t start = 0; start <= parameters.size() && parts.size() <= 4;) {
    const size_t comma = std::min(parameters.find(',', start), parameters.size());
    parts.push_back(parameters.substr(start, comma - start));
    start = comma + 1;
  }
  if (parts.size() != 4) {
    complaint = "takes four parameters: client address, client port or 0, service address, service port";
    return std::nullopt;
  }
  const auto client = Address::parse(parts[0]);
  const auto vip = Address::parse(parts[2]);
  ExplainQuery query;
  if (!client || !vip) {
    complaint =
        client ? "the service address is not an IP address" : "the client address is not an IP address";
  } else if (client->family() != vip->family()) {
    complaint = "client and service address are of different families";
  } else if (!parse_port(parts[1], query.client_port)) {
    complaint = "the client port is not 0 to 65535";
  } else if (!parse_port(parts[3], query.vip_port) || query.vip_port == 0) {
    complaint = "the service port is not 1 to 65535";
  } else {
    query.client = *client;
    query.vip = *vip;
    return query;
  }
  return std::nullopt;
}

}  // namespace portico
