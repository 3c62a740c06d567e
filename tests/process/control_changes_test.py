#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control as a process: weights, deadlines, slow start, damping, and configurations kept, planned and taken back.

usage: control_changes_test.py PORTICO_CONTROL
"""

import json
import os
import signal
import threading

from control_rig import CONFIG, TWO, Backend, ControlCase, main, request


class ChangesTest(ControlCase):
    def write_pool(self, keys, backends=TWO):
        with open(self.config, "w") as f:
            f.write(CONFIG.format(backends=backends).replace("  portals:\n", f"  portals:\n{keys}"))

    def order(self, verb, body=None, backend="portal-1"):
        status, answer = self.post(f"/v1/backends/portals/{backend}/{verb}", json.dumps(body).encode() if body else b"")
        self.assertEqual(status, 200, answer)
        return answer

    def versions(self):
        return [c["version"] for c in json.loads(request(self.socket(), "GET", "/v1/configs")[1])["configs"]]

    def test_a_weight_outlives_control(self):
        self.start()
        self.wait_settled()
        self.assertEqual(self.order("weight", {"weight": 300, "why": "more memory"})["weight"], 300)
        self.wait_shares(0.75, 0.25)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.remove(self.socket())
        self.start()
        self.wait_shares(0.75, 0.25)
        now = self.backend("portal-1")
        self.assertEqual([now[key] for key in ("weight", "weight_configured", "weight_set", "weight_why")],
                         [300, 100, True, "more memory"])
        self.assertIn("root", now["weight_who"])
        self.order("weight", {"weight": 0})
        self.wait_shares(0, 1)
        status, answer = self.post("/v1/backends/portals/portal-2/weight", b'{"weight": 0}')
        self.assertEqual(status, 409, answer)
        self.order("weight", {"why": "disk is well"})
        self.wait_shares(0.5, 0.5)
        last = json.loads(request(self.socket(), "GET", "/v1/events")[1])["events"][-1]
        self.assertEqual((last["text"], last["why"]), ("backend portals/portal-1 was given its configured weight", "disk is well"))
        self.assertIn("root", last["who"])
        for bad in (b'{"weight": -1}', b'{"weight": 1001}', b'{"weight": "1"}'):
            self.assertEqual(self.post("/v1/backends/portals/portal-1/weight", bad)[0], 400, bad)

    def test_a_configured_weight_of_zero_does_not_take_out_the_last(self):
        self.write_config("portal-1: {address: 198.18.1.1, weight: 0}, portal-2: 198.18.1.2")
        self.start()
        self.wait_shares(0, 1)
        self.order("weight", {"weight": 100})
        self.wait_shares(0.5, 0.5)
        self.order("hold", backend="portal-2")
        status, answer = self.post("/v1/backends/portals/portal-1/weight")
        self.assertEqual((status, "last usable" in answer["error"]), (409, True), answer)
        self.wait_shares(1, 0)

    def test_a_deadline_outlives_control(self):
        self.start()
        self.wait_settled()
        self.order("drain", {"deadline_ms": 3600000})
        deadline = self.backend("portal-1")["admin_deadline_ms"]
        self.assertGreater(deadline, self.status()["now_ms"])
        self.stop()
        self.start()
        now = json.loads(request(self.socket(), "GET", "/v1/backends/portals/portal-1")[1])
        self.assertEqual([now[key] for key in ("state", "pool", "admin_deadline_ms")], ["draining", "portals", deadline])
        self.assertEqual(request(self.socket(), "GET", "/v1/backends/portals/portal-9")[0], 404)

    def test_a_backend_that_returns_starts_slowly(self):
        self.write_pool("    slow_start: 1h\n")
        self.start()
        self.wait_settled()
        self.backends[1].stop()
        self.wait_shares(0, 1)
        self.backends[1] = Backend("198.18.1.1")
        self.wait_shares(10 / 110, 100 / 110)
        self.assertEqual(self.backend("portal-1")["ramp"], 0.1)
        self.write_pool("    slow_start: 500ms\n")
        self.assertEqual(self.post("/v1/reload")[0], 200)
        self.wait_shares(0.5, 0.5)

    def test_a_restless_backend_is_damped_but_better_than_none(self):
        self.write_pool("    flap_limit: 2\n    flap_half_life: 1h\n    all_down: reset\n")
        self.start()
        self.wait_settled()
        for fall in (1, 2):
            self.backends[1].stop()
            self.wait_shares(0, 1)
            self.assertGreater(self.backend("portal-1")["flap_penalty"], fall - 0.1)
            self.backends[1] = Backend("198.18.1.1")
            self.wait(lambda: self.backend("portal-1")["health"] == "up", "portal-1 is up")
            if fall == 1:
                self.wait_shares(0.5, 0.5)
        self.wait_shares(0, 1)
        self.assertEqual(self.backend("portal-1")["state"], "damped")
        self.assertEqual(self.status()["pools"][0]["level"], "degraded")
        self.stop()
        self.start()
        self.wait_shares(0, 1)
        self.backends[2].stop()
        self.wait_shares(1, 0)
        self.write_pool("")
        self.assertEqual(self.post("/v1/reload")[0], 200)
        self.backends[2] = Backend("198.18.1.2")
        self.wait_shares(0.5, 0.5)

    def test_every_configuration_is_kept_and_can_be_taken_back(self):
        self.start()
        self.wait_settled()
        self.assertEqual(self.versions(), [1])
        with open(self.config) as f:
            first = f.read()
        self.write_config(TWO + ", portal-3: 198.18.1.3")
        self.assertEqual(self.post("/v1/reload")[0], 200)
        self.stop()
        self.start()
        self.assertEqual(self.versions(), [1, 2])
        kept = json.loads(request(self.socket(), "GET", "/v1/configs/1")[1])
        self.assertEqual((kept["text"], kept["who"], kept["current"]), (first, "start", False))
        status, answer = self.post("/v1/rollback", b'{"version": 1}')
        self.assertEqual((status, answer.get("config_version")), (200, 3), answer)
        self.wait_shares(0.5, 0.5)
        last = json.loads(request(self.socket(), "GET", "/v1/configs")[1])["configs"][-1]
        self.assertEqual((last["note"], last["digest"], last["current"]), ("rollback to 1", kept["digest"], True))
        self.assertEqual(self.post("/v1/rollback", b'{"version": 9}')[0], 404)
        self.assertEqual(self.post("/v1/rollback")[0], 400)
        # What is kept is checked as any file, and is not used if it is not what was stored.
        with open(self.run_dir + "/history/2.yaml", "a") as f:
            f.write("# more\n")
        self.assertEqual(self.post("/v1/rollback", b'{"version": 2}')[0], 409)
        self.assertEqual(self.versions(), [1, 2, 3])

    def test_plans_change_nothing_and_tell_what_would(self):
        self.start()
        self.wait_settled()
        text = CONFIG.format(backends="portal-2: 198.18.1.2, portal-3: 198.18.1.3")
        status, plan = self.post("/v1/plan", text.encode())
        self.assertEqual(status, 200, plan)
        shares = {b["name"]: (b["change"], round(b["share_before"], 1), round(b["share_after"], 1))
                  for b in plan["pools"][0]["backends"]}
        self.assertEqual(shares, {"portal-1": ("removed", 0.5, 0), "portal-2": ("same", 0.5, 0.5),
                                  "portal-3": ("added", 0, 0.5)})
        self.assertGreaterEqual(plan["pools"][0]["moved"], 0.499)
        self.assertLess(plan["pools"][0]["moved"], 0.9)
        self.assertEqual((plan["most_broken"], plan["assumed_up"]), (0, ["portals/portal-3"]))
        # What was planned is what comes.
        self.wait_shares(0.5, 0.5)
        status, plan = self.post("/v1/what-if", b'{"remove": ["portal-1"], "weights": {"portals/portal-2": 7}}')
        self.assertEqual((status, plan["pools"][0]["backends"][1]["share_after"]), (200, 1), plan)
        self.assertEqual(self.post("/v1/what-if", b'{"remove": ["portal-9"]}')[0], 409)
        self.assertEqual(self.post("/v1/what-if", b'{"remove": "portal-1"}')[0], 400)
        self.assertEqual(self.post("/v1/plan", b"version: 2\n")[0], 422)
        self.wait_shares(0.5, 0.5)
        # A comment of more than the 64 KiB that other bodies may have.
        self.assertEqual(self.post("/v1/plan", (text + "#" * 200000).encode())[0], 200)
        self.assertEqual(self.post("/v1/reload", b'{"max_broken": 0}')[0], 200)
        self.assertEqual(self.post("/v1/reload", b'{"max_broken": "no"}')[0], 400)

    def test_a_large_file_is_read_beside_the_loop(self):
        self.start()
        self.wait_settled()
        prefixes = ", ".join(f"10.{n >> 8}.{n & 255}.0/24" for n in range(60000))
        with open(self.config) as f:
            text = f.read()
        with open(self.config, "w") as f:
            f.write(text.replace("allow: [", f"allow: [{prefixes}, "))
        answers, reloading = [], threading.Thread(target=lambda: answers.append(self.post("/v1/reload")))
        reloading.start()
        heard = 0
        while not answers:
            self.status()
            heard += 1
        reloading.join()
        self.assertEqual(answers[0][0], 200, answers)
        self.assertGreater(heard, 3, "nothing was answered while the file was read")


if __name__ == "__main__":
    main()
