// SPDX-License-Identifier: Apache-2.0
#include "control/web/site.h"

namespace portico {

const SiteFile* find_site_file(std::string_view path) {
  for (const SiteFile& file : kSiteFiles)
    if (path == file.path) return &file;
  return nullptr;
}

}  // namespace portico
