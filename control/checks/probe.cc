// SPDX-License-Identifier: Apache-2.0
#include "control/checks/probe.h"

#include "control/checks/probe_session.h"

namespace portico {

boost::asio::awaitable<ProbeResult> Prober::probe(ProbeRequest request) {
  const auto started = ProbeSession::Clock::now();
  // Held here, too: cancel() drops session_ while this coroutine sleeps.
  std::shared_ptr<ProbeSession> session = session_;
  if (session && !session->has_verdict()) {
    const bool over = co_await session->wait_for_verdict(started + request.timeout);
    if (!over) co_return session->late_verdict();
    if (session_ != session) co_return ProbeResult{};  // cancelled meanwhile
  }
  const Milliseconds timeout = request.timeout;
  session = std::make_shared<ProbeSession>(io_, std::move(request));
  session_ = session;
  session->start();
  const bool in_time = co_await session->wait_for_verdict(ProbeSession::Clock::now() + timeout);
  if (in_time) co_return session->verdict();
  ProbeResult late = session->late_verdict();
  if (!session->in_login()) session->close();
  co_return late;
}

void Prober::cancel() {
  if (session_) session_->close();
  session_.reset();
}

}  // namespace portico
