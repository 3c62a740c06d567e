#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The cells of the end-to-end matrix, one a line: WAY FAMILY TRAFFIC WIRE, those of one way together.

  matrix_cells.py all        every combination
  matrix_cells.py pairwise   as few as have every two values of different columns together at least once
  matrix_cells.py table      docs/matrix.md's table of what `tests/e2e/matrix all` prints, on standard input
"""
import itertools
import re
import sys

COLUMNS = (
    # The mode, and in tunnels the family that they go over.
    ('nat', 'nat-proxy', 'dnat', 'dsr-l2', 'dsr-ipip/v4', 'dsr-ipip/v6', 'dsr-gue/v4', 'dsr-gue/v6'),
    ('IPv4', 'IPv6'),
    ('HTTP', 'HTTPS', 'MariaDB', 'download', 'upload'),
    ('good', 'lossy', 'swapping'),
)


def pairs(cell):
    return set(itertools.combinations(enumerate(cell), 2))


def pairwise(cells):
    """Takes the cell with most pairs that none before had, until all are had (greedy, always the same)."""
    wanted = set().union(*map(pairs, cells))
    chosen = []
    while wanted:
        best = max(cells, key=lambda cell: len(pairs(cell) & wanted))
        wanted -= pairs(best)
        chosen.append(best)
    return sorted(chosen, key=cells.index)


def print_table(lines):
    """A row for each way and family; in each cell the three wires in their order."""
    ways, families, traffics, wires = COLUMNS
    seen = {}
    for line in lines:
        if found := re.fullmatch(r'(not )?ok - (\S+) (\S+) (\S+), wires (\S+)\n?', line):
            seen[found.groups()[1:]] = 'failed' if found[1] else 'ok'
    print('| way | clients | ' + ' | '.join(traffics) + ' |')
    print('| --- ' * (2 + len(traffics)) + '|')
    for way, family in itertools.product(ways, families):
        cells = (', '.join(seen.get((way, family, traffic, wire), 'not run') for wire in wires) for traffic in traffics)
        print(f'| `{way}` | {family} | ' + ' | '.join(cells) + ' |')


def main():
    if sys.argv[1] == 'table':
        print_table(sys.stdin)
        return
    cells = list(itertools.product(*COLUMNS))
    choice = {'all': lambda c: c, 'pairwise': pairwise}[sys.argv[1]]
    for cell in choice(cells):
        print(*cell)


if __name__ == '__main__':
    main()
