// SPDX-License-Identifier: Apache-2.0
// The number by which this network namespace knows another (rtnetlink, RTM_GETNSID).
#pragma once

#include <optional>
#include <string>

#include "control/netlink.h"

namespace portico {

// -1 if the path names this very namespace. The other gets a number if it has none yet. nullopt and a text in
// `failure` if it cannot be opened, or the kernel refuses.
std::optional<int> namespace_id(NetlinkSocket& socket, const std::string& path, std::string& failure);

}  // namespace portico
