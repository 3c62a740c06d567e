// SPDX-License-Identifier: Apache-2.0
#include "control/checks/probe.h"

#include <re2/re2.h>

#include "control/checks/probe_session.h"
#include "control/checks/tls_context.h"

namespace portico {

ProbeRequest make_request(const CheckConfig& check, const Endpoint& target) {
  constexpr int64_t kPatternBytes = 1 << 20;
  ProbeRequest request{.kind = check.kind,
                       .target = target,
                       .timeout = check.timeout,
                       .connect_limit = {},
                       .proxy_protocol = check.proxy_protocol,
                       .user = check.user,
                       .password = check.password,
                       .dialogue = check.dialogue,
                       .pattern = nullptr,
                       .verify = check.tls.verify,
                       .sni = check.tls.sni,
                       .tls = nullptr,
                       .problem = {},
                       .source_v4 = check.source_v4,
                       .source_v6 = check.source_v6};
  if (!check.dialogue.pattern.empty()) {
    // Bytes, not characters: no server has to send UTF-8.
    re2::RE2::Options options(re2::RE2::Latin1);
    options.set_max_mem(kPatternBytes);
    options.set_log_errors(false);
    request.pattern = std::make_shared<const re2::RE2>(check.dialogue.pattern, options);
    if (!request.pattern->ok()) request.problem = "its pattern is too large";
  }
  if (check.kind == CheckKind::https || check.kind == CheckKind::tls)
    request.tls = tls_context(check.tls, request.problem);
  return request;
}

boost::asio::awaitable<ProbeResult> Prober::probe(ProbeRequest request) {
  const auto started = ProbeSession::Clock::now();
  // Held here, too: cancel() drops session_ while this coroutine sleeps.
  std::shared_ptr<ProbeSession> session = session_;
  if (session && !session->has_verdict()) {
    const bool over = co_await session->wait_for_verdict(started + request.timeout);
    if (!over) co_return session->late_verdict();
    if (session_ != session) co_return ProbeResult{};  // cancelled meanwhile
  }
  session = std::make_shared<ProbeSession>(io_, std::move(request));
  session_ = session;
  session->start();
  const bool in_time = co_await session->wait_for_verdict();
  if (in_time) co_return session->verdict();
  ProbeResult late = session->late_verdict();
  if (!session->in_login()) session->close();
  co_return late;
}

void Prober::hurry(Milliseconds connect_limit) {
  if (session_ && !session_->has_verdict()) session_->hurry(connect_limit);
}

void Prober::cancel() {
  if (session_) session_->close();
  session_.reset();
}

}  // namespace portico
