// SPDX-License-Identifier: Apache-2.0
// Documents that are part of the programs.
#pragma once

#include <string_view>

namespace portico {

// JSON schema (draft 2020-12) of the configuration: control/schema/config.schema.json.
std::string_view config_schema();

}  // namespace portico
