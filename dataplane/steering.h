// SPDX-License-Identifier: Apache-2.0
// The dataplane's side of bpf/steer.bpf.c: puts the program where net_af_xdp finds it, takes hold of the
// maps of what net_af_xdp attached, and keeps them equal to the table.
//
// Order at start: write_object, detach_orphan per interface, then EAL and the ports with `xdp_prog=PATH`
// (the driver loads and attaches the program when an RX queue is set up), then attach per interface, then
// add_new. Until then the guard of control keeps the services' packets from the kernel.
// Around a table swap: remove_stale(next), swap, add_new(next), so that what is steered always has workers
// that know it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "contract/snapshot.h"
#include "dataplane/steer_map.h"
#include "dataplane/xdp_program.h"

namespace portico {

// What the steering program did with frames since it was loaded, over all interfaces.
struct SteeringStats {
  uint64_t to_dataplane = 0;  // redirected to the AF_XDP socket of their queue
  uint64_t no_socket = 0;     // ours, but no socket polls that queue: dropped
  uint64_t to_kernel = 0;     // everything else
};

// Main thread only; not thread-safe. Its end detaches nothing: a program without sockets drops what it would
// steer, so that the kernel resets nobody while the dataplane is away. Functions that can fail return what
// went wrong and the remedy, or nullopt.
class Steering {
 public:
  using Failure = std::optional<std::string>;

  // Writes the BPF object, which is part of this binary, to `directory`. `path` is what `xdp_prog=` takes.
  static Failure write_object(const std::string& directory, std::string& path);

  // Makes room on `interface` before its port starts: detaches a steering program whose dataplane is dead.
  // A live dataplane's program and any other XDP program are failures.
  static Failure detach_orphan(const std::string& interface);

  // Takes hold of the program that net_af_xdp attached to `interface`, after the port's queues are set up.
  // Its maps are empty then.
  Failure attach(const std::string& interface);

  // Steers what `snapshot` names and the maps lack. On failure some of it is missing in the maps; forwarding
  // of the rest goes on, and the next call tries again.
  Failure add_new(const Snapshot& snapshot);
  // No longer steers what `snapshot` does not name.
  Failure remove_stale(const Snapshot& snapshot);

  SteeringStats stats() const;

  // Takes the program off every interface and lets go of the maps; for a clean stop, after the ports are
  // stopped. Whatever the driver has already detached is left as it is.
  void detach();

 private:
  struct Interface {
    std::string name;
    int ifindex = 0;
    uint32_t program_id = 0;
    SteerMap listeners, nat, tunnels, addresses, dnat, own;
    UniqueFd verdicts;
  };
  std::vector<Interface> interfaces_;
};

}  // namespace portico
