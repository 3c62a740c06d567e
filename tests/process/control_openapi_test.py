#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the API answers and what `portico --json` prints is what the OpenAPI document says, and nothing that it does not.

usage: control_openapi_test.py PORTICO_CONTROL PORTICO
"""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema

from closed_schema import closed, misfits
from control_rig import ControlCase, main, request

PORTICO = ""
ROOT = Path(__file__).resolve().parents[2]


class OpenApiTest(ControlCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.document = json.loads(subprocess.run([PORTICO, "config-schema", "--api"], capture_output=True, check=True).stdout)
        cls.schemas = closed(cls.document["components"]["schemas"])

    def fits(self, schema, value, what):
        for where, problem in misfits(self.document, schema, value):
            self.fail(f"{what}: {where}: {problem}")

    def answer_fits(self, path, method, status, text, what):
        operation = self.document["paths"][path][method]
        response = operation["responses"].get(str(status), operation["responses"]["default"])
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].split("/")[-1]]
        content = response["content"]
        if "application/json" in content:
            self.fits(content["application/json"]["schema"], json.loads(text), what)
        return status

    def ask(self, target, method="GET", body=b"", path=None, expect=200):
        path = path or target.partition("?")[0]
        status, text = request(self.socket(), method, target, body)
        self.answer_fits(path, method.lower(), status, text, f"{method} {target}")
        self.assertEqual(status, expect, text)

    def portico(self, command, *arguments, statuses=(0,)):
        done = subprocess.run([PORTICO, "--run-dir", self.run_dir, "--json", command, *arguments], capture_output=True, text=True,
                              cwd=self.dir, check=False)
        self.assertIn(done.returncode, statuses, f"{command} {arguments}: {done.stdout}{done.stderr}")
        value = json.loads(done.stdout)
        schema = self.document["x-portico-commands"][command]
        # Who asks for JSON sees by the status that it went wrong.
        is_error = done.returncode in (3, 4, 64) and command != "status"
        if is_error and command == "check-config":
            is_error = "error" in value
        self.fits({"$ref": "#/components/schemas/Error"} if is_error else schema, value, f"portico {command} {arguments}")
        self.said.add(command)
        return value

    def test_the_document_is_whole(self):
        text = json.dumps(self.document)
        for name in re.findall(r'"#/components/schemas/(\w+)"', text):
            self.assertIn(name, self.schemas)
        for name, schema in self.schemas.items():
            jsonschema.Draft202012Validator.check_schema(schema)
            self.assertIn(f'"#/components/schemas/{name}"', text, f"{name} is used by nothing")
        operations = [o for path in self.document["paths"].values() for o in path.values()]
        self.assertEqual(len({o["operationId"] for o in operations}), len(operations))

    def test_it_has_the_endpoints_of_the_page(self):
        page = (ROOT / "docs/api.md").read_text()
        shown = set()
        for heading in re.findall(r"^## ((?:GET|POST) .*)$", page, re.M):
            method = ""
            for word in re.findall(r"GET|POST|/[^\s,?]+", heading):
                if not word.startswith("/"):
                    method = word.lower()
                    continue
                choices = re.search(r"\{(\w+(?:\|\w+)+)\}$", word)
                for one in choices.group(1).split("|") if choices else [None]:
                    shown.add((method, word if one is None else word[:choices.start()] + one))
        listed = {(method, path) for path, methods in self.document["paths"].items() for method in methods}
        self.assertEqual(listed - {("get", "/metrics")}, shown)

    def test_the_examples_of_the_page_fit(self):
        page = (ROOT / "docs/api.md").read_text()
        found = 0
        for section in re.split(r"^## ", page, flags=re.M)[1:]:
            heading = re.sub(r"\{(drain)\|.*\}", r"\1", section.partition("\n")[0])
            operations = [o for path in re.findall(r"/[^\s,?]+", heading) for o in self.document["paths"].get(path, {}).values()]
            contents = [one.get("content", {}).get("application/json", {}) for o in operations
                        for one in [o.get("requestBody", {}), *o["responses"].values()]]
            names = re.findall(r"schemas/(\w+)", json.dumps(contents))
            for example in re.findall(r"```json\n(.*?)```", section, re.S):
                value = json.loads(example)
                whole = {"components": {"schemas": copy.deepcopy(self.schemas)}, "anyOf": [
                    {"$ref": f"#/components/schemas/{name}"} for name in [*names, "Error"]]}
                if set(value) == {"choices"}:
                    whole["components"]["schemas"]["Explanation"]["required"] = []
                found += 1
                errors = list(jsonschema.Draft202012Validator(whole).iter_errors(value))
                self.assertEqual([e.message for error in errors for e in error.context or [error]][:3], [], f"{heading}: {example}")
        self.assertGreater(found, 12)

    def test_answers_and_output_fit(self):
        self.said = set()
        self.start()
        self.wait_settled()
        self.wait(lambda: request(self.socket(), "GET", "/v1/configs/1")[0] == 200, "the configuration is kept")
        for target in ("/v1/status", "/v1/drops", "/v1/events", "/v1/history", "/v1/configs", "/v1/schema.json", "/v1/openapi.json",
                       "/v1/config/effective", "/metrics"):
            self.ask(target)
        self.ask("/v1/ready", expect=503)
        self.ask("/v1/configs/1", path="/v1/configs/{version}")
        self.ask("/v1/configs/9", path="/v1/configs/{version}", expect=404)
        self.ask("/v1/backends/portals/portal-1", path="/v1/backends/{pool}/{backend}")
        for verb in ("drain", "hold", "resume", "weight"):
            self.ask(f"/v1/backends/portals/portal-1/{verb}", "POST", path=f"/v1/backends/{{pool}}/{{backend}}/{verb}")
        self.ask("/v1/what-if", "POST", b'{"remove": ["portal-1"]}')
        self.ask("/v1/plan", "POST", Path(self.config).read_bytes())
        self.ask("/v1/plan", "POST", b"version: 2", expect=422)
        self.ask("/v1/reload", "POST", b'{"max_broken": 0}')
        self.ask("/v1/rollback", "POST", b'{"version": 1}')
        self.ask("/v1/explain?client=198.18.0.9&service=web", expect=503)
        self.ask("/v1/flows", expect=503)
        self.ask("/v1/flows?backend=nobody", expect=400)
        self.ask("/v1/capture", expect=503)
        self.ask("/v1/dataplane/upgrade", "POST", expect=503)

        self.portico("status", statuses=(2,))
        self.portico("drain", "portal-1", "--wait", "--reason", "x")
        self.portico("hold", "portal-1")
        self.portico("resume", "portal-1")
        self.portico("weight", "portal-1", "50")
        for command in ("drops", "events", "history", "reload", "top", "version", "topology", "config-schema"):
            self.portico(command)
        self.portico("--help")
        self.portico("plan", self.config)
        self.portico("what-if", "--weight", "portal-2=1")
        self.portico("check-config", self.config)
        self.portico("config", "--effective")
        self.portico("diff", "1")
        self.portico("rollback", "1")
        self.assertIn("findings", self.portico("doctor", statuses=(0, 1, 2)))
        self.portico("support-bundle", "-w", "bundle.tar.gz")
        self.portico("ready", statuses=(2,))
        self.portico("explain", "198.18.0.9", "web", statuses=(4,))
        self.portico("flows", "--count", statuses=(4,))
        self.portico("capture", "web", "-w", "x.pcapng", statuses=(4,))
        self.portico("upgrade-dataplane", statuses=(4,))
        Path(self.config).write_text("version: 2\n")
        self.portico("check-config", self.config, statuses=(4,))
        self.portico("reload", statuses=(4,))
        self.stop()
        self.portico("status", statuses=(3,))
        self.portico("events", statuses=(3,))
        # Each command that there is.
        listed = subprocess.run([PORTICO, "--help"], capture_output=True, text=True, check=True).stdout.partition("Subcommands:")[2]
        commands = set(re.findall(r"^  ([a-z-]+) ", listed, re.M))
        self.assertGreater(len(commands), 20)
        self.assertEqual(self.said, commands | {"--help"})
        self.assertEqual(set(self.document["x-portico-commands"]), self.said)


if __name__ == "__main__":
    PORTICO = os.path.abspath(sys.argv.pop(2))
    main()
