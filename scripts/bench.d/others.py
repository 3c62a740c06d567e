# SPDX-License-Identifier: Apache-2.0
"""Measurements that programs of their own make: the packet path in memory, and how long a failure is felt."""
import json
import tempfile
from pathlib import Path

from common import BALANCER_CPU, BUILD, ROOT, Failed, Program, Row, run, say

PACKET_PATH = BUILD / "bench" / "bench-packet-path"


class Measured(Row):
    """A row whose program has done the statistics."""

    def runs(self):
        return self.parameters["processes"]

    def as_json(self):
        return super().as_json() | self.figures

    @classmethod
    def of(cls, row):
        self = cls(row["name"], row["parameters"], row["unit"], [row["min"], row["median"], row["max"]])
        self.figures = {key: row[key] for key in ("median", "min", "max")}
        return self


def packet_path_case(settings):
    with tempfile.TemporaryDirectory() as directory:
        rows = Path(directory) / "rows.json"
        words = [PACKET_PATH, "--json", rows, "--cpu", BALANCER_CPU]
        if settings.quick:
            words += ["--quick", "--only", "/v4/"]
        else:
            words += ["--processes", settings.pairs]
            words += ["--warm"] if settings.pairs < 5 else []  # a short run leaves the cold tables out
        for line in run(*words, timeout=3600).splitlines():
            say(line)
        if not rows.exists():
            raise Failed(f"{PACKET_PATH} wrote no rows: is it of these sources?")
        return [Measured.of(row) for row in json.loads(rows.read_text())]


# Google Benchmark's programs, and which of their benchmarks a quick run takes.
MICRO = {"parse": ".*", "flow-table": "V4.*flows:(1000|64000)/", "maglev": "slots:65537/", "publish-adopt": "_one_pool"}


def micro_case(settings):
    rows = {}
    for name, quick in MICRO.items():
        program = BUILD / "bench" / f"bench-{name}"
        words = [f"--benchmark_repetitions={settings.pairs}", "--benchmark_min_time=0.05", "--benchmark_format=json",
                 f"--benchmark_filter={quick if settings.quick else '.*'}"]
        say(f"{program.name}")
        output = run("taskset", "-c", BALANCER_CPU, program, *words, timeout=1800)
        for each in json.loads(output)["benchmarks"]:
            if each.get("error_occurred"):
                raise Failed(f"{each['name']}: {each['error_message']}")
            if each["run_type"] != "iteration":
                continue
            cycles = each.get("cycles")
            unit = "cycles" if cycles is not None else each["time_unit"]
            key = f"{name}/{each['run_name'].removesuffix('/manual_time')}"
            row = rows.setdefault(key, Row(key, {}, unit, []))
            row.samples.append(cycles if cycles is not None else each["cpu_time"])
    return list(rows.values())


def failover_case(settings):
    trials = 2 if settings.quick else max(5 * settings.pairs, 25)
    with tempfile.TemporaryDirectory() as directory:
        # Told to stop, it removes its lab; killed, it would not.
        with Program(ROOT / "bench" / "failover", "--json", trials, log=Path(directory) / "log", patience=60) as program:
            status = program.process.wait(120 + 60 * trials)
        output = program.output()
    if status != 0:
        raise Failed(f"bench/failover: {output.strip()[-600:]}")
    rows = []
    seen = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    for server in ("apache", "mariadb"):
        of_server = [each for each in seen if each["server"] == server]
        if any(each["failed_before"] for each in of_server):
            raise Failed("requests failed before anything was killed")
        parameters = {"killed": server, "interval": "100 ms", "fast_interval": "20 ms", "fall": 2}
        rows.append(Row("failover/last-connection-to-it", parameters, "ms", [each["last_ms"] for each in of_server]))
        rows.append(Row("failover/failed-connections", parameters, "per kill", [each["failed"] for each in of_server]))
    return rows
