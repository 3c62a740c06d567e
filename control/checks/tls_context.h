// SPDX-License-Identifier: Apache-2.0
// What TLS connections of checks share: the authorities that are trusted. The system's take milliseconds and
// megabytes to load, so all checks that trust the same have one.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <memory>
#include <string>

#include "control/config.h"

namespace portico {

using TlsContext = boost::asio::ssl::context;

// The context for a check; the same one for each that verifies by the same authorities, while one of them
// has it. Null, and why in `problem`, if the authorities make no sense. For one thread.
std::shared_ptr<TlsContext> tls_context(const TlsConfig& config, std::string& problem);

// What the server's certificates say after a handshake that did not verify.
struct TlsVerdict {
  std::string problem;    // why the certificate is not to be trusted for `sni`; empty: it is, or whatever
  int64_t expires_s = 0;  // Unix time of the first of its chain to expire; 0: there is none
};

// Before the handshake: the name to ask for and to compare. No verification ends the handshake, so that the
// certificate can be told of whatever is wrong with it.
void prepare_tls(SSL* connection, const std::string& sni);
// After it.
TlsVerdict judge_tls(SSL* connection, bool verify);

}  // namespace portico
