#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Turns a file into C++ source: embed.py INPUT OUTPUT NAME HEADER defines kNAME and kNAMESize."""
import sys

source, target, name, header = sys.argv[1:]
with open(source, "rb") as file:
    data = file.read()
with open(target, "w") as file:
    file.write(f'#include "{header}"\n\nnamespace portico {{\n\n')
    # libbpf reads the ELF header in place.
    file.write(f"alignas(8) const unsigned char k{name}[] = {{\n")
    for start in range(0, len(data), 24):
        file.write("".join(f"{byte}," for byte in data[start : start + 24]) + "\n")
    file.write(f"}};\nconst size_t k{name}Size = sizeof k{name};\n\n}}  // namespace portico\n")
