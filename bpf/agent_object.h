// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The compiled portal hosts' programs (bpf/agent.bpf.c) as bytes of an ELF file, so that a binary carries it.
#pragma once

#include <cstddef>

namespace portico {

extern const unsigned char kAgentObject[];
extern const size_t kAgentObjectSize;

}  // namespace portico
