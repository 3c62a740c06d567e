#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`portico support-bundle` against portico-control as a process: all that helps, no secret, whatever is dead.

usage: control_support_test.py PORTICO_CONTROL PORTICO
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from control_rig import ControlCase, main, request

PORTICO = ""
# In every place that configuration allows, and where people put them by mistake.
SECRETS = {name: f"plAnted-{name}-5e1f" for name in (
    "send", "expect", "path", "body", "comment", "password", "token", "unknown", "unknown-below", "name")}
OLD_KEY, KEY = "0123456789abcdef0123456789abcdee", "5f1d6c3ab2e04d7798c1a6f0e2b35d48"
CONFIG = """
version: 1
instance: control-test
hash_key: {key}   # before: {comment}
dataplane: {{ports: [eth0]}}
nat: {{addresses: [198.18.0.20]}}
services:
  web: {{listen: "198.18.0.10:8080", pool: portals}}
pools:
  portals:
    check: {{interval: 100ms, fast_interval: 20ms}}
    backends: {{portal-1: 198.18.1.1, portal-2: 198.18.1.2}}
    checks:
      alive: 8080
      cache: {{port: 6379, send: 'AUTH {send}\\r\\n', expect: "{expect}"}}
      page: {{port: 80, kind: http, path: "/health?token={path}", body: "{body}"}}
      tls: {{port: 443, kind: tls, sni: portal.example.com, ca_file: ca.pem}}
      database: {{port: 3306, credentials: check.cnf}}
"""


class SupportTest(ControlCase):
    def write_config(self, backends, key=KEY, more=""):
        folder = Path(self.dir)
        (folder / "portico.yaml").write_text(CONFIG.format(key=key, **SECRETS) + more)
        authority = folder / "ca.pem"
        if not authority.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                            "/CN=test", "-keyout", folder / "key.pem", "-out", authority], check=True, capture_output=True)
            with authority.open("a") as f:
                f.write((folder / "key.pem").read_text())
        for name, text in (("check.cnf", f"[client]\nuser = check\npassword = \"{SECRETS['password']}\"\n"),
                           ("tokens", f"alice {SECRETS['token']}\n"),
                           ("some.log", f"GET /?token={SECRETS['token']} 200\nlast line\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)

    def command(self, *extra):
        return [*super().command(*extra), "--http", "127.0.0.1:8099", "--http-tokens", self.dir + "/tokens"]

    def portico(self, *arguments):
        return subprocess.run([PORTICO, "--run-dir", self.run_dir, *arguments], capture_output=True, cwd=self.dir)

    # The archive's files by name, with the folder that all are in taken away.
    def bundle(self, *arguments):
        done = self.portico("support-bundle", "-w", "-", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            return {m.name.partition("/")[2]: archive.extractfile(m).read() for m in archive if m.isfile()}

    def assert_no_secret(self, files):
        key = [line for line in (Path(self.dir) / "key.pem").read_text().splitlines() if "-----" not in line]
        for secret in [*SECRETS.values(), OLD_KEY, KEY, "BEGIN PRIVATE", *key]:
            for name, content in files.items():
                for form in (content, content.lower()):
                    self.assertNotIn(secret.encode(), form, f"{secret} in {name}")
                self.assertNotIn(secret, name)

    def test_a_running_control_tells_all_but_secrets(self):
        self.write_config("", OLD_KEY)
        self.start()
        self.wait(lambda: request(self.socket(), "GET", "/v1/configs/1")[0] == 200, "it is kept")
        self.write_config("")
        self.post("/v1/reload")
        why = f"{SECRETS['token']} {SECRETS['password']}"
        self.assertEqual(self.post("/v1/backends/portals/portal-1/drain", json.dumps({"why": why, "force": True}).encode())[0], 200)
        files = self.bundle("--log", self.dir + "/some.log")
        self.assert_no_secret(files)
        status = json.loads(files["status.json"])
        self.assertEqual(status["pools"][0]["backends"][0]["admin"], "drained")
        self.assertIn("drained", files["events.json"].decode())
        self.assertIn("portico_backend_up", files["metrics.txt"].decode())
        config = json.loads(files["config.json"])
        self.assertEqual(config["services"]["web"]["listen"], "198.18.0.10:8080")
        self.assertEqual(config["pools"]["portals"]["backends"]["portal-1"], "198.18.1.1")
        self.assertEqual(config["hash_key"], "(redacted)")
        self.assertEqual(config["pools"]["portals"]["checks"]["cache"], {"port": "6379", "send": "(redacted)", "expect": "(redacted)"})
        self.assertEqual(json.loads(files["config-effective.json"])["services"]["web"]["idle_timeout"], "2h4m")
        self.assertEqual({n for n in files if n.startswith("configs/")}, {"configs/1.json", "configs/2.json"})
        self.assertIn("checks", json.loads(files["doctor.json"]))
        self.assertIn("last line", files["logs/some.log"].decode())
        self.assertIn("portico-control", files["process-control.txt"].decode())
        self.assertIn("eth0", files["kernel/links.txt"].decode())
        manifest = json.loads(files["manifest.json"])
        self.assertEqual({one["name"] for one in manifest["contents"]} | {"manifest.json"}, set(files))
        self.assertIn("process-dataplane.txt", {one["name"] for one in manifest["missing"]})

    def test_without_control_the_file_and_the_host_are_there(self):
        self.start()
        self.stop()
        self.write_config("", more=f"mysql: {{password: {SECRETS['unknown']}, name: {SECRETS['unknown-below']}}}\n'{SECRETS['name']}': 1\n")
        with (Path(self.dir) / "some.log").open("a") as f:
            f.write(f"refused: {KEY} {SECRETS['unknown']} {SECRETS['password']}\n")
        files = self.bundle(self.config, "--log", self.dir + "/some.log")
        self.assertIn(b"refused: (redacted) (redacted) (redacted)", files["logs/some.log"])
        # Where the tokens are only a running control says; nothing of Portico's writes them anywhere.
        files["logs/some.log"] = files["logs/some.log"].replace(SECRETS["token"].encode(), b"")
        self.assert_no_secret(files)
        status = json.loads(files["status.json"])
        self.assertIn("control is not running", status["error"])
        self.assertIn("dataplane", status)
        self.assertFalse(json.loads(files["check-config.json"])["valid"])
        self.assertEqual(json.loads(files["config.json"])["instance"], "control-test")
        self.assertIn("kernel/version", files)

    def test_the_archive_is_its_owners_and_replaces_nothing(self):
        done = self.portico("support-bundle", self.config, "--json", "-w", "bundle.tar.gz")
        self.assertEqual(done.returncode, 0, done.stdout)
        said = json.loads(done.stdout)
        path = Path(self.dir) / "bundle.tar.gz"
        self.assertEqual((path.stat().st_mode & 0o777, path.stat().st_size), (0o600, said["bytes"]))
        with tarfile.open(path) as archive:
            names = {m.name.partition("/")[2] for m in archive if m.isfile()}
        self.assertEqual({one["name"] for one in said["contents"]} | {"manifest.json"}, names)
        again = self.portico("support-bundle", self.config, "-w", "bundle.tar.gz")
        self.assertEqual(again.returncode, 4)
        self.assertIn(b"is there already", again.stderr)


if __name__ == "__main__":
    PORTICO = os.path.abspath(sys.argv.pop(2))
    main()
