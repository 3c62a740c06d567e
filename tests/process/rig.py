# SPDX-License-Identifier: Apache-2.0
"""What the process tests share: a network of their own, the publisher, the dataplane, frames and answers.

All interfaces live in one unnamed network namespace that ends with the test process: `wan0` and `lan0` are the
dataplane's, a client sits at the other end of the one (`cl0`), a server at that of the other (`sv0`)."""
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confined import confined

BUILD = Path(os.environ.get("PORTICO_BUILD", "build")).resolve()
DATAPLANE = BUILD / "dataplane" / "portico-dataplane"
PORTICO = BUILD / "control" / "cli" / "portico"
SOURCE = Path(__file__).resolve().parents[2]
PUBLISHER = BUILD / "tests" / "publish_table"
PATIENCE_S = 20  # longer than anything takes on a busy machine; nothing is asserted on time

CLIENT_MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
WAN_MAC, LAN_MAC = "02:00:00:00:01:01", "02:00:00:00:01:02"
CLIENT, VIP, NAT, SERVER = "198.18.0.1", "198.18.0.10", "198.18.1.20", "198.18.1.2"


def require_root_and_own_network():
    """Starts the script again in a network namespace of its own; skips loudly where that cannot be."""
    if os.geteuid() != 0:
        print("SKIPPED: the process tests need root (network namespaces, AF_XDP); run them with sudo", file=sys.stderr)
        sys.exit(77)
    if os.environ.get("PORTICO_TEST_NET") != "1":
        os.environ["PORTICO_TEST_NET"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv])


def run(*command):
    subprocess.run(command, check=True)


def make_network():
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    for ours, theirs, our_mac, their_mac in (("wan0", "cl0", WAN_MAC, CLIENT_MAC), ("lan0", "sv0", LAN_MAC, SERVER_MAC)):
        run("ip", "link", "add", ours, "address", our_mac, "type", "veth", "peer", theirs, "address", their_mac)
        for interface in (ours, theirs):
            run("ip", "link", "set", interface, "up")


def wait_for(what, condition):
    """The first true value of condition(); fails after PATIENCE_S with `what` as the message."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE_S} s in vain: {what}")
        time.sleep(0.01)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Publisher:
    """Plays control: takes the lines that tests/tools/publish_table.cc describes."""

    def __init__(self, run_dir):
        self.process = subprocess.Popen([PUBLISHER, run_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=die_with_parent)

    def publish(self, lines):
        self.process.stdin.write("clear\n" + lines + "\npublish\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer and answer[0] == "generation", " ".join(answer)
        return int(answer[1])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Dataplane:
    """One portico-dataplane process and its messages."""

    def __init__(self, run_dir, *options):
        self.run_dir = Path(run_dir)
        self.log = tempfile.TemporaryFile("w+")
        command = [*confined("portico-dataplane"), DATAPLANE, "--run-dir", run_dir, *options]
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log, preexec_fn=die_with_parent)

    def messages(self):
        self.log.flush()
        return os.pread(self.log.fileno(), 1 << 20, 0).decode()

    def says(self, text):
        """Waits until a message holds the text."""
        try:
            wait_for(f"a message with '{text}'", lambda: text in self.messages() or self.process.poll() is not None)
        except AssertionError:
            raise AssertionError(f"no message with '{text}' in:\n{self.messages()}") from None
        assert text in self.messages(), f"no '{text}' in:\n{self.messages()}"

    def adopted(self, generation):
        def reached():
            if self.process.poll() is not None:
                raise AssertionError("ended: " + self.messages())
            if not (self.run_dir / "feedback").exists():
                return False
            if os.path.getsize(self.run_dir / "feedback") < 512:
                return False
            seen = feedback(self.run_dir)
            return seen["pid"] == self.process.pid and seen["adopted_generation"] == generation

        wait_for(f"generation {generation} in use", reached)

    def ends(self):
        """The exit status."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError("does not end\n" + self.messages()) from None

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.ends()
        self.log.close()
        return status


# Offsets of contract/feedback.h; layout_test.cc pins them.
def feedback(run_dir):
    header = (Path(run_dir) / "feedback").read_bytes()[:512]
    words = struct.unpack_from("<10Q", header, 64)
    names = ("sequence", "heartbeat_ns", "pid", "start_realtime_ns", "table_epoch", "pending_generation",
             "adopted_generation", "adopted_monotonic_ns", "refused_generation", "refused_count")
    out = dict(zip(names, words))
    out["refused_reason"], out["state"], out["worker_count"], out["port_count"] = struct.unpack_from("<4I", header, 144)
    out["refused_text"] = header[192:448].split(b"\0")[0].decode(errors="replace")
    return out


STATE_WAITING, STATE_RUNNING, STATE_STOPPING = 2, 3, 4
REASON_BAD_CHECKSUM, REASON_NEEDS_RESTART = 6, 11


