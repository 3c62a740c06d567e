// SPDX-License-Identifier: Apache-2.0
#include "control/web/web.h"

#include <string_view>

#include "control/web/site.h"

namespace portico {
namespace {

// The page is made of its own files and nothing else; nobody may frame it or learn whence it was left.
void add_policy(ApiResponse& response) {
  response.headers.insert(
      response.headers.end(),
      {{"Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"},
       {"X-Content-Type-Options", "nosniff"},
       {"Referrer-Policy", "no-referrer"},
       {"Cross-Origin-Opener-Policy", "same-origin"},
       {"Cross-Origin-Resource-Policy", "same-origin"}});
}

bool is_backend_command(const ApiRequest& request) {
  return request.method == "POST" && request.path.starts_with("/v1/backends/");
}

// What is for the Unix socket alone: configurations contain the hash key; reloads, plans and upgrades are for
// who can write the files that they read.
bool is_served(const ApiRequest& request) {
  if (request.path == "/metrics") return true;
  if (!request.path.starts_with("/v1/")) return false;
  for (const std::string_view local : {"/v1/config/", "/v1/configs", "/v1/reload", "/v1/rollback", "/v1/plan",
                                       "/v1/what-if", "/v1/dataplane/", "/v1/capture"})
    if (request.path.starts_with(local)) return false;
  return true;
}

}  // namespace

void Web::handle(ApiRequest request, const ApiRespond& respond) {
  answer(std::move(request), [respond](ApiResponse response) {
    add_policy(response);
    respond(std::move(response));
  });
}

void Web::answer(ApiRequest request, const ApiRespond& respond) {
  if (const SiteFile* file = find_site_file(request.path)) {
    if (request.method != "GET") return respond(api_error(405, request.path + " is for GET"));
    return respond({200, file->content_type, std::string(file->content)});
  }
  if (!is_served(request))
    return respond(api_error(404, "nothing is served here as " + request.path,
                             "see docs/web.md; the Unix socket control.sock has the whole API"));
  if (const auto name = access_.who(request)) request.who = *name + " (token)";
  const bool is_command = is_backend_command(request);
  const bool is_foreign = request.path != "/metrics" && !is_direct(request);
  if (request.who.empty() && (is_command || is_open_ || is_foreign || !request.authorization.empty())) {
    ApiResponse refusal =
        api_error(401,
                  is_foreign && request.authorization.empty() ? "a token is needed under this name"
                                                              : "a token is needed",
                  access_.has_tokens() ? "send one of those in the token file of portico-control"
                                       : "portico-control has no tokens; start it with --http-tokens FILE");
    refusal.headers.emplace_back("WWW-Authenticate", "Bearer");
    return respond(std::move(refusal));
  }
  api_.handle(request, respond);
}

}  // namespace portico
