# SPDX-License-Identifier: Apache-2.0
"""The candidates of the lab runs: Portico, HAProxy, nginx and nftables on the lab's balancer, each with a configuration
that is written here, each gone without a trace when its block is left."""
import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common import BALANCER_CPU, CLI, CONTROL, DATAPLANE, OTHERS_CPU, ROOT, Failed, Program, run, telemetry, wait_for

VIP = "198.18.0.10"
BACK = "198.18.1.1"  # the balancer's own address toward the portals
NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"

HAPROXY = """global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen portals
  bind {vip}:80 backlog 4096
  balance roundrobin
{servers}
"""

NGINX = """daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/nginx-stream.pid;
error_log {directory}/nginx-stream.err;
load_module {module};
events {{ worker_connections 16000; }}
stream {{
  upstream portals {{
{servers}
  }}
  server {{
    listen {vip}:80 backlog=4096;
    proxy_pass portals;
  }}
}}
"""

NFTABLES = """table ip bench {{
  chain arriving {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr {vip} tcp dport 80 dnat to numgen inc mod {count} map {{ {servers} }}
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    ip daddr {{ {portals} }} tcp dport 80 snat to {back}
  }}
}}
"""


class Lab:
    """One lab of scripts/lab, up while its block lasts, with nginx as every portal's web server: it leaves more of the
    servers' core to the load than Apache does, so that the balancer is what is measured."""

    def __init__(self, portals=2):
        self.name = f"bench{os.getpid()}"
        self.portals = [f"portal-{k}" for k in range(1, portals + 1)]
        self.addresses = [f"198.18.1.{20 + k}" for k in range(1, portals + 1)]
        self.stack = ExitStack()
        self.state = None

    def __enter__(self):
        try:
            self.stack.callback(self.command, "down")
            self.command("up", "--portals", len(self.portals), timeout=300)
            self.state = Path(self.command("dir").strip())
            self.check_offloads()
            self.steer_interrupts()
            for portal in self.portals:
                self.start_server(portal)
        except BaseException:
            self.stack.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)

    def command(self, verb, *words, timeout=60):
        return run(ROOT / "scripts" / "lab", verb, "--name", self.name, *words, timeout=timeout)

    def words(self, host, *command, cpu):
        """The words that run a command in a host on one core."""
        return [str(word) for word in
                ("taskset", "-c", cpu, ROOT / "scripts" / "lab", "exec", "--name", self.name, host, *command)]

    def on(self, host, *command, cpu=OTHERS_CPU, timeout=60):
        return run(*self.words(host, *command, cpu=cpu), timeout=timeout)

    def check_offloads(self):
        """What crosses a wire are frames as a real one carries: no segmentation in the device, checksums filled in."""
        ends = [("client", "eth0"), ("balancer", "front"), ("balancer", "back"), *((p, "eth0") for p in self.portals),
                *(("switch", port) for port in ("client", "balancer-front", "balancer-back", *self.portals))]
        wanted = ("tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload")
        for host, interface in ends:
            seen = dict(line.strip().split(": ", 1) for line in self.on(host, "ethtool", "-k", interface).splitlines()
                        if ": " in line)
            for key in wanted:
                if not seen.get(key, "").startswith("off"):
                    raise Failed(f"{host} {interface}: {key} is {seen.get(key)}, not off")

    def steer_interrupts(self):
        """What arrives at the switch for the balancer is forwarded and received on the balancer's core, what it sends on the
        other: the place of a NIC's interrupts, the same for kernel, proxies and XDP."""
        self.on("switch", "sh", "-c", "mount -t sysfs sysfs /sys; cd /sys/class/net; "
                f"for port in client {' '.join(self.portals)}; do echo {1 << BALANCER_CPU:x} >$port/queues/rx-0/rps_cpus; done; "
                f"for port in balancer-front balancer-back; do echo {1 << OTHERS_CPU:x} >$port/queues/rx-0/rps_cpus; done; "
                "grep . */queues/rx-0/rps_cpus")
        # More connections a second than the defaults have ports and entries for.
        self.on("balancer", "sh", "-c", "cd /proc/sys/net; echo 1024 65535 >ipv4/ip_local_port_range; echo 1 >ipv4/tcp_tw_reuse; "
                "echo 4096 >core/somaxconn")

    def start_server(self, portal):
        self.command("stop", portal, "apache")
        directory = self.state / portal
        (directory / "bench").mkdir()
        (directory / "bench" / "small.txt").write_text("x" * 128)
        (directory / "bench" / "bulk.bin").write_bytes(bytes(range(256)) * (8 << 12))
        config = directory / "nginx.conf"
        config.write_text(f"""daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/nginx.pid;
error_log {directory}/nginx.err;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  open_file_cache max=100;
  client_body_temp_path {directory}/t1;
  proxy_temp_path {directory}/t2;
  fastcgi_temp_path {directory}/t3;
  uwsgi_temp_path {directory}/t4;
  scgi_temp_path {directory}/t5;
  server {{
    listen 80 backlog=4096;
    listen [::]:80 backlog=4096;
    listen 443;
    listen [::]:443;
    root {directory}/bench;
  }}
}}
""")
        server = Program(*self.words(portal, "nginx", "-c", config, cpu=OTHERS_CPU), log=directory / "nginx.log")
        self.stack.enter_context(server)
        wait_for(f"nginx on {portal}", lambda: server.must_run() or self.answers(self.addresses[self.portals.index(portal)]))

    def answers(self, address):
        try:
            return "200" in self.on("client", "curl", "-s", "-o", "/dev/null", "-m", "2", "-w", "%{http_code}",
                                    f"http://{address}/small.txt")
        except Failed:
            return False

    def must_be_unguarded(self):
        """No rule of a candidate that was here before may be left."""
        left = self.on("balancer", "nft", "list", "tables").strip()
        if left:
            raise Failed(f"the balancer still has nftables rules: {left}")


