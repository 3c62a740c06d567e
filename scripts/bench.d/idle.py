# SPDX-License-Identifier: Apache-2.0
"""`idle: adaptive` beside `idle: poll` in the lab: what of a core is used when nothing is to be done, how long requests take
at a tenth of the most that polling gets through, and what gets through at most."""
import json
import socket
import time

from common import Failed, Row, alternately, say
from lab import steady, wrk
from peers import Lab, portico
from pmd import time_on_cpu

MODES = ("adaptive", "poll")
LOAD = 0.1  # of the most


def pid_of(lab):
    """Of the dataplane, as DPDK's telemetry socket greets with it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(lab.state / "run" / "telemetry"))
        return json.loads(client.recv(1 << 16))["pid"]


def core_share(lab, seconds):
    """Percent of a core that the worker runs while only health checks pass."""
    pid = pid_of(lab)
    before, began = time_on_cpu(pid, "portico-w0"), time.monotonic()
    time.sleep(seconds)
    return 100 * (time_on_cpu(pid, "portico-w0") - before) / (time.monotonic() - began)


def visit(lab, mode, seconds, most):
    """`most`: requests per second that polling gets through; None: find that out, and no more."""
    with portico(lab, f"idle: {mode}"):
        requests, passed, _ = wrk(lab, "/small.txt", seconds)
        sample = {"most": requests / passed}
        if most is None:
            return sample
        time.sleep(1)  # connections end
        sample["share"] = core_share(lab, seconds)
        seen = steady(lab, LOAD * most, seconds, False)
        sample |= {"p50": seen["p50_us"], "p99": seen["p99_us"]}
    say(f"idle {mode}: " + ", ".join(f"{key} {value:.4g}" for key, value in sample.items()))
    return sample


def idle_case(settings):
    samples = {mode: [] for mode in MODES}
    with Lab() as lab:
        most = visit(lab, "poll", 1, None)["most"]
        for mode in alternately(settings.pairs, list(MODES)):
            samples[mode].append(visit(lab, mode, settings.seconds, most))
    if any(sample["share"] < 50 for sample in samples["poll"]):
        raise Failed("a polling worker does not get half of its core: this machine is too busy")
    load = f"{LOAD:.0%} of the most, keep-alive"
    rows = [("idle/core-share", {"load": "health checks alone"}, "% of a core", "share"),
            ("idle/requests", {"load": "wrk -c64, keep-alive"}, "1/s", "most"),
            ("idle/p50", {"load": load}, "µs", "p50"), ("idle/p99", {"load": load}, "µs", "p99")]
    made = [Row(name, {"mode": "nat", "Portico is": "idle: adaptive"} | parameters, unit,
                [sample[key] for sample in samples["adaptive"]], "idle: poll", [sample[key] for sample in samples["poll"]])
            for name, parameters, unit, key in rows]
    added = [a["p99"] - p["p99"] for a, p in zip(samples["adaptive"], samples["poll"])]
    return [*made, Row("idle/p99-added", {"mode": "nat", "load": load}, "µs", added)]
