// SPDX-License-Identifier: Apache-2.0
#include "dataplane/parameters.h"
#include "dataplane/telemetry.h"

namespace portico {

std::optional<ExplainQuery> parse_explain(std::string_view parameters, std::string& complaint) {
  std::array<std::string_view, 4> parts;
  if (!split_parameters(parameters, parts)) {
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
  } else if (!read_number(parts[1], query.client_port)) {
    complaint = "the client port is not 0 to 65535";
  } else if (!read_number(parts[3], query.vip_port, uint16_t{1})) {
    complaint = "the service port is not 1 to 65535";
  } else {
    query.client = *client;
    query.vip = *vip;
    return query;
  }
  return std::nullopt;
}

}  // namespace portico
