// SPDX-License-Identifier: Apache-2.0
// Follows the dataplane through the feedback file: is it there, does it take what control publishes, and how
// fast do its counters grow.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "contract/feedback.h"
#include "contract/feedback_file.h"
#include "contract/log_limit.h"
#include "control/ids.h"
#include "control/rates.h"

namespace portico {

// Rates per second of what status shows.
struct ServiceRates {
  Rate new_flows, bytes_in, bytes_out, missed;
};
struct BackendRates {
  Rate new_flows, bytes_in, bytes_out;
};

class DataplaneWatch {
 public:
  enum class Level { info, warning, error };
  using Event = std::function<void(Level, const std::string& text)>;

  DataplaneWatch(const std::filesystem::path& run_dir, Event on_event);

  // Reads the feedback file. `table_epoch` and `generation` are what control has published. Calls on_event
  // for what changed: it came, went, restarted, refused, or did not acknowledge in time.
  void poll(uint64_t table_epoch, uint64_t generation, uint64_t now_ns);

  // Whether a process that control can work with is there: alive, of the same build, with a fresh heartbeat.
  bool is_working() const { return result_.ok() && result_.writer_alive && !result_.stale; }
  // Whether it moves packets by a table of ours. One that works may still be starting, or wait for a table.
  bool is_forwarding() const {
    return is_working() && adopted_ != 0 &&
           DataplaneState{feedback_->header.state} == DataplaneState::running;
  }
  const FeedbackResult& result() const { return result_; }
  // The last readable feedback; all zero before the first one. Its counters are of the past if !is_working().
  const Feedback& feedback() const { return *feedback_; }
  // Its numbers as three consecutive readings have them: of each the middle one, so that what somebody else
  // wrote between two reports of the dataplane is in none. With fewer readings: feedback(). Not for texts.
  const Feedback& settled() const { return *settled_; }
  // The generation of our table in use; 0: none of ours.
  uint64_t adopted() const { return adopted_; }
  // The newest generation of ours that was refused and not overtaken by an adopted one; 0: none.
  uint64_t refused() const;

  // Whether a living process may have flows, and feedback() says which.
  bool may_hold_flows() const { return result_.ok() && result_.writer_alive; }

  // Whether a living process is past its wait for a first table: it forwards, by a table of ours or of
  // another control before.
  bool serves() const {
    return may_hold_flows() && DataplaneState{feedback_->header.state} == DataplaneState::running;
  }

  // The names of the ports that a living dataplane holds, by index; empty: none runs or it has none yet.
  std::vector<std::string> ports() const;

  // Reports by service and backend id for Ids::release. Before the third reading everything may have flows.
  FlowReport service_flows() const;
  FlowReport backend_flows() const;

  // Whether packets came from a backend to the NAT of a working dataplane within the last second.
  bool has_sent(uint16_t backend, uint64_t now_ns) const;

  // Counters that contradicted themselves, since control started: no dataplane writes that.
  uint64_t contradictions() const { return contradictions_; }

  // What is wrong with the dataplane now, each with its remedy.
  std::vector<std::string> warnings() const;

  const ServiceRates& service_rates(uint16_t id) const { return services_[id]; }
  const BackendRates& backend_rates(uint16_t id) const { return backends_[id]; }
  const Rate& drop_rate(uint32_t reason) const { return drops_[reason]; }
  const Share& busy(uint32_t worker) const { return busy_[worker]; }

 private:
  void note_presence();
  void note_refusal(uint64_t now_ns);
  void note_acknowledgement(uint64_t generation, uint64_t now_ns);
  void note_epoch();
  void keep(FeedbackResult result, uint64_t now_ns);
  void settle();
  uint64_t flows_of(uint64_t settled, uint64_t newest) const;
  bool may_update_rates(uint64_t now_ns) const;
  void update_rates();
  std::string contradiction_text() const;
  void note_contradictions(uint64_t found, uint64_t now_ns);
  void note_packets_out(uint64_t now_ns);
  FlowReport report() const;
  std::string slow_workers(uint64_t generation) const;

  FeedbackReader reader_;
  Event on_event_;
  FeedbackResult result_;
  // The last readings, and how many of them, the newest first, are consecutive ones of one dataplane.
  std::unique_ptr<Feedback> feedback_, before_, earlier_, settled_;
  uint32_t readings_ = 0;
  uint64_t read_ns_ = 0, before_ns_ = 0;
  std::string presence_;  // what was last said about it
  uint64_t epoch_ = 0, adopted_ = 0, reported_refusal_ = 0;
  LogLimit refusal_log_;
  uint64_t waiting_generation_ = 0, waiting_since_ns_ = 0;
  std::string late_;  // who has not acknowledged; empty: nobody is late
  uint64_t rates_at_ns_ = 0;
  uint64_t contradictions_ = 0, contradicted_ns_ = 0, contradiction_logged_ns_ = 0;
  // By backend: its counter, and when that was last seen to grow; 0: never. Of the dataplane
  // `counted_epoch_`.
  std::vector<uint64_t> counted_out_, sent_at_ns_;
  uint64_t counted_epoch_ = 0;
  std::vector<ServiceRates> services_;
  std::vector<BackendRates> backends_;
  std::vector<Rate> drops_;
  std::vector<Share> busy_;
};

}  // namespace portico
