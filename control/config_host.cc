// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>

#include "contract/interface_facts.h"
#include "contract/port_name.h"
#include "control/config_sections.h"
#include "control/host.h"

namespace portico {

namespace {

std::string plural(uint32_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

void check_interface(ConfigReader& reader, Mark mark, const std::string& name) {
  const InterfaceFacts facts = interface_facts(name);
  if (!facts.exists)
    reader.error(mark, fmt::format("there is no interface `{}` here; `ip link` lists those there are", name));
  if (facts.is_loopback)
    reader.error(mark, fmt::format("`{}` is this host's loopback: no client's packet arrives there; name the "
                                   "interface that leads to the clients",
                                   name));
}

void check_ports(ConfigReader& reader, const DataplaneConfig& dataplane) {
  for (size_t i = 0; i < dataplane.ports.size(); ++i) {
    const std::string& name = dataplane.ports[i].name;
    const PortName port = parse_port(name, dataplane.ports[i].devargs);
    const Mark mark = reader.mark(fmt::format("dataplane/ports/#{}", i));
    // The interface of a vdev with arguments, too: then the name is only a name.
    if (!port.interface.empty()) check_interface(reader, mark, port.interface);
    if (port.kind == PortKind::pci && access(("/sys/bus/pci/devices/" + port.device).c_str(), F_OK) != 0)
      reader.error(mark, fmt::format("there is no PCI device `{}` here; `lspci -D` lists those there are",
                                     port.device));
  }
}

// Each worker polls one queue of each port. What the kernel spreads to a queue without a worker would be
// lost, and a worker without a queue has nothing to do: the dataplane starts with neither.
void check_queues(ConfigReader& reader, const DataplaneConfig& dataplane) {
  std::map<std::string, InterfaceFacts> interfaces;  // the kernel's that tell
  uint32_t fewest = UINT32_MAX;
  for (const auto& port : dataplane.ports) {
    if (parse_port(port.name, port.devargs).kind != PortKind::kernel_interface) continue;
    const InterfaceFacts facts = interface_facts(port.name);
    if (facts.arrival_queues() == 0) continue;
    interfaces[port.name] = facts;
    fewest = std::min(fewest, facts.arrival_queues());
  }
  // `auto` takes what all ports have.
  const bool is_given = dataplane.workers != 0;
  const uint32_t workers = is_given ? dataplane.workers : fewest;
  const bool by_cpus = !dataplane.worker_cpus.empty();
  for (size_t i = 0; i < dataplane.ports.size(); ++i) {
    const auto found = interfaces.find(dataplane.ports[i].name);
    if (found == interfaces.end() || found->second.arrival_queues() == workers) continue;
    const auto& [name, facts] = *found;
    const uint32_t count = facts.arrival_queues();
    const std::string place = !is_given ? fmt::format("dataplane/ports/#{}", i)
                              : by_cpus ? "dataplane/worker_cpus"
                                        : "dataplane/workers";
    reader.error(reader.mark(place),
                 fmt::format("{} for the {} of `{}`; each worker polls one queue of each port: "
                             "set {}, or `{}`",
                             plural(workers, "worker"), plural(count, "receive queue"), name,
                             by_cpus ? fmt::format("`worker_cpus` to {}", plural(count, "CPU"))
                                     : fmt::format("`workers: {}`", count),
                             queues_command(name, facts, workers)));
  }
}

void check_cpus(ConfigReader& reader, const DataplaneConfig& dataplane) {
  std::string problem;
  if (dataplane.worker_cpus.empty()) return;
  const auto cpus = parse_cpus(dataplane.worker_cpus, problem);
  if (!cpus) return;
  for (const unsigned cpu : *cpus) {
    if (access(fmt::format("/sys/devices/system/cpu/cpu{}", cpu).c_str(), F_OK) == 0) continue;
    reader.error(reader.mark("dataplane/worker_cpus"),
                 fmt::format("this host has no CPU {}; `lscpu -e` lists those it has", cpu));
  }
}

constexpr size_t kMaxCaBytes = 1 << 20;

// How many certificates a PEM text has; 0 if one of them makes no sense.
size_t count_certificates(const std::string& pem) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
  size_t count = 0;
  while (X509* const certificate = bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr) {
    X509_free(certificate);
    ++count;
  }
  const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  return is_end ? count : 0;
}

std::string trim(std::string text) {
  const char* blanks = " \t\r";
  text.erase(0, text.find_first_not_of(blanks));
  text.erase(text.find_last_not_of(blanks) + 1);
  return text;
}

// The part of MySQL's option file format that a client's credentials need: `user=` and `password=` lines,
// [sections], comments. So the same file serves `mysql --defaults-file`.
bool read_credentials(const std::string& path, CheckConfig& check) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const size_t equals = line.find('=');
    if (equals == std::string::npos || line.starts_with('#') || line.starts_with(';')) continue;
    const std::string key = trim(line.substr(0, equals));
    std::string value = trim(line.substr(equals + 1));
    if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
        value.back() == value.front()) {
      value = value.substr(1, value.size() - 2);
    }
    if (key == "user") check.user = value;
    if (key == "password") check.password = value;
  }
  return file.eof() && !check.user.empty();
}

