#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Connections of the test with emulated NICs, each checked to the last byte.

client.py web COUNT ADDRESS...   COUNT requests to each address, port 80, eight at a time; prints answers by portal as JSON
client.py echo ADDRESS...        256 KiB to port 22 and back, to each address"""
import hashlib
import json
import os
import socket
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

PATIENCE_S = float(os.environ.get("PORTICO_NIC_PATIENCE_S", "60"))
ECHO_BYTES = 256 * 1024


def read_all(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def get(address):
    """The portal's name, which its page is."""
    with socket.create_connection((address, 80), PATIENCE_S) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(b"GET / HTTP/1.0\r\nHost: portal\r\n\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    name, _, filler = body.partition(b"\n")
    if b" 200 " not in head.split(b"\r\n")[0] or filler != b"x" * 8000:
        raise ValueError(f"{address}: not the portal's page: {head[:80]!r}")
    return name.decode()


def web(count, addresses):
    jobs = [address for _ in range(count) for address in addresses]
    with ThreadPoolExecutor(8) as pool:
        print(json.dumps(Counter(pool.map(get, jobs))))


def echo(address):
    data = os.urandom(ECHO_BYTES)
    with socket.create_connection((address, 22), PATIENCE_S) as connection:
        connection.settimeout(PATIENCE_S)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(read_all, connection)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            if hashlib.sha256(answer.result()).digest() != hashlib.sha256(data).digest():
                raise ValueError(f"{address}: port 22 gave back something else")


if __name__ == "__main__":
    if sys.argv[1] == "web":
        web(int(sys.argv[2]), sys.argv[3:])
    else:
        for each in sys.argv[2:]:
            echo(each)
