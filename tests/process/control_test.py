#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control as a process: publishes, follows health, survives kill -9, refuses what is wrong.

Runs in a network namespace of its own; its backends are listening sockets in another one, at the other end of a veth
pair. Needs root.
usage: control_test.py PORTICO_CONTROL
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from control_rig import Backend, Inside, enter_new_network, request, run

CONTROL = ""
CONFIG = """
version: 1
instance: control-test
dataplane: {{ports: [eth0]}}
nat: {{addresses: [198.18.0.20]}}
services:
  web: {{listen: "198.18.0.10:8080", pool: portals}}
pools:
  portals:
    check: {{interval: 100ms, fast_interval: 20ms}}
    backends: {{{backends}}}
"""
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
KEEP_LAST_WINDOW_S = 2.5  # 2 * (interval * fall + timeout) is 2.4 s
F_OFD_SETLK = 37
TWO = "portal-1: 198.18.1.1, portal-2: 198.18.1.2"


class ControlTest(unittest.TestCase):
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
        subprocess.run([CONTROL, "--config", self.config, "--run-dir", self.run_dir, "--cleanup"], capture_output=True)
        self.log.seek(0)
        if self._outcome and not self._outcome.success:
            print(self.log.read(), file=sys.stderr)
        self.log.close()
        shutil.rmtree(self.dir)

    def write_config(self, backends):
        with open(self.config, "w") as f:
            f.write(CONFIG.format(backends=backends))

    def start(self):
        command = [CONTROL, "--config", self.config, "--run-dir", self.run_dir]
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log)
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

    def test_health_moves_shares(self):
        self.start()
        self.wait_settled()
        self.backends[1].stop()
        self.wait_shares(0, 1)
        self.assertEqual(self.backend("portal-1")["health"], "down")
        self.assertIn("refused", self.backend("portal-1")["reason"])
        self.assertEqual(self.status()["pools"][0]["warnings"], ["no redundancy"])
        time.sleep(KEEP_LAST_WINDOW_S)  # no wait for a change: only what lies further apart has not failed together
        self.backends[2].stop()
        self.wait_shares(0, 1, state="kept_last")
        self.backends[1] = Backend("198.18.1.1")
        self.wait_shares(1, 0)

    def test_backends_that_fail_together_are_kept_together(self):
        self.start()
        self.wait_settled()
        self.backends[1].stop()
        self.backends[2].stop()
        self.wait_shares(0.5, 0.5, state="kept_last")

    def collect_until(self, condition):
        """The backends of the pool in every status until the condition holds for one: [{name: (health, share)}]."""
        seen = []

        def reached():
            seen.append({b["name"]: (b["health"], b["share"]) for b in self.status()["pools"][0]["backends"]})
            return condition(seen[-1])
        self.wait(reached, "the status")
        return seen

    def test_no_backend_gets_connections_before_its_first_good_result(self):
        def only_those_up(seen):
            return all(health == "up" for backends in seen for health, share in backends.values() if share > 0)
        self.backends[2].stop()
        self.start()
        seen = self.collect_until(lambda now: now["portal-1"][1] == 1 and now["portal-2"][0] == "down")
        self.assertTrue(only_those_up(seen), seen)
        # Added by a reload: one that does not answer, and later one that does.
        self.backends[3].stop()
        self.write_config(TWO + ", portal-3: 198.18.1.3")
        self.assertEqual(self.post("/v1/reload")[0], 200)
        seen = self.collect_until(lambda now: now["portal-3"][0] == "down")
        self.assertTrue(only_those_up(seen), seen)
        self.backends[3] = Backend("198.18.1.3")
        seen = self.collect_until(lambda now: now["portal-3"][1] > 0.4)
        self.assertTrue(only_those_up(seen), seen)

    def test_the_first_table_waits_no_longer_than_a_check(self):
        with Inside(Backend.network):
            run("ip", "link", "set", "eth1", "down")  # nobody answers
        try:
            self.start()
            self.wait(lambda: self.status()["table"]["published"] > 0, "a table")
            self.wait(lambda: all(b["health"] == "down" for b in self.status()["pools"][0]["backends"]), "all are down")
            self.wait_shares(0.5, 0.5, state="kept_last")
        finally:
            with Inside(Backend.network):
                run("ip", "link", "set", "eth1", "up")

    def test_a_change_before_the_first_table_says_that_it_waits(self):
        # A check without an answer holds the first table back for as long as that is allowed.
        with open(self.config, "w") as f:
            f.write(CONFIG.format(backends=TWO).replace("fast_interval: 20ms", "fast_interval: 20ms, timeout: 1m")
                    .replace("interval: 100ms", "interval: 1m"))
        with Inside(Backend.network):
            run("ip", "link", "set", "eth1", "down")
        try:
            self.start()
            reloaded = self.post("/v1/reload")
            drained = self.post("/v1/backends/portals/portal-1/drain")
            self.assertEqual(self.status()["table"]["published"], 0)
            for status, answer in reloaded, drained:
                self.assertEqual(status, 200, answer)
                self.assertIn("first table", answer.get("waits_for", ""), answer)
            self.assertFalse(os.path.exists(self.run_dir + "/applied"), "what no table has is not applied")
            self.wait(lambda: self.status()["table"]["published"] > 0, "a table")
            self.wait(lambda: os.path.exists(self.run_dir + "/applied"), "the note of what is applied")
            status, answer = self.post("/v1/backends/portals/portal-1/resume")
            self.assertEqual((status, "waits_for" in answer), (200, False), answer)
        finally:
            with Inside(Backend.network):
                run("ip", "link", "set", "eth1", "up")

    def addresses(self, device):
        return run("ip", "addr", "show", "dev", device)

    def log_text(self):
        with open(self.log.name) as f:
            return f.read()

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
        command = [CONTROL, "--config", self.config, "--run-dir", self.run_dir, "--cleanup"]
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

    def test_killed_control_continues_where_it_was(self):
        self.start()
        self.wait_settled()
        self.assertEqual(self.post("/v1/backends/-/portal-1/drain", b'{"why": "upgrade"}')[0], 200)
        self.wait_shares(0, 1)
        before = self.status()
        inode = os.stat(self.run_dir + "/table").st_ino
        self.process.kill()
        self.process.wait()
        self.start()
        after = self.status()
        self.assertGreater(after["table"]["published"], before["table"]["published"])
        self.assertEqual(os.stat(self.run_dir + "/table").st_ino, inode, "the table file is taken over")
        self.assertEqual(after["config"], before["config"], "the same configuration has the same number and time")
        self.assertEqual([b["share"] for b in after["pools"][0]["backends"]], [0, 1])
        self.assertEqual(self.backend("portal-1")["admin"], "drained")
        self.assertEqual(self.backend("portal-1")["admin_why"], "upgrade")
        self.assertEqual(self.post("/v1/backends/portals/portal-1/resume")[0], 200)
        self.wait_shares(0.5, 0.5)

    def test_health_is_stored_before_it_is_published(self):
        self.start()
        self.wait_settled()
        self.backends[1].stop()
        self.wait(lambda: self.backend("portal-1")["share"] == 0, "no share")
        self.process.kill()
        self.process.wait()
        with open(self.run_dir + "/health.json") as f:
            stored = json.load(f)
        # 2 is `down`
        self.assertEqual([b["state"] for b in stored["backends"] if b["backend"] == "portal-1"], [2])

    def test_last_backend_is_only_taken_out_by_force(self):
        self.start()
        self.wait_settled()
        self.assertEqual(self.post("/v1/backends/portals/portal-1/hold")[0], 200)
        self.wait_shares(0, 1)
        status, answer = self.post("/v1/backends/portals/portal-2/hold")
        self.assertEqual(status, 409, answer)
        self.assertEqual(self.post("/v1/backends/portals/portal-2/hold", b'{"force": true}')[0], 200)
        self.assertEqual(self.status()["pools"][0]["state"], "reset")

    def test_reload_changes_all_or_nothing(self):
        self.start()
        self.wait_settled()
        before = self.status()
        self.write_config(TWO + ", portal-3: nonsense")

        def refused_without_a_trace():
            """The host's links and neighbours may change the table meanwhile: then it shows at another try."""
            published = self.status()["table"]["published"]
            status, answer = self.post("/v1/reload")
            self.assertEqual(status, 422, answer)
            self.assertTrue(any(m["is_error"] and m["line"] > 0 for m in answer["messages"]), answer)
            return self.status()["table"]["published"] == published
        self.wait(refused_without_a_trace, "a refused reload that publishes nothing")
        self.assertEqual(self.status()["config"]["version"], before["config"]["version"])
        self.write_config(TWO + ", portal-3: 198.18.1.3")
        status, answer = self.post("/v1/reload")
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["config_version"], before["config"]["version"] + 1)
        self.wait_shares(1 / 3, 1 / 3, 1 / 3)
        self.write_config(TWO)
        self.process.send_signal(signal.SIGHUP)
        self.wait_shares(0.5, 0.5)

    def test_another_file_at_the_next_start_is_another_configuration(self):
        self.start()
        self.wait_settled()  # a configuration that never was in a table does not count
        self.assertEqual(self.status()["config"]["version"], 1)
        self.stop()
        self.write_config(TWO + ", portal-3: 198.18.1.3")
        self.start()
        self.assertEqual(self.status()["config"]["version"], 2)

    def test_a_good_file_that_cannot_be_applied_is_not_called_bad(self):
        self.start()
        self.write_config(TWO)
        with open(self.config) as f:
            text = f.read()
        with open(self.config, "w") as f:
            f.write(text.replace("instance: control-test", "instance: another"))
        version = self.status()["config"]["version"]
        status, answer = self.post("/v1/reload")
        self.assertEqual(status, 409)
        self.assertIn("the configuration is good, but was not applied: `instance` cannot change", answer["error"])
        self.assertEqual(self.status()["config"]["version"], version)

    def test_second_instance_is_refused(self):
        self.start()
        second = subprocess.run([CONTROL, "--config", self.config, "--run-dir", self.run_dir],
                                capture_output=True, text=True, timeout=20)
        self.assertEqual(second.returncode, 1)
        self.assertIn("second instance", second.stderr)
        self.assertTrue(self.answers())

    def test_bad_configuration_touches_nothing(self):
        self.write_config("portal-1: 198.18.1.1, portal-2: 300.1.1.1, portal-3: {weigth: 1}")
        for extra in ([], ["--check"]):
            ended = subprocess.run([CONTROL, "--config", self.config, "--run-dir", self.run_dir] + extra,
                                   capture_output=True, text=True, timeout=20)
            self.assertEqual(ended.returncode, 1)
            self.assertIn("300.1.1.1", ended.stderr)
            self.assertIn("weigth", ended.stderr)
        self.assertFalse(os.path.exists(self.run_dir))
        self.assertNotIn("198.18.0.10", run("ip", "addr"))

    def test_guard_and_addresses_outlive_control_until_cleanup(self):
        self.start()
        self.assertIn("198.18.0.10", run("ip", "addr", "show", "dev", "eth0"))
        self.assertIn("198.18.0.20", run("ip", "addr", "show", "dev", "eth0"))
        self.stop()
        self.assertIn("198.18.0.10", run("ip", "addr"))
        self.assertIn("portico-control", run("nft", "list", "tables"))
        run(CONTROL, "--config", self.config, "--cleanup")
        self.assertNotIn("198.18.0.10", run("ip", "addr"))
        self.assertNotIn("portico", run("nft", "list", "tables"))

    def test_api_answers_what_is_wrong(self):
        self.start()
        cases = [("GET", "/nothing", 404), ("POST", "/v1/status", 405), ("GET", "/v1/reload", 405),
                 ("POST", "/v1/backends/portals/portal-9/drain", 404),
                 ("POST", "/v1/backends/portals/portal-1/kill", 404), ("POST", "/v1/backends/a/b/c/drain", 404),
                 ("GET", "/v1/explain", 400), ("GET", "/v1/explain?client=198.18.0.9&port=1&service=x", 404),
                 ("GET", "/v1/explain?client=198.18.0.9&port=1&service=web", 503),
                 ("GET", "/v1/explain?client=198.18.0.9&service=web", 503), ("DELETE", "/v1/drops", 405)]
        for method, target, expected in cases:
            status, text = request(self.socket(), method, target)
            self.assertEqual(status, expected, target)
            self.assertIn("error", json.loads(text))
        for body in (b"{", b"[]", b'{"why": 1}', b'{"other": 1}', b"\xff\xfe"):
            self.assertEqual(request(self.socket(), "POST", "/v1/backends/-/portal-1/drain", body)[0], 400, body)
        for why in ("x" * 257, "one\ntwo", "\x1b[2J", "\x7f", "\u009b2J"):
            status, answer = self.post("/v1/backends/-/portal-1/drain", json.dumps({"why": why}).encode())
            self.assertEqual((status, "`why`" in answer["error"]), (400, True), repr(why))
        self.assertEqual(self.backend("portal-1")["admin"], "active")
        self.assertEqual(request(self.socket(), "GET", "", raw=b"\x00\x01\r\n\r\n")[0], 400)
        self.assertTrue(self.answers())

    def test_explain_without_a_port_lists_the_choices(self):
        self.start()
        self.wait_settled()
        # Stands for the dataplane: DPDK's telemetry socket, with canned answers.
        folder = self.run_dir + "/dpdk/portico"
        os.makedirs(folder, exist_ok=True)
        answers = {"/portico/explain,198.18.0.9,0,198.18.0.10,8080":
                   {"access": "allowed", "flow": 0, "backend": "portal-1", "slot": 7,
                    "return_hop": {"address": "198.18.0.9", "mac": "02:00:00:00:00:09", "port": "eth0", "resolved": 1}},
                   "/portico/explain,198.18.0.8,0,198.18.0.10,8080": {"access": "denied", "flow": 0},
                   "/portico/explain,198.18.0.7,0,198.18.0.10,8080": None}
        asked = []

        def serve(listener):
            for _ in answers:
                with listener.accept()[0] as connection:
                    connection.send(b'{"version": "test"}')
                    command = connection.recv(4096).decode()
                    asked.append(command)
                    connection.send(json.dumps({"/portico/explain": answers.get(command)}).encode())

        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(folder + "/dpdk_telemetry.v2")
            listener.listen()
            listener.settimeout(20)
            server = threading.Thread(target=serve, args=(listener,), daemon=True)
            server.start()
            allowed, denied, starting = (
                request(self.socket(), "GET", f"/v1/explain?client=198.18.0.{n}&service=web") for n in (9, 8, 7))
            server.join(20)
        self.assertEqual(asked, list(answers))
        status, answer = allowed[0], json.loads(allowed[1])
        self.assertEqual((status, answer["allowed"]), (200, True))
        self.assertEqual([answer[key] for key in ("client_port", "flow", "backend", "slot", "next_hop")], [0] + 4 * [None])
        self.assertIn("each connection chooses by its port", answer["why"])
        self.assertEqual(answer["return_hop"]["mac"], "02:00:00:00:00:09")
        self.assertEqual([(c["name"], c["health"], c["admin"]) for c in answer["choices"]],
                         [("portal-1", "up", "active"), ("portal-2", "up", "active")])
        self.assertAlmostEqual(sum(c["share"] for c in answer["choices"]), 1)
        self.assertEqual((denied[0], json.loads(denied[1])["allowed"]), (200, False))
        self.assertIn("`allow`", json.loads(denied[1])["why"])
        self.assertEqual((starting[0], json.loads(starting[1])["error"]), (503, "the dataplane is starting"))

    def test_metrics_and_drops_name_every_reason(self):
        self.start()
        status, text = request(self.socket(), "GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertIn('portico_backend_up{pool="portals",backend="portal-1"}', text)
        drops = json.loads(request(self.socket(), "GET", "/v1/drops")[1])["drops"]
        self.assertGreater(len(drops), 20)
        for drop in drops:
            self.assertIn(f'portico_dropped_packets_total{{reason="{drop["name"]}"}}', text)
        with open(os.path.join(os.path.dirname(__file__), "../../docs/metrics.md")) as f:
            documented = f.read()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                self.assertIn(f"`{line.split()[2]}`", documented)
        status, text = request(self.socket(), "GET", "/v1/config/effective")
        self.assertIn("portal-1", text)

    def test_without_a_dataplane_the_status_says_so(self):
        self.start()
        status = self.status()
        self.assertEqual(status["level"], "unserved")
        self.assertEqual(status["dataplane"]["state"], "absent")
        self.assertTrue(any("no dataplane is running" in w for w in status["warnings"]), status["warnings"])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root for a network namespace")
        sys.exit(77)
    CONTROL = os.path.abspath(sys.argv.pop(1))
    enter_new_network()
    unittest.main(verbosity=2)
