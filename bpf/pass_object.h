// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The compiled program that only passes (bpf/pass.bpf.c) as bytes of an ELF file, so that a binary carries
// it.
#pragma once

#include <cstddef>

namespace portico {

extern const unsigned char kPassObject[];
extern const size_t kPassObjectSize;

}  // namespace portico