@contextmanager
def vip_in_kernel(lab):
    lab.on("balancer", "ip", "address", "add", f"{VIP}/32", "dev", "front")
    try:
        yield
    finally:
        lab.on("balancer", "ip", "address", "delete", f"{VIP}/32", "dev", "front")


def no_extra():
    return {}


@contextmanager
def haproxy(lab):
    servers = "\n".join(f"  server {name} {address}:80" for name, address in zip(lab.portals, lab.addresses))
    config = lab.state / "haproxy.cfg"
    config.write_text(HAPROXY.format(vip=VIP, servers=servers))
    with vip_in_kernel(lab), Program(*lab.words("balancer", "haproxy", "-db", "-f", config, cpu=BALANCER_CPU),
                                     log=lab.state / "haproxy.log") as program:
        wait_for("HAProxy", lambda: program.must_run() or lab.answers(VIP))
        yield no_extra


@contextmanager
def nginx(lab):
    servers = "\n".join(f"    server {address}:80;" for address in lab.addresses)
    config = lab.state / "nginx-stream.conf"
    config.write_text(NGINX.format(vip=VIP, servers=servers, directory=lab.state, module=NGINX_STREAM))
    with vip_in_kernel(lab), Program(*lab.words("balancer", "nginx", "-c", config, cpu=BALANCER_CPU),
                                     log=lab.state / "nginx-stream.log") as program:
        wait_for("nginx", lambda: program.must_run() or lab.answers(VIP))
        yield no_extra


@contextmanager
def nftables(lab):
    servers = ", ".join(f"{index} : {address}" for index, address in enumerate(lab.addresses))
    rules = lab.state / "bench.nft"
    rules.write_text(NFTABLES.format(vip=VIP, back=BACK, count=len(lab.addresses), servers=servers,
                                     portals=", ".join(lab.addresses)))
    with vip_in_kernel(lab):
        lab.on("balancer", "nft", "-f", rules)
        try:
            # Closed connections are forgotten soon: the table of connections is the machine's, not the namespace's.
            lab.on("balancer", "sh", "-c", "cd /proc/sys/net/netfilter; echo 1 >nf_conntrack_tcp_timeout_time_wait; "
                   "echo 1 >nf_conntrack_tcp_timeout_close")
            wait_for("nftables", lambda: lab.answers(VIP))
            yield no_extra
        finally:
            lab.on("balancer", "nft", "delete", "table", "ip", "bench")


def portico_is_well(lab):
    done = subprocess.run([str(CLI), "--run-dir", str(lab.state / "run"), "--json", "status"], capture_output=True, text=True,
                          check=False)
    try:
        seen = json.loads(done.stdout)
        return seen["level"] == "ok" and seen["dataplane"]["working"] and seen["table"]["adopted"] == seen["table"]["published"]
    except (ValueError, KeyError, TypeError):
        return False


@contextmanager
def portico(lab, *settings):
    """`settings`: lines for the configuration's section `dataplane`."""
    config, run_dir = lab.state / "portico.yaml", lab.state / "run"
    config.write_text(lab.command("config", "--interval", "1s", "--fast-interval", "20ms",
                                  *(word for line in (f"worker_cpus: {BALANCER_CPU}", *settings) for word in ("--dataplane", line))))

    def extra():
        worker = telemetry(run_dir / "telemetry", "/portico/workers")["0"]
        return {"busy_cycles": worker["busy_cycles"], "total_cycles": worker["total_cycles"],
                "drops": telemetry(run_dir / "telemetry", "/portico/drops")}

    words = ("--config", config, "--run-dir", run_dir)
    try:
        with Program(*lab.words("balancer", CONTROL, *words, cpu=OTHERS_CPU), log=lab.state / "control.log") as control, \
             Program(*lab.words("balancer", DATAPLANE, "--run-dir", run_dir, cpu=f"{OTHERS_CPU},{BALANCER_CPU}"),
                     log=lab.state / "dataplane.log") as dataplane:
            wait_for("Portico", lambda: control.must_run() or dataplane.must_run() or portico_is_well(lab), 30)
            wait_for("Portico's answer", lambda: lab.answers(VIP))
            yield extra
    finally:
        lab.on("balancer", CONTROL, *words, "--cleanup")


CANDIDATES = {"portico": portico, "haproxy": haproxy, "nginx": nginx, "nftables": nftables}
