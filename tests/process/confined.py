# SPDX-License-Identifier: Apache-2.0
"""Programs run in the tests with the capabilities that their systemd units leave them, so that these suffice."""

import re
from pathlib import Path

UNITS = Path(__file__).resolve().parents[2] / "systemd"


def confined(program):
    """The words before a command that runs `program` as its unit does."""
    unit = (UNITS / f"{program}.service.in").read_text()
    names = re.search(r"^CapabilityBoundingSet=(.+)$", unit, re.M).group(1).lower().replace("cap_", "").split()
    return ["setpriv", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in names)]), "--inh-caps=-all",
            "--no-new-privs", "--"]
