#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sends IPv6 packets in fragments, as a host does whose TCP takes no note of the path's MTU.

  splitter.py TUN INTERFACE MTU    makes the interface TUN; what is routed into it leaves by INTERFACE

Packets of more than MTU bytes go in fragments (RFC 8200 section 4.5), those of every other packet in reverse. Runs until
it is ended.
"""
import fcntl
import os
import socket
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
HEADER, FRAGMENT_HEADER, FRAGMENT = 40, 8, 44


def fragments(packet, mtu, number):
    step = (mtu - HEADER - FRAGMENT_HEADER) & ~7
    payload = packet[HEADER:]
    for at in range(0, len(payload), step):
        part = payload[at : at + step]
        is_last = at + step >= len(payload)
        head = packet[:4] + struct.pack("!HB", FRAGMENT_HEADER + len(part), FRAGMENT) + packet[7:HEADER]
        yield head + struct.pack("!BBHI", packet[6], 0, at | (0 if is_last else 1), number) + part


def main():
    name, interface, mtu = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    out = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    print("ready", flush=True)
    number = 0
    while True:
        packet = os.read(tun, 65535)
        if packet[0] >> 4 != 6:
            continue
        to = (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0)
        if len(packet) <= mtu:
            out.sendto(packet, to)
            continue
        number += 1
        pieces = list(fragments(packet, mtu, number))
        for piece in pieces if number % 2 else reversed(pieces):
            out.sendto(piece, to)


main()
