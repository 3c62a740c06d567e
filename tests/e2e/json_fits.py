#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `portico --json` prints with a dataplane is what the OpenAPI document says: json_fits.py RUN_DIR FOLDER CLIENT SERVICE."""
import json
import subprocess
import sys

import jsonschema

RUN_DIR, FOLDER, CLIENT, SERVICE = sys.argv[1:]
COMMANDS = [["status"], ["drops"], ["top"], ["topology"], ["ready"], ["flows"], ["explain", CLIENT, SERVICE], ["explain", CLIENT + ":40000", SERVICE],
            ["what-if", "--remove", "portal-1"], ["capture", SERVICE, "-w", FOLDER + "/fits.pcapng", "--time", "1s"], ["upgrade-dataplane"],
            ["support-bundle", "-w", FOLDER + "/fits.tar.gz"]]


def closed(schema):
    """The same, without room for members that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: closed(value) for key, value in schema.items()}
    if copied.get("type") == "object" and isinstance(copied.get("properties"), dict):
        copied.setdefault("additionalProperties", False)
    return copied


def said(*command):
    return json.loads(subprocess.run(["portico", "--run-dir", RUN_DIR, "--json", *command], capture_output=True, text=True).stdout)


document = said("config-schema", "--api")
schemas = closed(document["components"]["schemas"])
bad = 0
for command in COMMANDS:
    value = said(*command)
    whole = {**closed(document["x-portico-commands"][command[0]]), "components": {"schemas": schemas}}
    for error in jsonschema.Draft202012Validator(whole).iter_errors(value):
        bad += 1
        print(" ".join(command), "/".join(map(str, error.absolute_path)), (error.context[0] if error.context else error).message[:600])
sys.exit(bad != 0)
