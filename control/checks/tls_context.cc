// SPDX-License-Identifier: Apache-2.0
#include "control/checks/tls_context.h"

#include <openssl/x509_vfy.h>

#include <boost/asio/buffer.hpp>
#include <ctime>
#include <map>

namespace portico {
namespace {

namespace asio = boost::asio;

// Unix time; 0 if it makes no sense.
int64_t unix_time(const ASN1_TIME* time) {
  tm broken_down{};
  return ASN1_TIME_to_tm(time, &broken_down) == 1 ? timegm(&broken_down) : 0;
}

std::string trust(TlsContext& context, const TlsConfig& config) {
  boost::system::error_code error;
  if (config.ca_pem.empty())
    context.set_default_verify_paths(error);
  else
    context.add_certificate_authority(asio::buffer(config.ca_pem), error);
  return error ? "the certificates of the authorities cannot be used: " + error.message() : "";
}

}  // namespace

std::shared_ptr<TlsContext> tls_context(const TlsConfig& config, std::string& problem) {
  static std::map<std::pair<bool, std::string>, std::weak_ptr<TlsContext>> contexts;
  std::erase_if(contexts, [](const auto& entry) { return entry.second.expired(); });
  auto& known = contexts[{config.verify, config.ca_pem}];
  auto context = known.lock();
  if (context) return context;
  context = std::make_shared<TlsContext>(TlsContext::tls_client);
  if (config.verify) problem = trust(*context, config);
  if (!problem.empty()) return nullptr;
  known = context;
  return context;
}

void prepare_tls(SSL* connection, const std::string& sni) {
  SSL_set_verify(connection, SSL_VERIFY_NONE, nullptr);
  if (sni.empty()) return;
  // As the macro SSL_set_tlsext_host_name, which casts in the manner of C.
  SSL_ctrl(connection, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, std::string(sni).data());
  SSL_set1_host(connection, sni.c_str());
}

TlsVerdict judge_tls(SSL* connection, bool verify) {
  TlsVerdict verdict;
  const long result = SSL_get_verify_result(connection);
  if (verify && result != X509_V_OK)
    verdict.problem = std::string("certificate: ") + X509_verify_cert_error_string(result);
  const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(connection);
  for (int i = 0; chain != nullptr && i < sk_X509_num(chain); ++i) {
    const int64_t expires = unix_time(X509_get0_notAfter(sk_X509_value(chain, i)));
    if (expires != 0 && (verdict.expires_s == 0 || expires < verdict.expires_s)) verdict.expires_s = expires;
  }
  return verdict;
}

}  // namespace portico
