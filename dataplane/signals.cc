// SPDX-License-Identifier: Apache-2.0
#include "dataplane/signals.h"

#include <pthread.h>
#include <time.h>

namespace portico {

Signals::Signals() {
  sigemptyset(&set_);
  sigaddset(&set_, SIGTERM);
  sigaddset(&set_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
}

bool Signals::wait(uint32_t microseconds) {
  const timespec limit{microseconds / 1'000'000, static_cast<long>(microseconds % 1'000'000) * 1000};
  if (!asked_ && sigtimedwait(&set_, nullptr, &limit) > 0) asked_ = true;
  return asked_;
}

}  // namespace portico