def telemetry(run_dir, command):
    """The answer to a telemetry command such as "/portico/status"."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(Path(run_dir) / "telemetry"))
        client.recv(1 << 16)
        client.send(command.encode())
        return json.loads(client.recv(1 << 17))[command.split(",")[0]]


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


SYN, ACK, RST, PSH = 0x02, 0x10, 0x04, 0x08


def tcp_frame(source, source_port, target, target_port, flags, macs, payload=b"", seq=1, ack=0):
    """An Ethernet frame with right checksums. `macs`: (destination, source)."""
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    tcp = struct.pack("!HHIIBBHHH", source_port, target_port, seq, ack, 5 << 4, flags, 65535, 0, 0) + payload
    pseudo = addresses + struct.pack("!BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    ethernet = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in macs) + b"\x08\x00"
    return ethernet + ip + tcp


class Segment:
    """A received TCP segment; checksums_right says whether both checksums are."""

    def __init__(self, frame):
        ip = frame[14:14 + struct.unpack_from("!H", frame, 16)[0]]
        tcp = ip[20:]
        self.source, self.target = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
        self.source_port, self.target_port, self.seq, self.ack, _, self.flags = struct.unpack_from("!HHIIBB", tcp)
        self.payload = tcp[(tcp[12] >> 4) * 4:]
        pseudo = ip[12:20] + struct.pack("!BBH", 0, 6, len(tcp))
        self.checksums_right = checksum(ip[:20]) == 0 and checksum(pseudo + tcp) == 0
        self.ttl = ip[8]


class Tap:
    """Sends and receives raw frames at one end of a veth."""

    def __init__(self, interface):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self.socket.bind((interface, 0))

    def send(self, frame):
        self.socket.send(frame)

    def receive(self, wanted, again=None):
        """The first TCP segment for which wanted(segment) holds; `again` is called while nothing comes, to repeat
        what a real sender would repeat."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if not select.select([self.socket], [], [], 0.5)[0]:
                if again is not None:
                    again()
                continue
            frame, source = self.socket.recvfrom(65536)
            if source[2] == socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x00" or frame[23] != 6:
                continue
            segment = Segment(frame)
            if wanted(segment):
                return segment
        raise AssertionError("the segment did not come")

    def close(self):
        self.socket.close()


def table(wan="wan0", lan="lan0", extra="", workers=1):
    """Lines for the publisher: one service in `nat` mode with one backend."""
    return f"""workers {workers}
port {wan}
port {lan}
next-hop {CLIENT} {CLIENT_MAC} {WAN_MAC} 0
next-hop {SERVER} {SERVER_MAC} {LAN_MAC} 1
route 198.18.0.0/24 0
pool portals
backend portal-1 portals {SERVER} 1
service web portals nat
listen web {VIP} 80
nat {NAT} 20000 60000
{extra}"""


AF_PACKET = {"wan": "wan net_af_packet0,iface=wan0", "lan": "lan net_af_packet1,iface=lan0"}


class Setting:
    """A run directory with a publisher, and the two ends of the network."""

    def __init__(self):
        self.run_dir = tempfile.mkdtemp(prefix="portico-", dir="/dev/shm")
        self.publisher = Publisher(self.run_dir)
        self.dataplanes = []
        self.client, self.server = Tap("cl0"), Tap("sv0")
        self.next_port = 10000

    def start(self, *options):
        dataplane = Dataplane(self.run_dir, *options)
        self.dataplanes.append(dataplane)
        return dataplane

    def close(self):
        for dataplane in self.dataplanes:
            dataplane.stop(signal.SIGKILL)
        self.publisher.kill()
        self.client.close()
        self.server.close()
        tables = os.path.join(self.run_dir, "flow-tables")
        if os.path.islink(tables):
            shutil.rmtree(os.readlink(tables), ignore_errors=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def connect(self):
        """A handshake and one byte each way through the dataplane. Returns (client port, NAT port)."""
        self.next_port += 1
        port = self.next_port

        def from_client(flags, payload=b"", seq=1, ack=0):
            self.client.send(tcp_frame(CLIENT, port, VIP, 80, flags, (WAN_MAC, CLIENT_MAC), payload, seq, ack))

        def is_ours(segment):
            return segment.source == NAT and segment.target == SERVER

        from_client(SYN, seq=100)
        syn = self.server.receive(lambda s: is_ours(s) and s.flags == SYN and s.seq == 100,
                                  again=lambda: from_client(SYN, seq=100))
        assert syn.checksums_right and syn.target_port == 80 and syn.ttl == 63, vars(syn)

        def from_server(flags, payload=b"", seq=1, ack=0):
            self.server.send(tcp_frame(SERVER, 80, NAT, syn.source_port, flags, (LAN_MAC, SERVER_MAC), payload, seq, ack))

        from_server(SYN | ACK, seq=700, ack=101)
        answer = self.client.receive(lambda s: s.target_port == port and s.flags == SYN | ACK)
        assert answer.checksums_right and (answer.source, answer.source_port, answer.target) == (VIP, 80, CLIENT)
        from_client(ACK | PSH, b"?", seq=101, ack=701)
        asked = self.server.receive(lambda s: is_ours(s) and s.payload == b"?" and s.source_port == syn.source_port)
        assert asked.checksums_right
        from_server(ACK | PSH, b"!", seq=701, ack=102)
        said = self.client.receive(lambda s: s.target_port == port and s.payload == b"!")
        assert said.checksums_right
        return port, syn.source_port
