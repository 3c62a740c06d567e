#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control as a process: the answers of its API.

usage: control_api_test.py PORTICO_CONTROL
"""

import json
import os
import socket
import threading

from control_rig import ControlCase, main, request


class ApiTest(ControlCase):
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
        for why in ("x" * 257, "one\ntwo", "\x1b[2J", "\x7f", "\u009b2J", "\u202edenwod", "\u2066", "\u200b", "\ufeff"):
            status, answer = self.post("/v1/backends/-/portal-1/drain", json.dumps({"why": why}).encode())
            self.assertEqual((status, "`why`" in answer["error"]), (400, True), repr(why))
        self.assertEqual(self.backend("portal-1")["admin"], "active")
        self.assertEqual(request(self.socket(), "GET", "", raw=b"\x00\x01\r\n\r\n")[0], 400)
        self.assertTrue(self.answers())

    def test_the_schema_is_served_as_it_is_installed(self):
        self.start()
        for path, name in (("/v1/schema.json", "config.schema.json"), ("/v1/openapi.json", "openapi.json")):
            with open(os.path.join(os.path.dirname(__file__), "../../control/schema", name)) as f:
                self.assertEqual(request(self.socket(), "GET", path), (200, f.read()))

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
        self.assertIn("`deny` has 198.18.0.8/31", json.loads(denied[1])["why"])
        self.assertEqual(json.loads(denied[1])["access_rule"], {"list": "deny", "prefix": "198.18.0.8/31"})
        self.assertEqual(answer["access_rule"], {"list": "allow", "prefix": "198.18.0.9/32"})
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
    main()
