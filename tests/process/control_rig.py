# SPDX-License-Identifier: Apache-2.0
"""What the tests of control as a process stand on: network namespaces, backends, one HTTP
request, and a control to start."""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from confined import confined

CLONE_NEWNET = 0x40000000
CONTROL = ""
CONFIG = """
version: 1
instance: control-test
dataplane: {{ports: [eth0]}}
nat: {{addresses: [198.18.0.20]}}
services:
  web: {{listen: "198.18.0.10:8080", pool: portals, allow: [198.18.0.0/15, 198.18.0.9], deny: [198.18.0.8/31]}}
pools:
  portals:
    check: {{interval: 100ms, fast_interval: 20ms}}
    backends: {{{backends}}}
"""
TWO = "portal-1: 198.18.1.1, portal-2: 198.18.1.2"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def enter_new_network():
    """A file descriptor of the network namespace that the process is in from now on."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
    return os.open("/proc/self/ns/net", os.O_RDONLY)


class Inside:
    """Within it the process is in another network namespace."""

    def __init__(self, network):
        self.network = network

    def __enter__(self):
        self.before = os.open("/proc/self/ns/net", os.O_RDONLY)
        ctypes.CDLL(None).setns(self.network, CLONE_NEWNET)

    def __exit__(self, *_):
        ctypes.CDLL(None).setns(self.before, CLONE_NEWNET)
        os.close(self.before)


class Backend:
    """A port of the portals' host that answers connections by accepting them."""

    network = -1

    def __init__(self, address, port=8080):
        with Inside(Backend.network):
            self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.socket.listen(1024)

    def stop(self):
        self.socket.close()


def request(path, method, target, body=b"", raw=None):
    """One HTTP request over the Unix socket; (status, body)."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        head = f"{method} {target} HTTP/1.1\r\nHost: portico\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        s.sendall(raw if raw is not None else head.encode() + body)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()


class ControlCase(unittest.TestCase):
    """A control, its configuration and three backends on port 8080 of the portals' host."""

    @classmethod
    def setUpClass(cls):
        with Inside(os.open("/proc/self/ns/net", os.O_RDONLY)):
            Backend.network = enter_new_network()
        portals = f"/proc/{os.getpid()}/fd/{Backend.network}"
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", portals)
        run("ip", "addr", "add", "198.18.0.1/24", "dev", "eth0")
        run("ip", "addr", "add", "198.18.1.254/24", "dev", "eth0")
        run("ip", "link", "set", "eth0", "up")
        run("ip", "link", "add", "eth2", "type", "veth", "peer", "name", "eth3")
        run("ip", "link", "set", "eth3", "up")
        run("ip", "link", "set", "eth2", "up")
        with Inside(Backend.network):
            run("ip", "link", "set", "eth1", "up")
            for n in (1, 2, 3):
                run("ip", "addr", "add", f"198.18.1.{n}/24", "dev", "eth1")

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="portico-control-")
        self.config = self.dir + "/portico.yaml"
        self.run_dir = self.dir + "/run"
        self.log = open(self.dir + "/log", "w+")
        self.write_config(TWO)
        self.backends = {n: Backend(f"198.18.1.{n}") for n in (1, 2, 3)}
        self.process = None

    def tearDown(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for backend in self.backends.values():
            backend.stop()
        subprocess.run(self.command("--cleanup"), capture_output=True)
        self.log.seek(0)
        if self._outcome and not self._outcome.success:
            print(self.log.read(), file=sys.stderr)
        self.log.close()
        shutil.rmtree(self.dir)

    def write_config(self, backends):
        with open(self.config, "w") as f:
            f.write(CONFIG.format(backends=backends))

    def command(self, *extra):
        return [*confined("portico-control"), CONTROL, "--config", self.config, "--run-dir", self.run_dir, *extra]

    def start(self):
        self.process = subprocess.Popen(self.command(), stderr=self.log, stdout=self.log)
        self.wait(lambda: os.path.exists(self.socket()) and self.answers(), "control answers")

    def stop(self):
        self.process.terminate()
        self.assertEqual(self.process.wait(20), 0)

    def socket(self):
        return self.run_dir + "/control.sock"

    def answers(self):
        self.assertIsNone(self.process.poll(), "control has ended")
        try:
            return request(self.socket(), "GET", "/v1/status")[0] == 200
        except OSError:
            return False

    def status(self):
        return json.loads(request(self.socket(), "GET", "/v1/status")[1])

    def backend(self, name):
        return next(b for b in self.status()["pools"][0]["backends"] if b["name"] == name)

    def post(self, target, body=b""):
        status, text = request(self.socket(), "POST", target, body)
        return status, json.loads(text)

    def wait(self, condition, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"not within {seconds} s: {what}")
            time.sleep(0.02)

    def wait_shares(self, *expected, state="normal"):
        """Waits for a table with these shares. `normal` says that it is one of known health: what stands there before
        the first results, and what is kept when all are down, may have the same shares."""
        def reached():
            pool = self.status()["pools"][0]
            shares = [b["share"] for b in pool["backends"]]
            return pool["state"] == state and len(shares) == len(expected) and all(
                abs(a - b) < 0.01 for a, b in zip(shares, expected))
        self.wait(reached, f"{state}, shares {expected}")

    def wait_settled(self):
        """Waits until both backends are up and have their shares: from then on nothing changes by itself."""
        self.wait(lambda: all(b["health"] == "up" for b in self.status()["pools"][0]["backends"]), "all are up")
        self.wait_shares(0.5, 0.5)

    def addresses(self, device):
        return run("ip", "addr", "show", "dev", device)

    def log_text(self):
        with open(self.log.name) as f:
            return f.read()


def main():
    """Runs the script's tests in a network namespace of its own. Needs root."""
    global CONTROL
    if os.geteuid() != 0:
        print("SKIPPED: needs root for a network namespace")
        sys.exit(77)
    CONTROL = os.path.abspath(sys.argv.pop(1))
    enter_new_network()
    unittest.main(verbosity=2)
