# SPDX-License-Identifier: Apache-2.0
"""Where results go: tables in RESULTS.md, one section per measurement, and rows of JSON."""
import json
import os
import platform
import re
import statistics
import subprocess
import time

from common import BUILD, ROOT

PACKAGES = ("dpdk", "haproxy", "nginx-common", "nftables", "wrk", "apache2", "mariadb-server")
INTRODUCTION = """# Results

What `scripts/bench` printed, one section per measurement; [docs/benchmarks.md](../docs/benchmarks.md) says how to read and
repeat them. A ratio is Portico's figure by the peer's of the same round: the median of the rounds, and the least to the most.
Figures taken under load from outside (see each section's load average) are only worth as much as their ratios' spread.
"""


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except FileNotFoundError:
        return ""
    return (done.stdout.strip().splitlines() or [""])[0]


def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo", encoding="utf-8").read())
    memory = re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo", encoding="utf-8").read())
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, {int(memory[1]) >> 20} GiB, " \
           f"Linux {platform.release()}"


def versions():
    commit = first_line("git", "rev-parse", "--short", "HEAD") or "unknown"
    if first_line("git", "status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    options = subprocess.run(["meson", "introspect", "--buildoptions", BUILD], capture_output=True, text=True, check=False)
    kind = next((each["value"] for each in json.loads(options.stdout or "[]") if each["name"] == "buildtype"), "unknown")
    installed = first_line("dpkg-query", "-W", "-f=${Package} ${Version}, ", *PACKAGES).rstrip(", ")
    return f"Portico {commit} ({kind}); {installed}"


def load_average():
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def number(value):
    """Four digits, however large."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def spread(values):
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def in_words(parameters):
    return ", ".join(f"{key} {value}".replace("_", " ") for key, value in parameters.items())


def table(rows):
    """Markdown. Rows measured elsewhere have no samples, only their figures."""
    lines = ["| measure | parameters | unit | Portico: median (min–max) | peer | peer: median (min–max) | ratio (min–max) |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        ratios = row.ratios()
        ratio = f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else ""
        lines.append(f"| {row.name} | {in_words(row.parameters)} | {row.unit} | {spread(row.samples)} | {row.peer} | "
                     f"{spread(row.peer_samples) if row.peer_samples else ''} | {ratio} |")
    return "\n".join(lines)


class Section:
    """One measurement's part of RESULTS.md; made before it starts, so that it knows the load then."""

    def __init__(self, name, title, command):
        self.name, self.title, self.command = name, title, command
        self.load_before = load_average()

    def text(self, rows, settings, plot=None):
        samples = max(row.runs() for row in rows)
        runs = f"{samples} rounds, each candidate once per round" if any(row.peer for row in rows) else f"{samples} runs"
        parts = [f"<!-- begin {self.name} -->", f"## {self.title}", "",
                 f"`{self.command}`, {time.strftime('%Y-%m-%d %H:%M')}; {runs}{', quick' if settings.quick else ''}; "
                 f"load average {self.load_before} before, {load_average()} after.  ",
                 f"{machine()}.  ", f"{versions()}.", "", table(rows), ""]
        if plot:
            parts += [f"![{self.title}]({plot})", ""]
        return "\n".join(parts + [f"<!-- end {self.name} -->"])


def update(path, sections):
    """Puts sections in place of those of the same name, and new ones at the end."""
    text = path.read_text(encoding="utf-8") if path.exists() else INTRODUCTION
    for name, section in sections.items():
        pattern = re.compile(rf"<!-- begin {re.escape(name)} -->.*?<!-- end {re.escape(name)} -->", re.S)
        if pattern.search(text):
            text = pattern.sub(lambda _, new=section: new, text)
        else:
            text = text.rstrip("\n") + "\n\n" + section + "\n"
    path.write_text(text, encoding="utf-8")


def write_json(path, rows):
    path.write_text(json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
