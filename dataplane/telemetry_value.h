// SPDX-License-Identifier: Apache-2.0
// A JSON object for DPDK's telemetry.
#pragma once

#include <rte_telemetry.h>

#include <cstdint>
#include <string>

namespace portico {

// Fits what DPDK lets into a JSON string as it is: printable ASCII without quotes and backslashes, cut to its
// limit.
inline std::string telemetry_text(const std::string& text) {
  std::string clean = text.substr(0, RTE_TEL_MAX_STRING_LEN - 1);
  for (char& c : clean) {
    if (c < ' ' || c > '~' || c == '\\') c = '?';
    if (c == '"') c = '\'';
  }
  return clean;
}

// A view of an object that is being filled. Names that repeat or do not fit are left out by DPDK.
class TelemetryObject {
 public:
  explicit TelemetryObject(rte_tel_data* data) : data_(data) { rte_tel_data_start_dict(data_); }

  void add(const char* name, uint64_t value) { rte_tel_data_add_dict_u64(data_, name, value); }
  void add(const char* name, const std::string& value) {
    rte_tel_data_add_dict_string(data_, name, telemetry_text(value).c_str());
  }
  // A member that is an object itself, filled by `fill(TelemetryObject&)`. DPDK 22.11 writes objects in
  // objects, one level deep; lists of objects it leaves out.
  template <typename Fill>
  void add_object(const std::string& name, const Fill& fill) {
    rte_tel_data* child = rte_tel_data_alloc();
    if (child == nullptr) return;
    TelemetryObject object(child);
    fill(object);
    if (rte_tel_data_add_dict_container(data_, name.c_str(), child, 0) != 0) rte_tel_data_free(child);
  }

 private:
  rte_tel_data* data_;
};

}  // namespace portico
