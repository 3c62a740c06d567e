#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control as a process: what it serves over TCP, to whom, and what clients that mean ill can cost.

usage: control_web_test.py PORTICO_CONTROL
"""

import json
import os
import resource
import socket
import subprocess
import threading

from control_rig import Backend, ControlCase, main, request

ADDRESS = ("127.0.0.1", 8088)
TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"Authorization": "Bearer " + TOKEN}
MAX_CONNECTIONS, MAX_STREAMS = 64, 16


def ask(method, target, headers=None, body=b"", host="127.0.0.1:8088", address=ADDRESS):
    """One request over TCP: (status, headers, body)."""
    with socket.create_connection(address, 10) as s:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    head, _, text = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), text.decode()


def open_stream(target="/v1/stream", size=None):
    s = socket.socket()
    if size:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    s.settimeout(20)
    s.connect(ADDRESS)
    s.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return s


class Messages:
    """What comes over a stream, as (event, object)."""

    def __init__(self, target="/v1/stream"):
        with open_stream(target) as s:  # the file has it
            self.file = s.makefile("r")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline().strip():
            pass

    def __del__(self):
        self.file.close()

    def next(self, event):
        name = None
        for line in self.file:
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: ") and name == event:
                return json.loads(line[6:])
        raise EOFError


class WebTest(ControlCase):
    options = ["--http", "127.0.0.1:8088"]

    def command(self, *extra):
        return super().command(*(extra or self.options))

    def start_with_token(self):
        self.write_tokens(f"alice {TOKEN}\n")
        self.options = self.options + ["--http-tokens", self.dir + "/tokens"]
        self.start()

    def write_tokens(self, text, mode=0o640):
        with open(self.dir + "/tokens", "w") as f:
            f.write(text)
        os.chmod(self.dir + "/tokens", mode)

    def test_serves_the_page_with_a_strict_policy(self):
        self.start()
        for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/app.css", "text/css"), ("/icon.svg", "image/svg+xml")):
            status, headers, text = ask("GET", path)
            self.assertEqual((status, headers["Content-Type"].split(";")[0]), (200, kind))
            self.assertGreater(len(text), 100)
            policy = headers["Content-Security-Policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(ask("POST", "/")[0], 405)
        self.assertEqual(ask("GET", "/nothing")[0], 404)
        self.assertEqual(ask("GET", "/../control.sock")[0], 404)
        self.assertIn("portico_control_start_time_seconds", ask("GET", "/metrics")[2])

    def test_reads_without_a_token_and_acts_with_one_only(self):
        self.start_with_token()
        self.wait_settled()
        drain = "/v1/backends/portals/portal-1/drain"
        for path in ("/v1/status", "/v1/drops", "/v1/events", "/v1/history"):
            self.assertEqual(ask("GET", path)[0], 200, path)
        self.assertEqual(ask("GET", "/v1/explain?client=198.18.0.9&port=1&service=nothing")[0], 404)
        for headers in ({}, {"Authorization": "Bearer " + "x" * 32}, {"Authorization": TOKEN}):
            self.assertEqual(ask("POST", drain, headers, b"{}")[0], 401, headers)
        self.assertEqual(self.backend("portal-1")["admin"], "active")
        self.assertEqual(ask("GET", "/v1/status", {"Authorization": "Bearer " + "x" * 32})[0], 401)
        # Not even with one: these are for who is on the host.
        for method, path in (("GET", "/v1/config/effective"), ("GET", "/v1/configs"), ("GET", "/v1/configs/1"),
                             ("POST", "/v1/reload"), ("POST", "/v1/rollback"), ("POST", "/v1/plan"),
                             ("POST", "/v1/what-if"), ("POST", "/v1/dataplane/upgrade")):
            self.assertEqual(ask(method, path, BEARER)[0], 404, path)
        self.assertEqual(ask("POST", drain, BEARER, b'{"why": "upgrade"}')[0], 200)
        now = self.backend("portal-1")
        self.assertEqual((now["admin"], now["admin_who"], now["admin_why"]), ("drained", "alice (token)", "upgrade"))
        self.assertEqual(ask("POST", "/v1/backends/portals/portal-2/hold", BEARER)[0], 409, "the last one")
        self.assertEqual(ask("POST", "/v1/backends/portals/portal-1/resume", BEARER)[0], 200)

    def test_another_sites_name_does_not_read(self):
        self.start_with_token()
        for host, expected in (("localhost:8088", 200), ("127.0.0.1", 200), ("rebound.example:8088", 401)):
            self.assertEqual(ask("GET", "/v1/status", host=host)[0], expected, host)
        self.assertEqual(ask("GET", "/v1/status", BEARER, host="portico.example")[0], 200, "through a proxy, with a token")

    def test_beyond_loopback_everything_needs_a_token(self):
        self.options = ["--http", "198.18.0.1:8088"]
        self.refuses("--http-tokens")
        self.options = ["--metrics", "198.18.0.1:8088"]
        self.refuses("loopback")
        self.options = ["--http", "198.18.0.1:8088"]
        self.start_with_token()
        address = ("198.18.0.1", 8088)
        self.assertEqual(ask("GET", "/", address=address)[0], 200, "the page itself has nothing to hide")
        for path in ("/v1/status", "/v1/stream", "/metrics"):
            self.assertEqual(ask("GET", path, host="198.18.0.1:8088", address=address)[0], 401, path)
        for path in ("/v1/status", "/metrics"):
            self.assertEqual(ask("GET", path, BEARER, address=address)[0], 200, path)

    def refuses(self, words):
        done = subprocess.run(self.command(), capture_output=True, text=True, timeout=20)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(words, done.stderr)
        self.assertFalse(os.path.exists(self.socket()), "nothing was begun")

    def test_token_files_that_protect_nothing_are_refused(self):
        self.options = self.options + ["--http-tokens", self.dir + "/tokens"]
        for text, mode, words in ((f"alice {TOKEN}\n", 0o644, "chmod"), ("alice short\n", 0o640, "shorter"), ("", 0o640, "no token")):
            self.write_tokens(text, mode)
            self.refuses(words)

    def test_the_stream_tells_what_happens(self):
        self.start()
        self.wait_settled()
        stream = Messages()
        self.assertEqual({b["health"] for b in stream.next("status")["pools"][0]["backends"]}, {"up"})
        self.assertIn("drops", stream.next("drops"))
        self.assertIn("portico-control has started", [e["text"] for e in stream.next("events")])
        self.backends[1].stop()
        down = stream.next("events")[-1]
        self.assertEqual((down["text"], down["kind"], down["level"]), ("backend portals/portal-1 is down", "health", "error"))
        self.assertTrue(down["why"])
        while {b["health"] for b in stream.next("status")["pools"][0]["backends"]} == {"up"}:
            pass
        self.post("/v1/backends/portals/portal-1/hold", b'{"why": "broken disk"}')
        held = stream.next("events")[-1]
        self.assertEqual((held["kind"], held["backend"], held["why"]), ("operator", "portal-1", "broken disk"))
        self.assertIn("root", held["who"])
        # Who comes again has only what is new.
        self.write_config("portal-2: 198.18.1.2")
        self.assertEqual(self.post("/v1/reload")[0], 200)
        again = Messages(f"/v1/stream?after={held['id']}").next("events")
        self.assertEqual([e["kind"] for e in again], ["configuration"])
        self.write_config("portal-2: nonsense")
        self.assertEqual(self.post("/v1/reload")[0], 422)
        refused = json.loads(ask("GET", f"/v1/events?after={again[-1]['id']}")[2])["events"]
        self.assertEqual([(e["level"], "refused" in e["text"]) for e in refused], [("error", True)])
        self.assertEqual(ask("GET", "/v1/events?after=x")[0], 400)

    def test_the_history_shows_an_outage_between_two_samples(self):
        self.start()
        self.wait_settled()
        states = lambda: {b["backend"]: b["states"] for b in json.loads(ask("GET", "/v1/history")[2])["backends"]}
        self.wait(lambda: states().get("portal-1"), "a sample")
        self.backends[1].stop()
        self.wait(lambda: self.backend("portal-1")["health"] == "down", "portal-1 is down")
        self.backends[1] = Backend("198.18.1.1")
        self.wait(lambda: self.backend("portal-1")["health"] == "up", "portal-1 is up")
        self.wait(lambda: "d" in states()["portal-1"], "its history has it")
        self.assertNotIn("d", states()["portal-2"])

    def test_a_thousand_connections_cost_little_and_delay_no_check(self):
        self.start()
        self.wait_settled()
        before = self.memory()
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        kept = [open_stream(size=4096) for _ in range(MAX_STREAMS)]
        stop, made = threading.Event(), []

        def storm():
            crowd = []
            while not stop.is_set():
                try:
                    s = socket.create_connection(ADDRESS, 5)
                    # Nothing, half a request, a stream too many.
                    s.sendall((b"", b"GET /v1/status HTTP/1.1\r\nHost: x", b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")[len(crowd) % 3])
                    crowd.append(s)
                    made.append(1)
                except OSError:
                    continue
                if len(crowd) > 250:
                    crowd.pop(0).close()
            for s in crowd:
                s.close()

        crowds = [threading.Thread(target=storm, daemon=True) for _ in range(4)]
        for thread in crowds:
            thread.start()
        self.wait(lambda: len(made) > 500, "the storm has come")
        self.backends[1].stop()
        self.wait(lambda: self.backend("portal-1")["health"] == "down", "the check still finds it out")
        self.assertEqual(request(self.socket(), "GET", "/v1/drops")[0], 200, "the Unix socket is another matter")
        self.wait(lambda: len(made) > 1000, "it goes on")
        self.assertLess(len(os.listdir(f"/proc/{self.process.pid}/fd")), 2 * MAX_CONNECTIONS + 64)
        stop.set()
        for thread in crowds:
            thread.join(20)
        grown = self.memory() - before
        self.assertLess(grown, 64 * 1024, "KiB")
        print(f"{len(made)} connections, grown by {grown} KiB", end=" ")
        for s in kept:
            s.close()
        self.wait(lambda: ask("GET", "/v1/status")[0] == 200, "it serves as before")
        self.wait(lambda: Messages().status == 200, "streams, too")

    def memory(self):
        """Most that it has had, in KiB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
