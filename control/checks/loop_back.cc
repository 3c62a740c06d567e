// SPDX-License-Identifier: Apache-2.0
#include "control/checks/loop_back.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "control/checks/probe.h"

namespace portico {

namespace asio = boost::asio;
using asio::ip::tcp;

struct LoopBack::Impl {
  explicit Impl(asio::io_context& context) : io(context), prober(context) {}

  asio::io_context& io;
  Prober prober;
  std::optional<bool> is_reached;
  Clock::time_point next{};
  bool is_under_way = false;
  uint64_t row = 0;  // grows with forget()

  static asio::awaitable<void> connect(std::shared_ptr<Impl> self, uint64_t row);
};

// The listener lives as long as its one connection, which the kernel takes for it.
asio::awaitable<void> LoopBack::Impl::connect(std::shared_ptr<Impl> self, uint64_t row) {
  const tcp::endpoint own(asio::ip::address_v4::loopback(), 0);
  boost::system::error_code error;
  tcp::acceptor acceptor(self->io);
  acceptor.open(own.protocol(), error);
  if (!error) acceptor.bind(own, error);
  if (!error) acceptor.listen(1, error);
  const tcp::endpoint listening = error ? own : acceptor.local_endpoint(error);
  bool is_reached = false;
  if (!error) {
    ProbeRequest request;
    request.target = {*Address::parse("127.0.0.1"), listening.port()};
    request.timeout = kTimeout;
    is_reached = (co_await self->prober.probe(std::move(request))).outcome == ProbeOutcome::success;
  }
  self->is_under_way = false;
  if (row == self->row) self->is_reached = is_reached;
}

LoopBack::LoopBack(asio::io_context& io) : impl_(std::make_shared<Impl>(io)) {}

LoopBack::~LoopBack() {
  impl_->prober.cancel();
}

std::optional<bool> LoopBack::look(Clock::time_point now) {
  if (!impl_->is_under_way && now >= impl_->next) {
    impl_->is_under_way = true;
    impl_->next = now + kPause;
    asio::co_spawn(impl_->io, Impl::connect(impl_, impl_->row), asio::detached);
  }
  return impl_->is_reached;
}

void LoopBack::forget() {
  ++impl_->row;
  impl_->is_reached.reset();
  impl_->next = {};
}

}  // namespace portico
