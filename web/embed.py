#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the page's files into C++ source: embed.py OUTPUT FILE... defines kSiteFiles (control/web/site.h)."""
import os
import sys

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".svg": "image/svg+xml"}


def main():
    target, *sources = sys.argv[1:]
    with open(target, "w") as out:
        out.write('#include "control/web/site.h"\n\nnamespace portico {\nnamespace {\n\n')
        table = ""
        for number, source in enumerate(sources):
            with open(source, "rb") as file:
                data = file.read()
            out.write(f"const unsigned char kFile{number}[] = {{\n")
            for start in range(0, len(data), 32):
                out.write("".join(f"{byte}," for byte in data[start:start + 32]) + "\n")
            out.write("};\n")
            name = os.path.basename(source)
            path = "/" if name == "index.html" else "/" + name
            table += (f'    {{"{path}", "{TYPES[os.path.splitext(name)[1]]}", '
                      f"{{reinterpret_cast<const char*>(kFile{number}), sizeof kFile{number}}}}},\n")
        out.write(f"const SiteFile kFiles[] = {{\n{table}}};\n\n}}  // namespace\n")
        out.write("const std::span<const SiteFile> kSiteFiles = kFiles;\n\n}  // namespace portico\n")


main()
