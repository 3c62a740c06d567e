# SPDX-License-Identifier: Apache-2.0
"""Portico beside HAProxy (TCP mode), nginx (stream) and nftables (DNAT and SNAT) in the lab: client and servers on one
core, the balancer on the other."""
import json
import re
import subprocess

from common import LOAD_CLIENT, OTHERS_CPU, CpuMeter, Failed, Row, alternately, say
from peers import CANDIDATES, VIP, Lab

CONNECTIONS = 64  # of wrk and of the steady load
BULK_CONNECTIONS = 4
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}

# What one visit to a candidate measures. Key of the sample: name of the row, unit, the load.
CLOSE, KEEP = "wrk -c64, a connection per request", "wrk -c64, keep-alive"
OWN, SLOWEST = "half of its own most", "half of the slowest's most"
METRICS = {
    "connections": ("connections", "1/s", CLOSE),
    "requests": ("requests", "1/s", KEEP),
    "bulk": ("bulk", "Gbit/s", "wrk -c4, 8 MiB bodies"),
    "connections_busy": ("connections/balancer-core-busy", "µs", CLOSE),
    "connections_work": ("connections/balancer-at-work", "µs", CLOSE),
    "connections_both": ("connections/both-cores-busy", "µs", CLOSE),
    "requests_busy": ("requests/balancer-core-busy", "µs", KEEP),
    "requests_work": ("requests/balancer-at-work", "µs", KEEP),
    "requests_both": ("requests/both-cores-busy", "µs", KEEP),
    "half_requests_p50": ("requests/p50", "µs", OWN),
    "half_requests_p99": ("requests/p99", "µs", OWN),
    "common_requests_p50": ("requests/p50", "µs", SLOWEST),
    "common_requests_p99": ("requests/p99", "µs", SLOWEST),
    "half_connections_p50": ("connections/p50", "µs", OWN),
    "half_connections_p99": ("connections/p99", "µs", OWN),
}


def wrk(lab, path, seconds, connections=CONNECTIONS, close=False):
    """(requests, seconds, bytes) of a run without any failure."""
    out = lab.on("client", "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "5s",
                 *(["-H", "Connection: close"] if close else []), f"http://{VIP}{path}", timeout=seconds + 30)
    if "Socket errors" in out or "Non-2xx" in out:
        raise Failed(f"requests failed: {out.strip()[-300:]}")
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m), ([\d.]+)([KMG]?B) read", out)
    if not found or int(found[1]) == 0:
        raise Failed(f"wrk measured nothing: {out.strip()[-300:]}")
    passed = float(found[2]) * {"ms": 0.001, "s": 1, "m": 60}[found[3]]
    return int(found[1]), passed, float(found[4]) * UNITS[found[5]]


def grown(before, after):
    return {key: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}


def busy_per(count_of, extra):
    """Runs a load and divides what it cost: rate, and microseconds per piece of the balancer's core, of the balancer's own
    work and of both cores."""
    before, meter = extra(), CpuMeter()
    count, passed, _ = count_of()
    meter_s, busy, others, interrupts = meter.stop()
    after = extra()
    work = busy
    if before:  # a polling worker is not idle when it has nothing to do: its turns with packets count, and interrupts
        if grown(before["drops"], after["drops"]):
            say(f"lab portico: dropped {grown(before['drops'], after['drops'])}")
        turns = (after["busy_cycles"] - before["busy_cycles"]) / (after["total_cycles"] - before["total_cycles"])
        work = min(busy, turns * meter_s + interrupts)
    return count / passed, [1e6 * value / count for value in (busy, work, busy + others)]


def steady(lab, rate, seconds, close):
    """Latency at a steady rate, all requests answered."""
    words = lab.words("client", LOAD_CLIENT, VIP, 80, "/small.txt", "--rate", f"{rate:.0f}", "--seconds", seconds,
                      "--connections", CONNECTIONS, *(["--close"] if close else []), cpu=OTHERS_CPU)
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode != 0:
        raise Failed(f"at {rate:.0f}/s requests failed: {(done.stdout + done.stderr).strip()[-300:]}")
    return json.loads(done.stdout)


def throughput(lab, extra, seconds):
    sample = {}
    for kind, close in (("connections", True), ("requests", False)):
        rate, (busy, work, both) = busy_per(lambda close=close: wrk(lab, "/small.txt", seconds, close=close), extra)
        sample |= {kind: rate, f"{kind}_busy": busy, f"{kind}_work": work, f"{kind}_both": both}
    before = extra()
    _, passed, size = wrk(lab, "/bulk.bin", seconds, BULK_CONNECTIONS)
    sample["bulk"] = 8 * size / passed / 1e9
    if before and grown(before["drops"], extra()["drops"]):
        say(f"lab portico: dropped {grown(before['drops'], extra()['drops'])} of the bulk")
    return sample


def latency(lab, seconds, most, slowest):
    sample = {}
    for key, rate, close in (("half_requests", most["requests"] / 2, False), ("common_requests", slowest["requests"] / 2, False),
                             ("half_connections", most["connections"] / 2, True)):
        seen = steady(lab, rate, seconds, close)
        sample |= {f"{key}_p50": seen["p50_us"], f"{key}_p99": seen["p99_us"]}
    return sample


def visit(lab, name, seconds, most=None):
    """One candidate, from its start to its end. `most`: what each could take in the first round; None: find that out."""
    lab.must_be_unguarded()
    with CANDIDATES[name](lab) as extra:
        wrk(lab, "/small.txt", 1)  # warm
        sample = throughput(lab, extra, seconds)
        if most:
            slowest = {kind: min(each[kind] for each in most.values()) for kind in ("connections", "requests")}
            sample |= latency(lab, seconds, most[name], slowest)
    lab.must_be_unguarded()
    say(f"lab {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in sample.items()))
    return sample


def lab_case(settings):
    samples = {name: [] for name in CANDIDATES}
    with Lab() as lab:
        say("lab: what each can take")
        most = {name: visit(lab, name, 1) for name in CANDIDATES}
        rounds = settings.pairs
        if settings.quick:  # that round's throughput counts as one
            samples = {name: [sample] for name, sample in most.items()}
            rounds -= 1
        for name in alternately(max(1, rounds), list(CANDIDATES)):
            samples[name].append(visit(lab, name, settings.seconds, most))
    return [Row(f"lab/{name}", {"mode": "nat", "load": load}, unit, of_key(samples["portico"], key), peer,
                of_key(samples[peer], key))
            for key, (name, unit, load) in METRICS.items() for peer in CANDIDATES if peer != "portico"]


def of_key(samples, key):
    return [sample[key] for sample in samples if key in sample]
