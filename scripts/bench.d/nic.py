# SPDX-License-Identifier: Apache-2.0
"""Two ports of real NICs that a cable joins: one is the generator's, on the other are testpmd and Portico in turn, which send
each frame back. By RFC 2544's frame sizes: what comes back of all that can be sent, the highest rate without loss, and the
latency at that."""
import json
import os
import re
from contextlib import ExitStack

from common import BUILD, OTHERS_CPU, Failed, Row, alternately, run, say, telemetry
from pmd import Portico, Testpmd, table, workspace

NIC_LOAD = BUILD / "bench" / "bench-nic-load"
SIZES = (64, 128, 256, 512, 1024, 1280, 1518)
PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# The generator has a core of its own where there is one.
GENERATOR_CPU = 2 if (os.cpu_count() or 1) > 2 else OTHERS_CPU


def check_address(text):
    if not PCI.fullmatch(text):
        raise Failed(f"'{text}' is no PCI address such as 0000:03:00.0")
    return text


def mac_of(socket_path):
    """The MAC address of a DPDK program's first port."""
    return telemetry(socket_path, "/ethdev/info,0")["mac_addr"]


class Candidate:
    """Portico or testpmd on a port; in a block gives the MAC address that frames are to have."""

    def __init__(self, name, directory, port):
        self.name, self.directory, self.port = name, directory, port
        self.stack = ExitStack()

    def __enter__(self):
        try:
            if self.name == "portico":
                program = self.stack.enter_context(Portico(self.directory, table(f"port {self.port}", 0)))
                return mac_of(program.run_dir / "telemetry")
            program = self.stack.enter_context(Testpmd(self.directory, "testpmd", [], self.name, pci=self.port))
            return mac_of(program.runtime / "dpdk_telemetry.v2")
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(self, *error):
        self.stack.__exit__(*error)
        if self.name == "portico":  # the tap outlives the dataplane on purpose
            run("ip", "link", "delete", "tap" + self.port.removeprefix("0000:").replace(":", "-").replace(".", "-"), check=False)


def load(generator, mac, size, settings):
    out = run(NIC_LOAD, "--port", generator, "--to", mac, "--size", size, "--seconds", settings.seconds, "--cpu", GENERATOR_CPU,
              "--steps", 3 if settings.quick else 7, timeout=120 + 20 * settings.seconds)
    return json.loads(out)


def nic_case(ports):
    """The measurement on (generator's port, candidates' port)."""
    generator, under_test = (check_address(port) for port in ports)

    def measure(settings):
        samples = {(name, size): [] for name in ("portico", "macswap") for size in SIZES}
        with workspace() as directory:
            for name in alternately(settings.pairs, ["portico", "macswap"]):
                with Candidate(name, directory, under_test) as mac:
                    for size in SIZES:
                        seen = load(generator, mac, size, settings)
                        samples[name, size].append(seen)
                        say(f"nic {name} {size}: {seen['back_mpps']:.3f} Mpps back of {seen['offered_mpps']:.3f}, "
                            f"{seen['lossless_mpps']:.3f} without loss, p99 {seen['p99_us']:.1f} µs")
        return rows_of(samples)
    return measure


def rows_of(samples):
    rows = []
    for measure, unit, key, factor in (("back", "Mpps", "back_mpps", 1), ("loss", "%", "loss", 100),
                                       ("without-loss", "Mpps", "lossless_mpps", 1), ("p50", "µs", "p50_us", 1),
                                       ("p99", "µs", "p99_us", 1)):
        for size in SIZES:
            of = {name: [factor * each[key] for each in samples[name, size]] for name in ("portico", "macswap")}
            rows.append(Row(f"nic/{measure}", {"mode": "dsr-l2", "frame": size}, unit, of["portico"], "testpmd macswap", of["macswap"]))
    return rows
