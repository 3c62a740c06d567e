# SPDX-License-Identifier: Apache-2.0
"""The whole process beside dpdk-testpmd, which does next to nothing with a packet: on in-memory ports (net_pcap with
infinite_rx) and round a veth pair with AF_XDP. One worker, on the balancer's core."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import frames
from common import (BALANCER_CPU, DATAPLANE, OTHERS_CPU, PUBLISHER, Failed, Program, Row, alternately, run, say, telemetry,
                    wait_for)

TESTPMD = shutil.which("dpdk-testpmd") or "dpdk-testpmd"
MBUFS = 49152  # the preloaded packets of both ports, and what is on its way
PREFIX = f"bench{os.getpid()}"
WARM_UP_S = 1.0
BURST = 64


@contextmanager
def workspace():
    directory = tempfile.mkdtemp(prefix=f"portico-bench-{os.getpid()}-", dir="/dev/shm")
    try:
        yield Path(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def table(ports, back):
    """Lines for publish_table: a dsr-l2 and a nat service with one backend, reached through port number `back`."""
    hop = f"{frames.PEER_MAC} {frames.OUR_MAC}"
    return f"""workers 1
worker-cpus {BALANCER_CPU}
idle poll
flows 65536
mbufs {MBUFS}
huge-pages on
{ports}
pool portals
backend portal-1 portals {frames.BACKEND} 1
service dsr portals dsr-l2
service nat portals nat
listen dsr {frames.DSR_VIP} 80
listen nat {frames.NAT_VIP} 80
next-hop 198.18.0.2 {hop} 0
next-hop {frames.BACKEND} {hop} {back}
route 0.0.0.0/0 0
nat {frames.NAT_ADDRESSES[0]} {frames.FIRST_NAT_PORT} {frames.LAST_NAT_PORT}
nat {frames.NAT_ADDRESSES[1]} {frames.FIRST_NAT_PORT} {frames.LAST_NAT_PORT}
"""


def time_on_cpu(pid, name):
    """Seconds that the process's thread with `name` in its name has run. A polling worker runs all the time; what other
    programs take from it on a busy machine is not the balancer's cost."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if name in (task / "comm").read_text():
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise Failed(f"process {pid} has no thread {name}")


