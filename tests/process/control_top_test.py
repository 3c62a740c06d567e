#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`portico top` on a terminal, against portico-control as a process.

usage: control_top_test.py PORTICO_CONTROL PORTICO
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from control_rig import ControlCase, main

PORTICO = ""
ROWS, COLUMNS = 24, 100


class Screen:
    """What a terminal shows of the few sequences that are used; others fail the test."""

    def __init__(self, rows, columns):
        self.lines, self.columns = [""] * rows, columns
        self.row = self.column = 0
        self.modes, self.colours, self.rest = set(), set(), ""

    def take(self, text):
        text = self.rest + text
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self.put(text[at])
                at += 1
                continue
            sequence = re.match(r"\x1b\[([?0-9;]*)([A-Za-z])", text[at:])
            if not sequence:
                break
            self.command(*sequence.groups())
            at += sequence.end()
        self.rest = text[at:]

    def put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            assert self.row + 1 < len(self.lines), "it scrolls"
            self.row += 1
        else:
            assert self.column < self.columns, f"too long: {self.lines[self.row]}"
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[:self.column] + character + line[self.column + 1:]
            self.column += 1

    def command(self, arguments, name):
        if name in "hl":
            (self.modes.add if name == "h" else self.modes.discard)(arguments)
        elif name == "H":
            self.row = self.column = 0
        elif name == "K":
            self.lines[self.row] = self.lines[self.row][:self.column]
        elif name == "J":
            self.lines[self.row] = self.lines[self.row][:self.column]
            self.lines[self.row + 1:] = [""] * (len(self.lines) - self.row - 1)
        elif name == "m":
            self.colours.add(arguments)
        else:
            raise AssertionError(f"unknown sequence {arguments}{name}")


class Top:
    """The program on a terminal of its own."""

    def __init__(self, run_dir, *arguments, rows=ROWS, columns=COLUMNS, environment=None):
        self.screen = Screen(rows, columns)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen([PORTICO, "--run-dir", run_dir, "top", "--interval", "100ms", *arguments], stdin=slave,
                                        stdout=slave, stderr=slave, env=os.environ | (environment or {}))

    def press(self, keys):
        os.write(self.master, keys.encode())

    def read(self, seconds):
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self.screen.take(os.read(self.master, 65536).decode())
        return True

    def wait(self, condition, what):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, f"not shown: {what}:\n" + "\n".join(self.screen.lines)
            self.read(1)

    def shows(self, pattern):
        self.wait(lambda: any(re.search(pattern, line) for line in self.screen.lines), pattern)

    def end(self):
        """Its exit status; the terminal is as it was."""
        self.wait(lambda: self.process.poll() is not None, "the end")
        while self.read(0):
            pass
        assert self.screen.modes == {"?25", "?7"}, self.screen.modes
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class TopTest(ControlCase):
    def setUp(self):
        super().setUp()
        self.start()
        self.wait_settled()

    def top(self, *arguments, **options):
        top = Top(self.run_dir, *arguments, **options)
        self.addCleanup(top.close)
        return top

    def admin(self, name):
        return self.backend(name)["admin"]

    def test_keys_choose_drain_hold_resume_and_order(self):
        top = self.top()
        top.shows(r"^control-test  DATAPLANE DOWN")
        top.shows(r"^> +portals/portal-1 +UP +50% +0 ")
        top.shows(r"^  +portals/portal-2 +UP +50% +0 .* ms")
        top.press("\x1b[B")
        top.shows(r"^> +portals/portal-2")
        top.press("d")
        top.shows(r"^drain portals/portal-2\? y/n")
        top.press("n")
        top.shows(r"q: quit")
        self.assertEqual(self.admin("portal-2"), "active")
        top.press("dy")
        top.shows(r"^> +portals/portal-2 +DRAINED +0%")
        self.assertEqual(self.backend("portal-2")["admin_why"], "by portico top")
        top.press("s")  # by state: what is not plainly up comes first, and stays chosen
        top.wait(lambda: "portal-2" in "".join(top.screen.lines).partition("BACKEND")[2].partition("portal-1")[0], "another order")
        top.press("khy")
        top.shows(r"^> +portals/portal-2 +HELD")
        top.press("jdy")
        top.shows(r"last usable")
        self.assertEqual(self.admin("portal-1"), "active")
        top.press("kry")
        top.shows(r"^> .*portals/portal-2 +UP +50%")
        self.assertIn("32", top.screen.colours)
        top.press("q")
        self.assertEqual(top.end(), 0)

    def test_it_goes_on_without_control_and_ends_by_signals(self):
        top = self.top(environment={"NO_COLOR": "1"})
        top.shows("portals/portal-2 +UP")
        self.stop()
        top.shows("control is not running")
        top.shows("portals/portal-2 +UP")
        self.start()
        top.shows("q: quit")
        self.assertEqual(top.screen.colours, set())
        top.process.send_signal(signal.SIGTERM)
        self.assertEqual(top.end(), 0)

    def test_a_small_terminal_shows_the_chosen_one(self):
        top = self.top(rows=8, columns=30)
        top.shows(r"^> +portals/portal-1")
        top.press("j")
        top.shows(r"^> +portals/portal-2")
        top.press("\x03")
        self.assertEqual(top.end(), 0)

    def test_elsewhere_it_prints_readings(self):
        def said(*arguments):
            return subprocess.run([PORTICO, "--run-dir", self.run_dir, "top", *arguments], capture_output=True, text=True, check=True).stdout
        plain = said()
        self.assertNotIn("\x1b", plain)
        self.assertRegex(plain, r"portals/portal-1 +UP +50%")
        self.assertEqual(len(json.loads(said("--json"))["backends"]), 2)
        readings = [json.loads(line) for line in said("--json", "-n", "3", "--interval", "100ms").splitlines()]
        self.assertEqual(len(readings), 3)
        self.assertLess(readings[0]["now_ms"], readings[2]["now_ms"])
        self.stop()
        without = subprocess.run([PORTICO, "--run-dir", self.run_dir, "top"], capture_output=True, text=True)
        self.assertEqual(without.returncode, 3)


if __name__ == "__main__":
    PORTICO = os.path.abspath(sys.argv.pop(2))
    main()
