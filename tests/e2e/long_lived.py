#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Connections that live long, and a server for them, for the end-to-end tests.

  long_lived.py serve  PORT NAME                        tells each client its name, then sends back what it gets
  long_lived.py hold   ADDRESS... --port P --count N --state FILE [--bulk]
                       N connections: three of four trickle, one is bulk, or all; until SIGTERM
  long_lived.py state  FILE --heard-since T             exit status 0: every connection that is not broken had an
                                                        answer to something that it sent after T (Unix time)

`hold` writes to FILE what became of the connections, several times a second, and at the end to standard output. A connection is
broken if it is reset, ends, brings other bytes than were sent, or at the end has no answer within 20 s.
"""
import argparse
import asyncio
import collections
import hashlib
import json
import os
import signal
import sys
import time

TRICKLE_BYTES, TRICKLE_PAUSE_S = 64, 0.4
BULK_BYTES, BULK_PAUSE_S = 24 << 10, 0.25
LAST_ANSWER_S = 20


async def serve(args):
    async def echo(reader, writer):
        try:
            writer.write(args.name.encode() + b'\n')
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, None, args.port, backlog=1024)
    await server.serve_forever()


class Connection:
    def __init__(self, number, address, args):
        self.number, self.address, self.port = number, address, args.port
        self.is_bulk = args.bulk or number % 4 == 0
        self.portal = None
        self.heard = 0.0  # when it had sent what was answered last
        self.error = None
        self.sent = 0

    async def run(self, ending):
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(self.address, self.port), LAST_ANSWER_S)
            self.portal = (await asyncio.wait_for(reader.readline(), LAST_ANSWER_S)).decode().strip()
            if not self.portal:
                raise EOFError('ended before the greeting')
            while not ending.is_set():
                await self.exchange(reader, writer)
                await self.pause(ending)
            await asyncio.wait_for(self.exchange(reader, writer), LAST_ANSWER_S)
            writer.close()
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as error:
            self.error = f'{type(error).__name__}: {error}'

    async def exchange(self, reader, writer):
        size = BULK_BYTES if self.is_bulk else TRICKLE_BYTES
        seed = hashlib.sha256(f'{self.number} {self.sent}'.encode()).digest()
        data = seed * (size // len(seed))
        began = time.time()
        writer.write(data)
        if await reader.readexactly(len(data)) != data:
            raise ValueError('other bytes than were sent')
        self.sent += 1
        self.heard = began

    async def pause(self, ending):
        try:
            await asyncio.wait_for(ending.wait(), BULK_PAUSE_S if self.is_bulk else TRICKLE_PAUSE_S)
        except asyncio.TimeoutError:
            pass


def report(connections):
    broken = [c for c in connections if c.error]
    count = collections.Counter
    return {
        'connections': len(connections), 'broken': len(broken), 'errors': count(c.error for c in broken),
        'heard': min((c.heard for c in connections if not c.error), default=0.0),
        'silent': [{'number': c.number, 'address': c.address, 'portal': c.portal, 'for_s': round(time.time() - c.heard, 1)}
                   for c in sorted(connections, key=lambda c: c.heard)[:5] if not c.error],
        'by_portal': count(c.portal for c in connections if c.portal),
        'broken_by_portal': count(c.portal or 'none' for c in broken)}


def write_state(path, connections):
    with open(path + '.new', 'w', encoding='utf-8') as file:
        json.dump(report(connections), file)
    os.rename(path + '.new', path)


async def hold(args):
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    connections = [Connection(i, args.addresses[i % len(args.addresses)], args) for i in range(args.count)]
    tasks = []
    for connection in connections:
        tasks.append(asyncio.create_task(connection.run(ending)))
        await asyncio.sleep(0.002)
    while not all(task.done() for task in tasks):
        write_state(args.state, connections)
        await asyncio.wait(tasks, timeout=0.2, return_when=asyncio.ALL_COMPLETED)
    write_state(args.state, connections)
    result = report(connections)
    print(json.dumps(result))
    return 1 if result['broken'] else 0


def state(args):
    try:
        with open(args.state, encoding='utf-8') as file:
            result = json.load(file)
    except FileNotFoundError:
        return 1
    print(json.dumps(result))
    return 0 if result['heard'] > args.heard_since else 1


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest='command', required=True)
    one = commands.add_parser('serve')
    one.add_argument('port', type=int)
    one.add_argument('name')
    one = commands.add_parser('hold')
    one.add_argument('addresses', nargs='+')
    one.add_argument('--port', type=int, required=True)
    one.add_argument('--count', type=int, required=True)
    one.add_argument('--state', required=True)
    one.add_argument('--bulk', action='store_true')
    one = commands.add_parser('state')
    one.add_argument('state')
    one.add_argument('--heard-since', type=float, required=True)
    args = parser.parse_args()
    if args.command == 'state':
        return state(args)
    return asyncio.run(serve(args) if args.command == 'serve' else hold(args))


if __name__ == '__main__':
    sys.exit(main())