class Portico:
    """portico-dataplane with a table that says `lines`; in a block. `enter`: words before each command."""

    def __init__(self, directory, lines, enter=()):
        self.run_dir = Path(directory) / "run"
        self.lines, self.enter = lines, list(enter)
        self.stack = ExitStack()
        self.dataplane = None

    def __enter__(self):
        try:
            publisher = self.stack.enter_context(Program(*self.enter, "taskset", "-c", OTHERS_CPU, PUBLISHER, self.run_dir,
                                                         log=self.run_dir.with_suffix(".publisher"), stdin=subprocess.PIPE))
            publisher.process.stdin.write(self.lines + "\npublish\n")
            publisher.process.stdin.flush()
            wait_for("the table", lambda: publisher.must_run() or "generation" in publisher.output())
            self.dataplane = self.stack.enter_context(Program(*self.enter, DATAPLANE, "--run-dir", self.run_dir,
                                                              log=self.run_dir.with_suffix(".log")))
            wait_for("the dataplane", self.is_running)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)
        # The flow tables outlive the dataplane, on huge pages.
        shutil.rmtree(os.path.realpath(self.run_dir / "flow-tables"), ignore_errors=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def is_running(self):
        self.dataplane.must_run()
        try:
            return telemetry(self.run_dir / "telemetry", "/portico/status")["state"] == "running"
        except (OSError, KeyError, TypeError, ValueError):  # it is still starting
            return False

    def counters(self):
        worker = telemetry(self.run_dir / "telemetry", "/portico/workers")["0"]
        status = telemetry(self.run_dir / "telemetry", "/portico/status")
        services = telemetry(self.run_dir / "telemetry", "/portico/services")
        return {"on_cpu": time_on_cpu(self.dataplane.process.pid, "portico-w0"), "rx": worker["rx_packets"], "tx": worker["tx_packets"],
                "forwarded": status["forwarded"], "drops": telemetry(self.run_dir / "telemetry", "/portico/drops"),
                "flows": worker["flows"], "in": sum(services[i]["packets_in"] for i in "01"),
                "out": sum(services[i]["packets_out"] for i in "01")}

    def rate(self, seconds, flows, both_ways=False):
        """Packets per second of the worker's time: received, treated in full and sent; Failed if any was not."""
        before = self.counters()
        time.sleep(seconds)
        after = self.counters()
        passed = after["on_cpu"] - before["on_cpu"]
        grown = {key: after[key] - before[key] for key in ("rx", "tx", "forwarded", "in", "out")}
        if after["flows"] < flows:
            raise Failed(f"{after['flows']} flows are open, not {flows}")
        for reason, count in after["drops"].items():
            if count != before["drops"].get(reason, 0):
                raise Failed(f"{count - before['drops'].get(reason, 0)} packets dropped: {reason}")
        if both_ways and not grown["in"] > 0 < grown["out"]:
            raise Failed(f"not both directions were forwarded: {grown}")
        if grown["forwarded"] < 0.98 * grown["rx"]:  # the counters are read one after the other
            raise Failed(f"not all packets were forwarded: {grown}")
        return grown["forwarded"] / passed


class Testpmd(Program):
    """dpdk-testpmd with `ports` (its --vdev values) or a NIC (`pci`), forwarding on `cpu`; its control thread stays off that
    core."""

    def __init__(self, directory, name, ports, forward, cpu=BALANCER_CPU, enter=(), pci=None):
        devices = [f"--allow={pci}"] if pci else ["--no-pci", "--iova-mode=va", *(f"--vdev={port}" for port in ports)]
        self.ports = range(1 if pci else len(ports))
        self.has_source = any("infinite_rx" in port for port in ports)
        self.runtime = Path("/var/run/dpdk") / f"{PREFIX}{name}"
        super().__init__(*enter, TESTPMD, f"--lcores=0@{OTHERS_CPU},1@{cpu}", "--in-memory",
                         f"--file-prefix={PREFIX}{name}", *devices, "--", f"--forward-mode={forward}", "--nb-cores=1",
                         f"--burst={BURST}", f"--total-num-mbufs={MBUFS}", "--no-lsc-interrupt", "--no-mlockall",
                         *(["--port-topology=chained"] if len(self.ports) == 1 else []),
                         # It ends at the end of its input.
                         stdin=subprocess.PIPE, log=Path(directory) / f"{name}.log", stop_signal=signal.SIGINT)

    def __enter__(self):
        super().__enter__()
        try:
            wait_for("testpmd", self.is_running, 30)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error):
        super().__exit__(*error)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def is_running(self):
        self.must_run()
        try:
            return self.counters()["rx"] > 0 or not self.has_source
        except (OSError, KeyError, TypeError, ValueError, Failed):  # it is still starting
            return False

    def counters(self, port=None):
        """Packets received and sent, of one port or all."""
        stats = [telemetry(self.runtime / "dpdk_telemetry.v2", f"/ethdev/stats,{index}")
                 for index in (self.ports if port is None else [port])]
        return {"at": time.monotonic(), "on_cpu": time_on_cpu(self.process.pid, "worker"),
                "rx": sum(each["ipackets"] for each in stats), "tx": sum(each["opackets"] for each in stats)}


def growth(counters, seconds):
    """How much each counter grows in so many seconds."""
    before = counters()
    time.sleep(seconds)
    after = counters()
    return {key: after[key] - before[key] for key in before}


def infinite(index, capture):
    return f"net_pcap{index},rx_pcap={capture},infinite_rx=1"


def port_line(vdev):
    name, arguments = vdev.split(",", 1)
    return f"port {name} {name},{arguments}"


def measure_pcap(directory, mode, candidate, seconds):
    captures = [f"client-{mode.split('-')[0]}.pcap", "reply.pcap" if mode == "nat" else "client-dsr.pcap"]
    ports = [infinite(index, directory / capture) for index, capture in enumerate(captures)]
    if candidate != "portico":
        with Testpmd(directory, "testpmd", ports, candidate) as testpmd:
            time.sleep(WARM_UP_S)
            grown = growth(testpmd.counters, seconds)
        return grown["tx"] / grown["on_cpu"]
    if mode == "nat":  # the port that opens the flows: read once
        ports.append(f"net_pcap2,rx_pcap={directory / 'handshake.pcap'}")
    lines = table("\n".join(port_line(port) for port in ports), 1)
    with Portico(directory, lines) as portico:
        time.sleep(WARM_UP_S)
        return portico.rate(seconds, frames.FLOWS, both_ways=mode == "nat")


