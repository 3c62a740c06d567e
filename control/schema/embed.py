#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns JSON documents into C++ source: embed.py OUTPUT CONFIG_SCHEMA OPENAPI defines control/schema/schemas.h."""
import json
import sys


def main():
    target, *sources = sys.argv[1:]
    with open(target, "w") as out:
        out.write('#include "control/schema/schemas.h"\n\nnamespace portico {\n')
        for function, source in zip(("config_schema", "openapi_document"), sources):
            with open(source, "rb") as file:
                data = file.read()
            json.loads(data)  # a mistake in it ends the build
            out.write(f"namespace {{\nconst unsigned char k_{function}[] = {{\n")
            for start in range(0, len(data), 32):
                out.write("".join(f"{byte}," for byte in data[start:start + 32]) + "\n")
            out.write(f"}};\n}}  // namespace\nstd::string_view {function}() {{\n"
                      f"  return {{reinterpret_cast<const char*>(k_{function}), sizeof k_{function}}};\n}}\n")
        out.write("}  // namespace portico\n")


main()
