// SPDX-License-Identifier: Apache-2.0
// What the dataplane sees of backends (SYNs without answer, sent again, or refused), as a reason to probe
// them at once. Anybody can send SYNs, so such signals change no backend's state, and how many probes they
// cause is bounded.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "contract/feedback.h"
#include "control/config.h"
#include "control/ids.h"

namespace portico {

// Of one backend, since it was last probed for such signals.
struct PassiveSignal {
  std::string pool, backend;
  uint64_t unanswered = 0, repeated = 0, refused = 0;  // SYNs
  bool is_news = false;                                // none was told of for kTellAgainNs

  // "2 SYNs without answer, 1 SYN refused".
  std::string text() const;
};

class PassiveSignals {
 public:
  // One backend's probes are this far apart at least, or as far as its checks' fast intervals.
  static constexpr uint64_t kPauseNs = 200'000'000;
  // So many backends a second are probed for signals, and so many at once: what is left waits.
  static constexpr uint32_t kPerSecond = 256, kBurst = 64;
  static constexpr uint64_t kTellAgainNs = 60'000'000'000;

  // Watches the backends of pools with `passive: probe`. What is known of the others is kept.
  void follow(const Config& config, const Ids& ids);

  // Returns how many checks it probes.
  using Probe = std::function<uint32_t(const PassiveSignal&)>;
  // Calls `probe` for backends with signals that are new since their last probe. Of the first reading
  // ever nothing is new. `now_ns`: CLOCK_MONOTONIC.
  void look(const Feedback& feedback, uint64_t now_ns, const Probe& probe);

  // How often the backend's checks were probed for signals, since control started.
  uint64_t probes(uint16_t backend) const { return backend < seen_.size() ? seen_[backend].probes : 0; }

 private:
  struct Watched {
    uint16_t id;
    uint64_t pause_ns;
    std::string pool, backend;
  };
  // By backend id.
  struct Seen {
    uint64_t unanswered = 0, repeated = 0, refused = 0;
    uint64_t next_ns = 0, told_ns = 0;  // CLOCK_MONOTONIC; told_ns 0: never
    uint64_t probes = 0;
  };

  bool take_token(uint64_t now_ns);
  void note_epoch(const Feedback& feedback);

  std::vector<Watched> watched_;
  std::vector<Seen> seen_ = std::vector<Seen>(kMaxBackends);
  size_t first_ = 0;  // who comes first in the next look: nobody is always last
  uint64_t epoch_ = 0, filled_ns_ = 0;
  double tokens_ = kBurst;
};

}  // namespace portico
