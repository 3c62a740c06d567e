#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Captures for the whole-process measurements, of 64-byte frames (60 without the FCS), each flow once, in random order.

  frames.py DIRECTORY      writes all of them

client-dsr.pcap   ACKs of clients to the VIP of the dsr-l2 service
client-nat.pcap   the same to the VIP of the nat service
reply.pcap        ACKs of the backend to the NAT address, for the flows that handshake.pcap has opened
handshake.pcap    opens those of client-nat.pcap: SYNs of clients, the backend's SYN-ACKs to all NAT ports, ACKs of clients, in batches
"""
import random
import socket
import struct
import sys
from pathlib import Path

FLOWS = 16384
DSR_VIP, NAT_VIP = "198.18.0.10", "198.18.0.11"
BACKEND = "198.18.1.21"
NAT_ADDRESSES = ("198.18.1.200", "198.18.1.201")
# A worker begins with any port: all of them are taken when all flows are open, whichever is whose.
FIRST_NAT_PORT, LAST_NAT_PORT = 1024, 1024 + FLOWS // len(NAT_ADDRESSES) - 1
OUR_MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
BATCH = FLOWS // 8  # handshakes side by side: a quarter of a backend's ports may be half open
SYN, ACK = 0x02, 0x10
CLIENT_ISN, SERVER_ISN = 1000, 5000


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def frame(source, target, flags, sequence, acknowledgement):
    """source and target: (address, port)."""
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    tcp = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, acknowledgement, 5 << 4, flags, 65535, 0, 0)
    pseudo = addresses + struct.pack("!BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return (mac(OUR_MAC) + mac(PEER_MAC) + b"\x08\x00" + ip + tcp).ljust(60, b"\0")


def write_pcap(path, frames):
    with Path(path).open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for each in frames:
            file.write(struct.pack("<IIII", 0, 0, len(each), len(each)) + each)


def clients(flows):
    """Distinct addresses and ports, as from a few hundred clients."""
    return [(f"198.19.{i % 251}.{1 + i % 4}", 10000 + i) for i in range(flows)]


def nat_endpoints():
    return [(address, port) for address in NAT_ADDRESSES for port in range(FIRST_NAT_PORT, LAST_NAT_PORT + 1)]


def in_random_order(frames):
    random.Random(1).shuffle(frames)
    return frames


def handshakes():
    ours, vip = clients(FLOWS), (NAT_VIP, 80)
    # Those to ports that no flow has yet are for nobody.
    answers = [frame((BACKEND, 80), nat, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1) for nat in nat_endpoints()]
    out = []
    for first in range(0, FLOWS, BATCH):
        batch = ours[first:first + BATCH]
        out += [frame(client, vip, SYN, CLIENT_ISN, 0) for client in batch] + answers
        out += [frame(client, vip, ACK, CLIENT_ISN + 1, SERVER_ISN + 1) for client in batch]
    return out


def write_all(directory):
    directory = Path(directory)
    for name, vip in (("client-dsr", DSR_VIP), ("client-nat", NAT_VIP)):
        acks = [frame(client, (vip, 80), ACK, CLIENT_ISN + 1, SERVER_ISN + 1) for client in clients(FLOWS)]
        write_pcap(directory / f"{name}.pcap", in_random_order(acks))
    replies = [frame((BACKEND, 80), nat, ACK, SERVER_ISN + 1, CLIENT_ISN + 1) for nat in nat_endpoints()]
    write_pcap(directory / "reply.pcap", in_random_order(replies))
    write_pcap(directory / "handshake.pcap", handshakes())


if __name__ == "__main__":
    write_all(sys.argv[1])
