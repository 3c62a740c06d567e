# SPDX-License-Identifier: Apache-2.0
"""What the tests of control as a process stand on: network namespaces, backends, one HTTP request."""

import ctypes
import os
import socket
import subprocess
import sys

CLONE_NEWNET = 0x40000000


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def enter_new_network():
    """A file descriptor of the network namespace that the process is in from now on."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
    return os.open("/proc/self/ns/net", os.O_RDONLY)


class Inside:
    """Within it the process is in another network namespace."""

    def __init__(self, network):
        self.network = network

    def __enter__(self):
        self.before = os.open("/proc/self/ns/net", os.O_RDONLY)
        ctypes.CDLL(None).setns(self.network, CLONE_NEWNET)

    def __exit__(self, *_):
        ctypes.CDLL(None).setns(self.before, CLONE_NEWNET)
        os.close(self.before)


class Backend:
    """A port of the portals' host that answers connections by accepting them."""

    network = -1

    def __init__(self, address, port=8080):
        with Inside(Backend.network):
            self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.socket.listen(1024)

    def stop(self):
        self.socket.close()


def request(path, method, target, body=b"", raw=None):
    """One HTTP request over the Unix socket; (status, body)."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        head = f"{method} {target} HTTP/1.1\r\nHost: portico\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        s.sendall(raw if raw is not None else head.encode() + body)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()
