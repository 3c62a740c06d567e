// SPDX-License-Identifier: Apache-2.0
// What nobody's answering means: whom this host can hear at all, and what is done while it hears nobody.
#include <spdlog/spdlog.h>

#include "control/service_impl.h"
#include "control/status.h"

namespace portico {
namespace {

OwnSide::Presence presence_of(Neighbours::Presence presence) {
  if (presence == Neighbours::Presence::there) return OwnSide::Presence::there;
  return presence == Neighbours::Presence::lost ? OwnSide::Presence::lost : OwnSide::Presence::unknown;
}

}  // namespace

std::unique_ptr<OwnSide> Service::Impl::make_own_side() {
  const auto gateway_to = [this](const Address& to) -> std::optional<OwnSide::Gateway> {
    const auto hop = neighbours->next_hop(to);
    if (!hop || hop->on_link) return std::nullopt;
    return OwnSide::Gateway{hop->ifindex, hop->neighbour};
  };
  return std::make_unique<OwnSide>(OwnSide::Kernel{
      .look = [this] { neighbours->look_at_links(); },
      .version = [this] { return neighbours->version(); },
      .device_to = [this](const Address& to) { return neighbours->device_to(to); },
      .is_up_since = [this](int device, auto since) { return neighbours->is_up_since(device, since); },
      .interface_of = [this](int device) { return neighbours->interface_of(device); },
      .gateway_to = gateway_to,
      .gateways = [this] { return neighbours->gateways(); },
      .presence = [this](const auto& of) { return presence_of(neighbours->presence(of.second, of.first)); },
      .verify = [this](const auto& gateway) { neighbours->verify(gateway.second, gateway.first); }});
}

HealthMonitor::Ears Service::Impl::make_ears() {
  const auto why_unheard = [this](const std::string& pool, auto began) {
    std::string why = own_side->why_unheard(pool, began);
    if (why.empty() && isolation.is_cut_off()) return "cut off: " + isolation.why();
    return why;
  };
  return {.why_unheard = why_unheard,
          .note_answer = [this](const std::string& pool, auto at) { own_side->note_answer(pool, at); }};
}

void Service::Impl::follow_isolation() {
  const bool is_silence = health->hears_nobody();
  if (!is_silence && isolation.state() == Isolation::connected && !isolation.is_returning()) return;
  OwnSigns signs;
  if (is_silence) {
    signs = own_side->signs();
    if (const auto is_reached = loop_back.look())
      signs.loop_back = *is_reached ? OwnSigns::LoopBack::answers : OwnSigns::LoopBack::silent;
  } else {
    own_side->forget_gateways();
    loop_back.forget();
  }
  const Isolation before = isolation.state();
  if (!isolation.note(is_silence, signs, IsolationWatch::Clock::now())) return;
  all_changed = true;
  schedule_publish();
  if (isolation.state() == before) return;
  isolation_since_ms = static_cast<int64_t>(realtime_ns() / 1'000'000);
  note_isolation();
}

// What people are told of: not that the own side is being looked at.
void Service::Impl::note_isolation() {
  Event event{.at_ms = isolation_since_ms, .kind = Event::Kind::health};
  switch (isolation.state()) {
    case Isolation::examining:
      return;
    case Isolation::cut_off:
      event.level = Event::Level::error;
      event.text = "this balancer is cut off: its table stays as it was, it is not ready";
      event.why = isolation.why();
      break;
    case Isolation::backends_down:
      event.level = Event::Level::error;
      event.text = "no backend of any pool answers, and this balancer's own side is well";
      break;
    case Isolation::connected:
      event.text = "this balancer's checks are answered again";
      break;
  }
  spdlog::log(event.level == Event::Level::error ? spdlog::level::err : spdlog::level::info, "{}{}",
              event.text, event.why.empty() ? "" : ": " + event.why);
  events.add(std::move(event));
}

}  // namespace portico
