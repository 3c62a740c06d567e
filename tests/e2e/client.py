#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP client for the end-to-end tests that says exactly what became of every connection.

  client.py short  URL --count N [--concurrency C] [--source A]    N connections, one request each
  client.py load   URL --seconds S --rate R [--keep-alive]         a steady load; stops at SIGTERM, too
  client.py fetch  URL [--sha256 HEX]                              one body, its digest compared
  client.py silent HOST PORT --seconds S [--send TEXT] [--later TEXT --later-after S]   how does it end?

Each prints one JSON object. Exit status 0: all well; 1: something failed (the object says what).
The portal's name is taken from the response header `X-Portal`.
"""
import argparse
import asyncio
import collections
import hashlib
import json
import signal
import ssl
import sys
import time
import urllib.parse


class Failure(Exception):
    pass


def tls_of(url):
    if url.scheme != 'https':
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def read_response(reader, sink=None):
    """Reads one response; returns (status, headers, body bytes read)."""
    head = await reader.readuntil(b'\r\n\r\n')
    lines = head.decode('latin-1').split('\r\n')
    status = int(lines[0].split()[1])
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(':') for line in lines[1:] if line)}
    total = 0
    if 'content-length' in headers:
        left = int(headers['content-length'])
        while left:
            data = await reader.read(min(left, 1 << 18))
            if not data:
                raise Failure(f'body ended {left} bytes early')
            left -= len(data)
            total += len(data)
            if sink:
                sink(data)
    elif headers.get('transfer-encoding', '') == 'chunked':
        while True:
            size = int(await reader.readline(), 16)
            if size:
                data = await reader.readexactly(size)
                total += size
                if sink:
                    sink(data)
            await reader.readline()
            if not size:
                break
    else:
        while data := await reader.read(1 << 18):
            total += len(data)
            if sink:
                sink(data)
    return status, headers, total


def request_of(url, keep_alive):
    path = url.path or '/'
    if url.query:
        path += '?' + url.query
    connection = 'keep-alive' if keep_alive else 'close'
    return (f'GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: {connection}\r\n\r\n').encode()


class Tally:
    """What became of the requests."""

    def __init__(self):
        self.ok = 0
        self.failed = 0
        self.by_instance = collections.Counter()
        self.errors = collections.Counter()
        self.failures = []
        self.last_ok = None
        self.longest_gap = 0.0
        self.last_new = {}

    def good(self, instance):
        now = time.time()
        self.ok += 1
        self.by_instance[instance] += 1
        self.last_new[instance] = now
        if self.last_ok is not None:
            self.longest_gap = max(self.longest_gap, now - self.last_ok)
        self.last_ok = now

    def bad(self, error):
        self.failed += 1
        text = f'{type(error).__name__}: {error}'
        self.errors[text] += 1
        if len(self.failures) < 20:
            self.failures.append({'at': time.time(), 'error': text})

    def report(self):
        print(json.dumps({
            'ok': self.ok, 'failed': self.failed, 'by_instance': dict(self.by_instance),
            'errors': dict(self.errors), 'failures': self.failures,
            'longest_gap_ms': round(self.longest_gap * 1000, 1),
            'last_success_at': self.last_new}))
        return 1 if self.failed else 0


async def connect(url, tls, source):
    port = url.port or (443 if tls else 80)
    local = (source, 0) if source else None
    return await asyncio.open_connection(url.hostname, port, ssl=tls, local_addr=local)


async def one_connection(url, tls, source, tally, timeout):
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await connect(url, tls, source)
            writer.write(request_of(url, False))
            status, headers, _ = await read_response(reader)
            if status != 200:
                raise Failure(f'status {status}')
        tally.good(headers.get('x-portal', '?'))
    except (OSError, Failure, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
        tally.bad(error)
    finally:
        if writer:
            writer.close()


async def short(args):
    url = urllib.parse.urlsplit(args.url)
    tls = tls_of(url)
    tally = Tally()
    left = iter(range(args.count))

    async def worker():
        for _ in left:
            await one_connection(url, tls, args.source, tally, args.timeout)

    await asyncio.gather(*(worker() for _ in range(args.concurrency)))
    return tally.report()


async def keep_alive_worker(url, tls, source, tally, timeout, stop, interval):
    writer = None
    while not stop.is_set():
        try:
            async with asyncio.timeout(timeout):
                if writer is None:
                    reader, writer = await connect(url, tls, source)
                writer.write(request_of(url, True))
                status, headers, _ = await read_response(reader)
                if status != 200:
                    raise Failure(f'status {status}')
            tally.good(headers.get('x-portal', '?'))
        except (OSError, Failure, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            tally.bad(error)
            if writer:
                writer.close()
            writer = None
        await asyncio.sleep(interval)
    if writer:
        writer.close()


async def load(args):
    url = urllib.parse.urlsplit(args.url)
    tls = tls_of(url)
    tally = Tally()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().call_later(args.seconds, stop.set)
    if args.keep_alive:
        await asyncio.gather(*(keep_alive_worker(url, tls, args.source, tally, args.timeout, stop,
                                                 args.concurrency / args.rate)
                               for _ in range(args.concurrency)))
        return tally.report()
    running = set()
    due = time.monotonic()
    while not stop.is_set():
        task = asyncio.create_task(one_connection(url, tls, args.source, tally, args.timeout))
        running.add(task)
        task.add_done_callback(running.discard)
        due += 1 / args.rate
        await asyncio.sleep(max(0, due - time.monotonic()))
    if running:
        await asyncio.wait(running)
    return tally.report()


async def fetch(args):
    url = urllib.parse.urlsplit(args.url)
    digest = hashlib.sha256()
    began = time.monotonic()
    try:
        async with asyncio.timeout(args.timeout):
            reader, writer = await connect(url, tls_of(url), args.source)
            writer.write(request_of(url, False))
            status, headers, total = await read_response(reader, digest.update)
            writer.close()
    except (OSError, Failure, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
        print(json.dumps({'ok': False, 'error': f'{type(error).__name__}: {error}'}))
        return 1
    good = status == 200 and args.sha256 in (None, digest.hexdigest())
    print(json.dumps({'ok': good, 'status': status, 'bytes': total, 'sha256': digest.hexdigest(),
                      'instance': headers.get('x-portal', '?'), 'seconds': round(time.monotonic() - began, 3)}))
    return 0 if good else 1


async def silent(args):
    reader, writer = await asyncio.open_connection(args.host, args.port)
    print(json.dumps({'connected': True, 'local_port': writer.get_extra_info('sockname')[1]}), flush=True)
    writer.write(args.send.encode().decode('unicode_escape').encode())
    if args.later:
        asyncio.get_running_loop().call_later(
            args.later_after, writer.write, args.later.encode().decode('unicode_escape').encode())
    end, at = 'still open', None
    try:
        async with asyncio.timeout(args.seconds):
            while await reader.read(1 << 16):
                pass
            end = 'closed'
    except ConnectionResetError:
        end = 'reset'
    except TimeoutError:
        pass
    at = time.time()
    print(json.dumps({'end': end, 'at': at}))
    return 0 if end == args.expect else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    for name, function in (('short', short), ('load', load), ('fetch', fetch), ('silent', silent)):
        sub = commands.add_parser(name)
        sub.set_defaults(function=function)
        if name == 'silent':
            sub.add_argument('host')
            sub.add_argument('port', type=int)
            sub.add_argument('--send', default='')
            sub.add_argument('--later', default='', help='sent --later-after seconds later')
            sub.add_argument('--later-after', type=float, default=0)
            sub.add_argument('--expect', default='reset')
        else:
            sub.add_argument('url')
            sub.add_argument('--source')
            sub.add_argument('--timeout', type=float, default=10)
        if name in ('load', 'silent'):
            sub.add_argument('--seconds', type=float, required=True)
        if name == 'load':
            sub.add_argument('--rate', type=float, default=100)
            sub.add_argument('--keep-alive', action='store_true')
        if name in ('short', 'load'):
            sub.add_argument('--concurrency', type=int, default=16)
        if name == 'short':
            sub.add_argument('--count', type=int, required=True)
        if name == 'fetch':
            sub.add_argument('--sha256')
    args = parser.parse_args()
    return asyncio.run(args.function(args))


if __name__ == '__main__':
    sys.exit(main())
