# SPDX-License-Identifier: Apache-2.0
"""What all measurements share: running programs and ending them, CPU time, statistics, rows of results."""
import json
import os
import signal
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("PORTICO_BUILD", ROOT / "build")).resolve()
DATAPLANE = BUILD / "dataplane" / "portico-dataplane"
CONTROL = BUILD / "control" / "portico-control"
CLI = BUILD / "control" / "cli" / "portico"
PUBLISHER = BUILD / "tests" / "publish_table"
LOAD_CLIENT = BUILD / "bench" / "bench-load-client"

# One core for the balancer, the other for everything around it.
OTHERS_CPU, BALANCER_CPU = 0, 1


class Failed(Exception):
    """A measurement that cannot be trusted or made; the text says why."""


@dataclass
class Settings:
    """How much to measure. `pairs`: runs of each candidate, in turn; `seconds`: of one run."""
    quick: bool
    pairs: int
    seconds: float


@dataclass
class Row:
    """One line of a table. Samples of candidate and peer at one place were taken one after the other."""
    name: str
    parameters: dict
    unit: str
    samples: list
    peer: str = ""
    peer_samples: list = field(default_factory=list)

    def runs(self):
        return len(self.samples)

    def ratios(self):
        return [a / b for a, b in zip(self.samples, self.peer_samples) if b]

    def as_json(self):
        ratios = self.ratios()
        out = {"name": self.name, "parameters": self.parameters, "unit": self.unit,
               "median": statistics.median(self.samples), "min": min(self.samples), "max": max(self.samples),
               "peer": self.peer or None, "ratio": statistics.median(ratios) if ratios else None}
        if ratios:
            out |= {"ratio_min": min(ratios), "ratio_max": max(ratios),
                    "peer_median": statistics.median(self.peer_samples)}
        return out


def say(text):
    print(f"bench: {text}", flush=True)


def run(*command, timeout=120, check=True):
    """Standard output of a command; Failed with what it said if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


class Program:
    """A program in the background, ended by its own process id when the block is left, however it is left."""

    def __init__(self, *command, log, stdin=None, stop_signal=signal.SIGTERM, patience=10):
        self.command = [str(word) for word in command]
        self.log = Path(log)
        self.stdin = stdin
        self.stop_signal = stop_signal
        self.patience = patience  # seconds to end by itself
        self.process = None

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdin=self.stdin or subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, text=True, start_new_session=True)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def output(self):
        return self.log.read_text(errors="replace")

    def must_run(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.command[0]} ended: {self.output().strip()[-600:]}")


def wait_for(what, condition, seconds=20):
    """The first true value of condition(); Failed after that many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


def idle_seconds(cpu):
    """Seconds that a CPU has been idle. Busy time is what is left: ticks that count as busy miss most soft interrupts."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{cpu}":
            return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")
    raise Failed(f"no CPU {cpu} here: the measurements need two")


def softirq_seconds(cpu):
    """Seconds in interrupts, as the tick samples them: fit for a CPU that is never idle."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{cpu}":
            return (int(words[6]) + int(words[7])) / os.sysconf("SC_CLK_TCK")
    raise Failed(f"no CPU {cpu} here")


class CpuMeter:
    """Busy time of both cores from construction to stop()."""

    def __init__(self):
        self.began = time.monotonic()
        self.idle = {cpu: idle_seconds(cpu) for cpu in (OTHERS_CPU, BALANCER_CPU)}
        self.interrupts = softirq_seconds(BALANCER_CPU)

    def stop(self):
        """Seconds that passed, busy seconds of the balancer's core and of the other, interrupts on the balancer's."""
        passed = time.monotonic() - self.began
        busy = {cpu: max(0.0, passed - (idle_seconds(cpu) - idle)) for cpu, idle in self.idle.items()}
        return passed, busy[BALANCER_CPU], busy[OTHERS_CPU], softirq_seconds(BALANCER_CPU) - self.interrupts


def telemetry(path, command):
    """The answer of a DPDK program's telemetry socket to a command such as "/portico/status"."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.recv(1 << 16)
        client.send(command.encode())
        return json.loads(client.recv(1 << 17))[command.split(",")[0]]


def alternately(pairs, candidates):
    """Which candidate runs when: each once per round, the order turned round every other time, so that what drifts on
    the machine meets all alike."""
    for index in range(pairs):
        yield from candidates if index % 2 == 0 else reversed(candidates)
