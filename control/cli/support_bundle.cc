// SPDX-License-Identifier: Apache-2.0
// `portico support-bundle`: what somebody elsewhere needs to find out what is wrong, in one archive without
// secrets. Each part is got by itself, so that whatever is dead costs its own part only.
#include "control/cli/support_bundle.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <stdexcept>

#include "control/cli/answer.h"
#include "control/cli/run_program.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// A folder for this user alone, which goes with all that is in it.
class Folder {
 public:
  Folder() {
    std::string path = (fs::temp_directory_path() / "portico-support-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr)
      throw std::runtime_error(fmt::format("cannot make {}: {}", path, std::strerror(errno)));
    path_ = path;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

// "portico-support-20260131-123456": the archive's folder, and its own name if none is given.
std::string name_by_time(std::time_t now) {
  char text[64];
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::strftime(text, sizeof text, "portico-support-%Y%m%d-%H%M%S", &parts);
  return text;
}

// The files as a gzipped tar archive, all in `folder`. Throws std::runtime_error.
std::string archive(const std::vector<Bundle::File>& files, const std::string& folder) {
  const Folder temporary;
  for (const Bundle::File& file : files) {
    const fs::path path = temporary.path() / folder / file.name;
    fs::create_directories(path.parent_path());
    std::ofstream out(path, std::ios::binary);
    out << file.text;
    if (!out.flush()) throw std::runtime_error(fmt::format("cannot write {}: no space?", path.string()));
  }
  const Finished tar = run_program(
      {"tar", "-cz", "--owner=0", "--group=0", "--sort=name", "-C", temporary.path().string(), folder});
  if (tar.status != 0) throw std::runtime_error("tar: " + tar.messages);
  return tar.output;
}

// A new file, of this user alone. Throws std::runtime_error.
void write_new(const std::string& path, const std::string& content) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool is_open = file >= 0;
  size_t done = 0;
  while (is_open && done < content.size()) {
    const ssize_t n = write(file, content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  const int error = errno;
  const bool is_closed = is_open && close(file) == 0;
  if (is_closed && done == content.size()) return;
  throw std::runtime_error(fmt::format("cannot write {}: {}", path, std::strerror(error)));
}

std::string summary(const json& manifest, const std::string& path, size_t bytes) {
  std::string out = fmt::format("{}: {} bytes, {} files\n", to_printable(path), format_count(bytes),
                                manifest.at("contents").size());
  for (const json& one : manifest.at("missing"))
    out += fmt::format("missing: {}: {}\n", to_printable(one.value("name", "")),
                       to_printable(one.value("why", "")));
  return out + "Secrets are left out; addresses and names are not. Look at it before you pass it on.\n";
}

}  // namespace

void Bundle::add_json(std::string name, std::string source, const std::string& text) {
  auto value = nlohmann::ordered_json::parse(text, nullptr, false);
  if (value.is_discarded()) return add_text(std::move(name), std::move(source), text);
  files_.push_back({std::move(name), std::move(source), "", std::move(value)});
}

void Bundle::add_config(const std::string& name, const std::string& source, const std::string& text) {
  const auto tree = parse_yaml(text);
  if (const auto* root = std::get_if<YamlNode>(&tree))
    files_.push_back({name, source, "", redact_config(*root, scrubber)});
  else
    miss(name, "it is no YAML, so what is secret in it is not known: " + std::get<ConfigMessage>(tree).text);
}

std::vector<Bundle::File> Bundle::finish(json about) {
  manifest_ = std::move(about);
  manifest_["contents"] = json::array();
  manifest_["missing"] = json::array();
  for (File& file : files_) {
    if (!file.value.is_null())
      file.text = scrubber.clean_json(file.value).dump(2, ' ', true, json::error_handler_t::replace) + "\n";
    else
      file.text = scrubber.clean(file.text);
    manifest_["contents"].push_back(
        {{"name", file.name}, {"source", file.source}, {"bytes", file.text.size()}});
  }
  for (const Missing& one : missing_) manifest_["missing"].push_back({{"name", one.name}, {"why", one.why}});
  manifest_ = scrubber.clean_json(manifest_);
  files_.push_back({"manifest.json", "", dump(manifest_), nullptr});
  return std::move(files_);
}

int support_bundle(const Context& context, const SupportRequest& request) {
  const std::time_t now = std::time(nullptr);
  const std::string folder = name_by_time(now);
  const std::string path = request.file.empty() ? folder + ".tar.gz" : request.file;
  std::error_code ignored;
  if (path != "-" && fs::exists(path, ignored))
    return fail(context, kExitFailed, path + " is there already", "give another name with --write");
  Bundle bundle;
  const std::vector<std::string> interfaces = add_portico(bundle, context, request.config);
  add_host(bundle, context, interfaces, request.logs);
  if (geteuid() != 0) bundle.miss("what only root may see", "run it as root");
  const auto files = bundle.finish({{"made_ms", static_cast<int64_t>(now) * 1000},
                                    {"host", host_name()},
                                    {"uid", geteuid()},
                                    {"version", PORTICO_VERSION}});
  const std::string content = archive(files, folder);
  if (path == "-") {
    context.out << content;
    return context.out.flush() ? kExitWell : kExitFailed;
  }
  write_new(path, content);
  json answer = bundle.manifest();
  answer["file"] = path;
  answer["bytes"] = content.size();
  context.out << (context.json ? dump(answer) : summary(answer, path, content.size()));
  return kExitWell;
}

}  // namespace portico::cli
