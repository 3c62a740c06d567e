#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Cycles per packet against flows, as SVG, from the rows that bench-packet-path writes.

  plot.py ROWS.json OUT.svg
"""
import json
import math
import sys
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 36, 52
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")


def series(rows):
    """{"dsr-l2 v4": [(flows, median, min, max), ...]}; cold tables apart."""
    out = {}
    for row in rows:
        parameters = row["parameters"]
        if not isinstance(parameters, dict) or "flows" not in parameters or row["unit"] != "cycles/packet":
            continue
        words = row["name"].split("/")
        if len(words) != 5:  # packet-path/KIND/FAMILY/FLOWS/warm|cold; others are parts of a packet's way
            continue
        name = " ".join(words[1:3] + (["cold"] if words[-1] == "cold" else []))
        out.setdefault(name, []).append((parameters["flows"], row["median"], row["min"], row["max"]))
    return {name: sorted(points) for name, points in sorted(out.items())}


class Chart:
    """One panel: flows to the right on a logarithmic scale, cycles upwards from 0."""

    def __init__(self, title, lines):
        flows = [point[0] for points in lines.values() for point in points]
        self.low, self.high = math.log10(min(flows)), max(math.log10(max(flows)), math.log10(min(flows)) + 1)
        top = max(point[1] for points in lines.values() for point in points)
        self.step = next(s for s in (5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 10000) if top / s <= 10)
        self.top = math.ceil(top / self.step) * self.step
        self.out = []
        self.axes()
        self.text(LEFT, TOP - 10, title, extra=' font-weight="bold"')
        for index, (name, points) in enumerate(lines.items()):
            self.add(index, name, points)

    def x(self, flows):
        return LEFT + (math.log10(flows) - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, cycles):
        return HEIGHT - BOTTOM - min(cycles, self.top) / self.top * (HEIGHT - TOP - BOTTOM)

    def text(self, x, y, words, anchor="start", extra=""):
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>')

    def line(self, x1, y1, x2, y2, colour="#dddddd", extra=""):
        self.out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{extra}/>')

    def axes(self):
        for cycles in range(0, self.top + 1, self.step):
            self.line(LEFT, self.y(cycles), WIDTH - RIGHT, self.y(cycles))
            self.text(LEFT - 8, self.y(cycles) + 4, str(cycles), "end")
        for power in range(math.floor(self.low), math.ceil(self.high) + 1):
            if self.low - 0.01 <= power <= self.high + 0.01:
                x = self.x(10 ** power)
                self.line(x, TOP, x, HEIGHT - BOTTOM)
                self.text(x, HEIGHT - BOTTOM + 18, {3: "1k", 4: "10k", 5: "100k", 6: "1M", 7: "10M"}.get(power, f"1e{power}"),
                          "middle")
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "flows", "middle")
        y = (TOP + HEIGHT - BOTTOM) / 2
        self.text(16, y, "TSC cycles per packet", "middle", f' transform="rotate(-90 16 {y:.0f})"')

    def add(self, index, name, points):
        colour = COLOURS[index % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if name.endswith("cold") or index >= len(COLOURS) else ""
        for flows, _, least, most in points:
            self.line(self.x(flows), self.y(least), self.x(flows), self.y(most), colour)
        path = " ".join(f"{self.x(flows):.1f},{self.y(median):.1f}" for flows, median, _, _ in points)
        self.out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for flows, median, _, _ in points:
            self.out.append(f'<circle cx="{self.x(flows):.1f}" cy="{self.y(median):.1f}" r="3" fill="{colour}"/>')
        y = TOP + 8 + 18 * index
        self.line(WIDTH - RIGHT + 16, y, WIDTH - RIGHT + 40, y, colour, f' stroke-width="2"{dash}')
        self.text(WIDTH - RIGHT + 46, y + 4, name)


def draw(rows):
    """The SVG's text: established flows above, new ones, which cost several times as much, below."""
    lines = series(rows)
    if not lines:
        raise ValueError("no row has flows and cycles per packet")
    panels = {"Packets of established flows": {name: points for name, points in lines.items() if "-new" not in name},
              "New flows": {name: points for name, points in lines.items() if "-new" in name}}
    charts = [Chart(title, of_panel) for title, of_panel in panels.items() if of_panel]
    height = HEIGHT * len(charts)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for index, chart in enumerate(charts):
        out += [f'<g transform="translate(0 {index * HEIGHT})">', *chart.out, "</g>"]
    return "\n".join(out + ["</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
