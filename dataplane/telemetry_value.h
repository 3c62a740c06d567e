// SPDX-License-Identifier: Apache-2.0
// A JSON object or list for DPDK's telemetry, freed unless it is given away.
#pragma once

#include <rte_telemetry.h>

#include <cstdint>
#include <string>
#include <utility>

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
  // `child` from rte_tel_data_alloc; taken over.
  void add_child(const char* name, rte_tel_data* child) {
    if (rte_tel_data_add_dict_container(data_, name, child, 0) != 0) rte_tel_data_free(child);
  }

 private:
  rte_tel_data* data_;
};

// A list of objects.
class TelemetryList {
 public:
  TelemetryList() : data_(rte_tel_data_alloc()) {
    if (data_ != nullptr) rte_tel_data_start_array(data_, RTE_TEL_CONTAINER);
  }
  TelemetryList(const TelemetryList&) = delete;
  TelemetryList& operator=(const TelemetryList&) = delete;
  ~TelemetryList() {
    if (data_ != nullptr) rte_tel_data_free(data_);
  }

  // Appends an object that `fill(TelemetryObject&)` fills.
  template <typename Fill>
  void append(const Fill& fill) {
    rte_tel_data* child = rte_tel_data_alloc();
    if (child == nullptr || data_ == nullptr) return;
    TelemetryObject object(child);
    fill(object);
    if (rte_tel_data_add_array_container(data_, child, 0) != 0) rte_tel_data_free(child);
  }

  // Becomes a member of `parent`.
  void move_into(TelemetryObject& parent, const char* name) {
    if (data_ != nullptr) parent.add_child(name, std::exchange(data_, nullptr));
  }

 private:
  rte_tel_data* data_;
};

}  // namespace portico
