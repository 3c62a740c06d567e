// SPDX-License-Identifier: Apache-2.0
// The web page's files, as part of the program. web/embed.py makes them of web/dist.
#pragma once

#include <span>
#include <string_view>

namespace portico {

struct SiteFile {
  const char* path;  // "/app.js"
  const char* content_type;
  std::string_view content;
};

// All of them; defined by what embed.py writes.
extern const std::span<const SiteFile> kSiteFiles;

// Null: there is none with this path. "/" is the page.
const SiteFile* find_site_file(std::string_view path);

}  // namespace portico
