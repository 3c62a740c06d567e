// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>
#include <set>

#include "control/config_names.h"
#include "control/config_sections.h"
#include "control/dnat.h"

namespace portico {

namespace {

// Removed backends stay in the table for a while beside their successors.
constexpr size_t kMostUses = kMaxReplyEndpoints / 2;

// Replies show the client's end and the backend's, not the listener that the client asked.
void check_ambiguity(ConfigReader& reader, const Config& config) {
  const std::vector<DnatUse> uses = dnat_uses(config);
  std::map<Endpoint, const DnatUse*> first;
  std::set<std::pair<Endpoint, Endpoint>> said;
  for (const DnatUse& use : uses) {
    const auto [other, is_new] = first.emplace(use.backend, &use);
    if (is_new || !said.emplace(other->second->listener, use.listener).second) continue;
    reader.warning(
        reader.mark("services/" + use.service->name),
        fmt::format("listeners {} and {} lead to the same port of backends in mode dnat; a client that uses "
                    "one port of its own for both at a time is refused one of them: give services "
                    "different values of `backend_port`, or a pool of their own",
                    format_endpoint(other->second->listener), format_endpoint(use.listener)));
  }
}

}  // namespace

void check_dnat(ConfigReader& reader, const Config& config) {
  if (const size_t count = count_dnat_uses(config); count > kMostUses) {
    reader.error(reader.mark("services"),
                 fmt::format("services in mode dnat lead to {} backend ports, counted for each listener; at "
                             "most {} are possible",
                             count, kMostUses));
    return;
  }
  check_ambiguity(reader, config);
}

}  // namespace portico
