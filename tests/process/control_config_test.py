#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control as a process: reloads and starts with good, bad and other configurations.

usage: control_config_test.py PORTICO_CONTROL
"""

import os
import signal
import subprocess

from control_rig import TWO, ControlCase, main, run


class ConfigTest(ControlCase):
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

    def test_says_its_version(self):
        version = subprocess.run(self.command("--version"), capture_output=True, text=True, timeout=20)
        self.assertEqual(version.returncode, 0)
        self.assertRegex(version.stdout, r"^portico-control [0-9.]+ \(table ABI [0-9]+\)\n$")

    def test_second_instance_is_refused(self):
        self.start()
        second = subprocess.run(self.command(),
                                capture_output=True, text=True, timeout=20)
        self.assertEqual(second.returncode, 1)
        self.assertIn("second instance", second.stderr)
        self.assertTrue(self.answers())

    def test_bad_configuration_touches_nothing(self):
        self.write_config("portal-1: 198.18.1.1, portal-2: 300.1.1.1, portal-3: {weigth: 1}")
        for extra in ([], ["--check"]):
            ended = subprocess.run(self.command(*extra),
                                   capture_output=True, text=True, timeout=20)
            self.assertEqual(ended.returncode, 1)
            self.assertIn("300.1.1.1", ended.stderr)
            self.assertIn("weigth", ended.stderr)
        self.assertFalse(os.path.exists(self.run_dir))
        self.assertNotIn("198.18.0.10", run("ip", "addr"))


if __name__ == "__main__":
    main()