void check_credentials(ConfigReader& reader, const std::string& directory, const std::string& path,
                       CheckConfig& check) {
  if (check.credentials_file.empty()) return;
  const Mark mark = reader.mark(path + "/credentials");
  const std::string file = std::filesystem::path(directory) / check.credentials_file;
  struct stat info {};
  if (stat(file.c_str(), &info) != 0 || access(file.c_str(), R_OK) != 0) {
    reader.error(mark, fmt::format("cannot read credentials file {}: {}", file, std::strerror(errno)));
  } else if (!S_ISREG(info.st_mode)) {
    reader.error(mark, fmt::format("credentials file {} is not a regular file", file));
  } else if ((info.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    reader.error(mark,
                 fmt::format("credentials file {} is open to everybody; run `chmod 0640 {}`", file, file));
  } else if (!read_credentials(file, check)) {
    reader.error(
        mark,
        fmt::format("credentials file {} has no user; write the lines user=NAME and password=SECRET", file));
  }
}

void check_ca_file(ConfigReader& reader, const std::string& directory, const std::string& path,
                   CheckConfig& check) {
  if (check.tls.ca_file.empty()) return;
  const std::string file = std::filesystem::path(directory) / check.tls.ca_file;
  std::error_code ignored;  // a FIFO would keep the reader waiting
  std::ifstream in;
  if (std::filesystem::is_regular_file(file, ignored)) in.open(file, std::ios::binary);
  std::string text(kMaxCaBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  const Mark mark = reader.mark(path + "/ca_file");
  if (text.empty())
    reader.error(mark,
                 fmt::format("cannot read CA file {}: {}", file,
                             in.is_open() ? "it is empty" : "it is no regular file, or not to be read"));
  else if (text.size() > kMaxCaBytes || count_certificates(text) == 0)
    reader.error(mark, fmt::format("CA file {} is not a list of certificates in PEM of at most 1 MiB", file));
  else
    check.tls.ca_pem = std::move(text);
}

// An address that is the host's and not Portico's.
struct OwnAddress {
  std::string where;    // "192.0.2.9/24 on eth0"
  bool is_sure = true;  // false: the kernel does not tell who installed it; it may be Portico's
};
using OwnAddresses = std::map<Address, OwnAddress>;

OwnAddresses own_addresses(ConfigReader& reader) {
  OwnAddresses own;
  std::vector<HostAddress> all;
  auto socket = NetlinkSocket::open(0);
  const int error = socket ? read_host_addresses(*socket, all) : errno;
  if (error != 0)
    reader.warning({}, fmt::format("the kernel does not tell this host's addresses ({}): none is compared",
                                   std::strerror(error)));
  utsname kernel{};
  uname(&kernel);
  const bool tells_protocol = tells_address_protocol(all, kernel.release);
  for (const HostAddress& one : all) {
    const AddressOwner owner = owner_of(one, tells_protocol);
    if (owner == AddressOwner::portico) continue;
    own.emplace(one.address, OwnAddress{fmt::format("{}/{} on {}", to_string(one.address), one.length,
                                                    interface_name(one.ifindex)),
                                        owner == AddressOwner::others});
  }
  return own;
}

// The guard and the steering take packets to NAT ports and listeners away from the kernel. On an address of
// the host itself these would be the replies to its own connections: the checks, DNS, the way to it.
void check_own_addresses(ConfigReader& reader, const Config& config) {
  const OwnAddresses own = own_addresses(reader);
  const auto complain = [&](const std::string& path, const Address& address, const char* text) {
    const auto found = own.find(address);
    if (found == own.end()) return;
    const std::string what = fmt::format(fmt::runtime(text), found->second.where);
    if (found->second.is_sure) return reader.error(reader.mark(path), what);
    reader.warning(reader.mark(path),
                   what + "; if control installed it, all is well: this kernel does not tell");
  };
  for (size_t i = 0; i < config.nat.addresses.size(); ++i)
    complain(fmt::format("nat/addresses/#{}", i), config.nat.addresses[i],
             "this host has the address itself ({}): NAT would take the replies to the host's own "
             "connections; write an address that nothing uses, control installs it");
  for (const ServiceConfig& service : config.services) {
    if (config.vip_address == VipAddress::external) break;  // whoever installs it does not sign it
    for (size_t i = 0; i < service.listen.size(); ++i)
      complain(fmt::format("services/{}/listen/#{}", service.name, i), service.listen[i].address,
               "this host has the address itself ({}); write one that nothing uses, control installs it; for "
               "a listener address that something else installs write `vip_address: external`");
  }
  for (const PoolConfig& pool : config.pools)
    for (const BackendConfig& backend : pool.backends)
      for (const auto& address : {backend.v4, backend.v6})
        if (address)
          complain(fmt::format("pools/{}/backends/{}/addresses/{}", pool.name, backend.name,
                               address->is_v4() ? "v4" : "v6"),
                   *address,
                   "this host has the address itself ({}): packets to a backend leave by a port; write the "
                   "address of the portal's host");
}

}  // namespace

void check_host(ConfigReader& reader, const std::string& directory, Config& config) {
  check_ports(reader, config.dataplane);
  check_queues(reader, config.dataplane);
  check_cpus(reader, config.dataplane);
  check_own_addresses(reader, config);
  for (PoolConfig& pool : config.pools) {
    for (CheckConfig& check : pool.checks) {
      const std::string path = "pools/" + pool.name + "/checks/" + check.name;
      check_credentials(reader, directory, path, check);
      check_ca_file(reader, directory, path, check);
    }
  }
}

}  // namespace portico
