#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `portico --json` prints with a dataplane is what the OpenAPI document says: json_fits.py RUN_DIR FOLDER CLIENT SERVICE."""
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))
from closed_schema import misfits  # noqa: E402

RUN_DIR, FOLDER, CLIENT, SERVICE = sys.argv[1:]
COMMANDS = [["status"], ["drops"], ["top"], ["topology"], ["ready"], ["flows"], ["explain", CLIENT, SERVICE], ["explain", CLIENT + ":40000", SERVICE],
            ["what-if", "--remove", "portal-1"], ["capture", SERVICE, "-w", FOLDER + "/fits.pcapng", "--time", "1s"], ["upgrade-dataplane"],
            ["support-bundle", "-w", FOLDER + "/fits.tar.gz"]]


def said(*command):
    return json.loads(subprocess.run(["portico", "--run-dir", RUN_DIR, "--json", *command], capture_output=True, text=True).stdout)


document = said("config-schema", "--api")
bad = 0
for command in COMMANDS:
    for where, problem in misfits(document, document["x-portico-commands"][command[0]], said(*command)):
        bad += 1
        print(" ".join(command), where, problem)
sys.exit(bad != 0)
