// SPDX-License-Identifier: Apache-2.0
// Documents that are part of the programs.
#pragma once

#include <string_view>

namespace portico {

// JSON schema (draft 2020-12) of the configuration: control/schema/config.schema.json.
std::string_view config_schema();
// The API and the JSON output of `portico` in OpenAPI 3.1: control/schema/openapi.json.
std::string_view openapi_document();

}  // namespace portico