def pcap_case(mode):
    def measure(settings):
        samples = {"portico": [], "5tswap": []} | ({} if settings.quick else {"macswap": []})
        with workspace() as directory:
            run("/usr/bin/python3", Path(__file__).parent / "frames.py", directory)
            for candidate in alternately(settings.pairs, list(samples)):
                rate = measure_pcap(directory, mode, candidate, settings.seconds)
                samples[candidate].append(rate / 1e6)
                say(f"pcap-{mode} {candidate}: {rate / 1e6:.2f} Mpps")
        ports = "from clients and from the backend" if mode == "nat" else "both from clients"
        parameters = {"mode": mode, "flows": frames.FLOWS, "frame": 64, "workers": 1, "ports": ports}
        return [Row(f"pcap/{mode}", parameters, "Mpps", samples["portico"], f"testpmd {peer}", samples[peer])
                for peer in samples if peer != "portico"]
    return measure


@contextmanager
def veth_pair():
    """Two namespaces with a wire between them: `inside` the one that is measured, `outside` the generator's."""
    inside, outside = f"{PREFIX}-in", f"{PREFIX}-out"
    try:
        for name in (inside, outside):
            run("ip", "netns", "add", name)
            run("ip", "netns", "exec", name, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
        run("ip", "-n", inside, "link", "add", "wire", "address", frames.OUR_MAC, "type", "veth",
            "peer", "name", "wire", "netns", outside, "address", frames.PEER_MAC)
        for name in (inside, outside):
            run("ip", "netns", "exec", name, "ethtool", "-K", "wire", "tx", "off", "rx", "off", "tso", "off", "gso", "off",
                "gro", "off")
            run("ip", "-n", name, "link", "set", "wire", "up")
        yield inside, outside
    finally:
        for name in (inside, outside):
            run("ip", "netns", "delete", name, check=False)


def measure_veth(directory, candidate, inside, outside, seconds):
    """Packets per second that come back to the generator's side of the wire, and that it has sent."""
    enter = ("ip", "netns", "exec", inside)
    source = [infinite(0, directory / "client-dsr.pcap"), "net_af_xdp1,iface=wire"]
    with ExitStack() as stack:
        if candidate == "portico":
            stack.enter_context(Portico(directory, table("port wire", 0), enter))
        else:
            stack.enter_context(Testpmd(directory, "testpmd", ["net_af_xdp0,iface=wire"], "macswap", enter=enter))
        generator = stack.enter_context(Testpmd(directory, "generator", source, "io", OTHERS_CPU,
                                                enter=("ip", "netns", "exec", outside)))
        time.sleep(WARM_UP_S)
        grown = growth(lambda: generator.counters(port=1), seconds)
    return grown["rx"] / grown["at"], grown["tx"] / grown["at"]


def veth_case(settings):
    samples = {"portico": [], "macswap": []}
    offered = []
    with workspace() as directory, veth_pair() as (inside, outside):
        run("/usr/bin/python3", Path(__file__).parent / "frames.py", directory)
        for candidate in alternately(settings.pairs, list(samples)):
            back, sent = measure_veth(directory, candidate, inside, outside, settings.seconds)
            if back <= 0:
                raise Failed(f"veth {candidate}: nothing comes back")
            samples[candidate].append(back / 1e6)
            offered.append(sent / 1e6)
            say(f"veth-dsr-l2 {candidate}: {back / 1e6:.3f} Mpps back of {sent / 1e6:.3f} Mpps sent")
    parameters = {"mode": "dsr-l2", "flows": frames.FLOWS, "frame": 64, "offered": f"{min(offered):.2f}–{max(offered):.2f} Mpps"}
    return [Row("veth/dsr-l2", parameters, "Mpps", samples["portico"], "testpmd macswap", samples["macswap"])]
