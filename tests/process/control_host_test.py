#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control as a process: the host's addresses and the guard, put there, kept and taken away.

usage: control_host_test.py PORTICO_CONTROL
"""

import fcntl
import os
import struct
import subprocess

from control_rig import ControlCase, main, run

# Its NAT address is in no network until the test makes one.
TWO_PORTS = """
version: 1
instance: control-test
dataplane: {ports: [eth0, eth2]}
nat: {addresses: [198.18.9.20]}
services:
  web: {listen: "198.18.0.10:8080", pool: portals}
pools:
  portals:
    backends: {portal-1: 198.18.1.1}
"""
F_OFD_SETLK = 37


class HostTest(ControlCase):
    def test_addresses_follow_their_network(self):
        with open(self.config, "w") as f:
            f.write(TWO_PORTS)
        self.start()
        try:
            self.assertIn("198.18.9.20", self.addresses("eth0"))
            self.assertTrue(any("198.18.9.20" in w for w in self.status()["warnings"]), self.status()["warnings"])
            run("ip", "addr", "add", "198.18.9.1/24", "dev", "eth2")
            self.wait(lambda: "198.18.9.20" in self.addresses("eth2"), "moved")
            self.wait(lambda: "198.18.9.20" not in self.addresses("eth0"), "no longer where it was")
            self.wait(lambda: not any("198.18.9.20" in w for w in self.status()["warnings"]), "no warning")
            self.assertIn("moved the address 198.18.9.20 from eth0 to eth2", self.log_text())
        finally:
            subprocess.run(["ip", "addr", "del", "198.18.9.1/24", "dev", "eth2"], check=False)

    def test_what_is_taken_away_comes_back(self):
        self.start()
        run("ip", "addr", "del", "198.18.0.10/32", "dev", "eth0")
        self.wait(lambda: "198.18.0.10" in self.addresses("eth0"), "the address")
        self.wait(lambda: "put back the address 198.18.0.10" in self.log_text(), "a line in the log")
        run("nft", "flush", "ruleset")
        self.wait(lambda: "portico-control-test" in run("nft", "list", "tables"), "the guard")
        self.wait(lambda: "put back the guard" in self.log_text(), "a line in the log")

    def test_cleanup_leaves_a_living_instance_alone(self):
        self.start()
        command = self.command("--cleanup")
        refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"portico-control (pid {self.process.pid})", refused.stderr)
        self.assertIn("--force", refused.stderr)
        self.assertIn("198.18.0.10", self.addresses("eth0"))
        self.assertIn("portico-control-test", run("nft", "list", "tables"))
        # The lock of a dataplane.
        self.stop()
        holder = os.open(self.run_dir + "/feedback", os.O_RDWR | os.O_CREAT, 0o640)
        fcntl.fcntl(holder, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("portico-dataplane", refused.stderr)
        self.assertIn("198.18.0.10", self.addresses("eth0"))
        run(*command, "--force")
        self.assertNotIn("198.18.0.10", self.addresses("eth0"))
        os.close(holder)

    def test_guard_and_addresses_outlive_control_until_cleanup(self):
        self.start()
        self.assertIn("198.18.0.10", run("ip", "addr", "show", "dev", "eth0"))
        self.assertIn("198.18.0.20", run("ip", "addr", "show", "dev", "eth0"))
        self.stop()
        self.assertIn("198.18.0.10", run("ip", "addr"))
        self.assertIn("portico-control", run("nft", "list", "tables"))
        run(*self.command("--cleanup"))
        self.assertNotIn("198.18.0.10", run("ip", "addr"))
        self.assertNotIn("portico", run("nft", "list", "tables"))


if __name__ == "__main__":
    main()
