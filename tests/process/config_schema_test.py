#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The JSON schema of the configuration says what the parser and the reference say.

usage: config_schema_test.py PORTICO
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import jsonschema
import yaml

PORTICO = ""
ROOT = Path(__file__).resolve().parents[2]
FULL = """
version: 1
dataplane: {ports: [{name: eth0}]}
nat: {addresses: 198.18.0.20}
tunnel: {sources: 198.51.100.0/26}
services: {s: {listen: "198.18.0.10:80", pool: p, limits: {new_per_second: 5}}}
pools: {p: {backends: {b: {address: 198.18.1.1, zone: z}, c: {address: 198.18.1.2, zone: z, backup: true}}, check: {rise: 2}, checks: {c: {port: 80}, d: {port: 443, kind: https, sni: x}}}}
"""
# Where each map of the schema stands in it.
MAPS = {"": [], "dataplane": ["dataplane"], "port_map": ["dataplane", "ports", 0], "nat": ["nat"], "tunnel": ["tunnel"],
        "service": ["services", "s"], "limits": ["services", "s", "limits"], "pool": ["pools", "p"],
        "backend_map": ["pools", "p", "backends", "b"], "check_timing": ["pools", "p", "check"],
        "check_map": ["pools", "p", "checks", "c"]}
# Its tables in docs/configuration.md, in their order.
TABLES = ["", "dataplane", "port_map", "nat", "tunnel", "service", "limits", "pool", "backend_map", "check_map"]


class Yaml12(yaml.SafeLoader):
    """As editors read it: `on` is a word."""


Yaml12.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))


def parse(text):
    return yaml.load(text, Yaml12)


def blocks(page):
    return [text for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S) if text.startswith("version:")]


class SchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schema = json.loads(subprocess.run([PORTICO, "config-schema"], capture_output=True, check=True).stdout)
        jsonschema.Draft202012Validator.check_schema(cls.schema)
        cls.validator = jsonschema.Draft202012Validator(cls.schema)
        cls.folder = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def portico(self, *arguments, config):
        path = Path(self.folder.name) / "portico.yaml"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        return subprocess.run([PORTICO, *arguments, path], capture_output=True, text=True, check=False).stdout

    def messages(self, config):
        said = json.loads(self.portico("check-config", "--elsewhere", "--json", config=config))
        return said["valid"], [m["text"] for m in said["messages"]]

    def properties(self, name):
        return (self.schema["$defs"][name] if name else self.schema)["properties"]

    def with_value(self, name, key, value):
        config = parse(FULL)
        place = config
        for step in MAPS[name]:
            place = place[step]
        place[key] = value
        return config

    def test_each_map_has_the_parsers_keys_and_no_others(self):
        self.assertTrue(self.messages(FULL)[0])
        maps = {name for name, one in self.schema["$defs"].items() if one.get("type") == "object"} | {""}
        self.assertEqual(set(MAPS), maps)
        for name in MAPS:
            unknown = [m for m in self.messages(self.with_value(name, "zzzzzzzz", 1))[1] if "zzzzzzzz" in m]
            self.assertEqual(len(unknown), 1, unknown)
            keys = re.findall("`([a-z0-9_]+)`|([a-z0-9_]+)(?:, | or |$)", unknown[0].partition("the keys here are ")[2])
            self.assertEqual({a or b for a, b in keys}, set(self.properties(name)), name)

    def test_words_and_ranges_are_the_parsers(self):
        compared = 0
        for name in MAPS:
            for key, rule in self.properties(name).items():
                kinds = [rule, *rule.get("anyOf", [])]
                words = next((k["enum"] for k in kinds if "enum" in k), None)
                numbers = next((k for k in kinds if "minimum" in k), None)
                expected = (f"a duration from {rule['x-range']}," if "x-range" in rule
                            else f"a whole number from {numbers['minimum']} to {numbers['maximum']}" if numbers else None)
                if words:
                    words = [json.dumps(w) if isinstance(w, bool) else w for w in words]
                    expected = "write " + (", ".join(words[:-1]) + " or " if len(words) > 1 else "") + words[-1]
                if not expected:
                    continue
                compared += 1
                said = self.messages(self.with_value(name, key, "zzzz"))[1]
                self.assertTrue(any(f"`{key}` is `zzzz`; " in m and expected in m for m in said), f"{name} {key}: {expected}: {said}")
                for bad in ["zzzz"] + ([numbers["minimum"] - 1, numbers["maximum"] + 1] if numbers else []):
                    self.assertFalse(self.validator.is_valid(self.with_value(name, key, bad)), f"{name} {key} {bad}")
        self.assertGreater(compared, 40)

    def test_defaults_are_the_effective_configurations(self):
        effective = parse(self.portico("config", "--effective", config=FULL))
        compared = 0
        for name, path in MAPS.items():
            if name == "check_timing":
                continue
            place = effective
            for step in path:
                place = place[step]
            for key, rule in self.properties(name).items():
                holder = effective["pools"]["p"]["checks"]["d"] if name == "check_map" and key not in place else place
                if "default" in rule and not (name == "check_map" and key in ("method", "path", "status")):
                    compared += 1
                    self.assertEqual(holder[key], 5 if key == "new_per_second" else rule["default"], f"{name} {key}")
        self.assertGreater(compared, 40)

    def test_the_references_tables_have_its_keys_and_defaults(self):
        page = (ROOT / "docs/configuration.md").read_text()
        tables = re.findall(r"\| key \| default \| meaning \|\n\| --- \| --- \| --- \|\n((?:\|.*\n)+)", page)
        self.assertEqual(len(tables), len(TABLES))
        for name, table in zip(TABLES, tables):
            shown = {}
            for keys, default in re.findall(r"^\| (.*?) \| (.*?) \|", table, re.M):
                keys, values = re.findall("`(.*?)`", keys), re.findall("`.*?`", default)
                shown |= dict(zip(keys, values if len(values) == len(keys) else [default] * len(keys)))
            properties = self.properties(name)
            self.assertEqual(set(shown), set(properties), name)
            for key, rule in properties.items():
                if "default" in rule:
                    value = rule["default"]
                    text = json.dumps(value) if isinstance(value, bool) else str(value) or '""'
                    self.assertEqual(shown[key].strip("`"), text, f"{name} {key}")
                required = key in (self.schema["$defs"][name] if name else self.schema).get("required", [])
                self.assertEqual(shown[key] == "required", required, f"{name} {key}")

    def test_all_configurations_of_the_documents_are_good(self):
        pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        texts = [text for page in pages for text in blocks(page)] + [(ROOT / "examples/portico.yaml").read_text(), FULL]
        self.assertGreater(len(texts), 6)
        for text in texts:
            self.validator.validate(parse(text))
        # The lines that the example has in comments, too.
        example = (ROOT / "examples/portico.yaml").read_text()
        for line in re.findall(r"^#   (portal-\S+: \{.*\})$", example, re.M):
            self.validator.validate(parse(FULL) | {"services": parse(line)})

    def test_what_the_parser_refuses_is_refused(self):
        for name, key, value in [("", "version", 2), ("", "services", {}), ("", "hash_key", "abc"), ("", "instance", "-x"),
                                 ("dataplane", "ports", []), ("nat", "addresses", "localhost"), ("nat", "ports", "x"),
                                 ("service", "listen", "198.18.0.10"), ("service", "allow", "198.18.0.0/"), ("service", "pool", None),
                                 ("pool", "backends", {"b": "example.com"}), ("pool", "backends", {"a b": "198.18.1.1"}),
                                 ("pool", "checks", {"c": 0}), ("pool", "min_healthy", "101%"), ("check_map", "path", "x"),
                                 ("backend_map", "addresses", "198.18.1.1"), ("pool", "slow_start", "5 s"), ("pool", "slow_start", "1s1m")]:
            config = self.with_value(name, key, value)
            self.assertFalse(self.validator.is_valid(config), f"{name} {key} {value}")
            self.assertFalse(self.messages(config)[0], f"{name} {key} {value}")
        for value in ("0", "1s", "2m30s", "10ms"):
            config = self.with_value("pool", "slow_start", value)
            self.validator.validate(config)
            self.assertTrue(self.messages(config)[0], value)


if __name__ == "__main__":
    PORTICO = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
