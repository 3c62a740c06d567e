#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control as a process: what the health of backends, drains and kill -9 do to the table.

usage: control_health_test.py PORTICO_CONTROL
"""

import json
import os
import time

from control_rig import CONFIG, TWO, Backend, ControlCase, Inside, main, run

KEEP_LAST_WINDOW_S = 2.5  # 2 * (interval * fall + timeout) is 2.4 s


class HealthTest(ControlCase):
    def test_panic_is_told(self):
        with open(self.config, "w") as f:
            f.write(CONFIG.format(backends=TWO).replace("  portals:\n", "  portals:\n    min_healthy: 60%\n"))
        self.start()
        self.wait_settled()
        self.backends[1].stop()
        self.wait_shares(0.5, 0.5, state="panic")
        self.assertTrue(self.status()["pools"][0]["warnings"][0].startswith("panic: fewer than `min_healthy`"))

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
            run("ip", "link", "set", "eth1", "arp", "off")  # nobody answers
        try:
            self.start()
            self.wait(lambda: self.status()["table"]["published"] > 0, "a table")
            self.wait(lambda: all(b["health"] == "down" for b in self.status()["pools"][0]["backends"]), "all are down")
            self.wait_shares(0.5, 0.5, state="kept_last")
        finally:
            with Inside(Backend.network):
                run("ip", "link", "set", "eth1", "arp", "on")

    def test_nobody_is_judged_without_carrier(self):
        with Inside(Backend.network):
            run("ip", "link", "set", "eth1", "down")
        try:
            self.start()
            self.wait(lambda: any("eth0 has no carrier" in text for text in self.status()["warnings"]), "a warning")
            self.wait(lambda: self.status()["table"]["published"] > 0, "a table")
            self.wait_shares(0.5, 0.5, state="cut_off")
            checks = [check for b in self.status()["pools"][0]["backends"] for check in b["checks"]]
            self.assertEqual({check["reason"] for check in checks}, {"cannot probe: eth0 has no carrier"})
        finally:
            with Inside(Backend.network):
                run("ip", "link", "set", "eth1", "up")
        self.wait_shares(0.5, 0.5, state="normal")

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


if __name__ == "__main__":
    main()
