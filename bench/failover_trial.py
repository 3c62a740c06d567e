#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One trial of bench/failover, run on the lab's client: opens a connection every millisecond or so, kills one server of
a portal, and says how long after the kill the last new connection still went to that portal.

  failover_trial.py ADDRESS PORTAL PID [--before S] [--after S] [--every S]

Prints one JSON object: `last_ms` (start of the last connection that PORTAL answered or that failed, in milliseconds
after the kill; 0 if there was none), `connections`, `failed` (in all) and `failed_before` (before the kill).
"""
import argparse
import asyncio
import json
import os
import signal
import time


async def connection(address, results):
    began = time.monotonic()
    portal = None
    writer = None
    try:
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection(address, 80)
            writer.write(b'GET /small.txt HTTP/1.0\r\n\r\n')
            head = await reader.readuntil(b'\r\n\r\n')
            for line in head.split(b'\r\n'):
                if line.lower().startswith(b'x-portal:'):
                    portal = line.split(b':')[1].strip().decode()
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass
    finally:
        if writer:
            writer.close()
    results.append((began, portal))


def kill_tree(pid):
    """Apache's children share its sockets: the port refuses only when all of them are gone."""
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as children:
        for process in [pid, *map(int, children.read().split())]:
            os.kill(process, signal.SIGKILL)


async def trial(args):
    results, running = [], set()
    began = time.monotonic()
    kill_at, killed = began + args.before, None
    end = kill_at + args.after
    while (now := time.monotonic()) < end:
        if killed is None and now >= kill_at:
            killed = time.monotonic()
            kill_tree(args.pid)
        task = asyncio.create_task(connection(args.address, results))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(args.every)
    if running:
        await asyncio.wait(running)
    after = [(at - killed, portal) for at, portal in results if at >= killed]
    reached = [at for at, portal in after if portal in (args.portal, None)]
    print(json.dumps({
        'last_ms': round(max(reached, default=0) * 1000, 1),
        'connections': len(results),
        'failed': sum(portal is None for _, portal in results),
        'failed_before': sum(portal is None and at < killed for at, portal in results)}))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('address')
parser.add_argument('portal')
parser.add_argument('pid', type=int)
parser.add_argument('--before', type=float, default=0.3)
parser.add_argument('--after', type=float, default=0.8)
parser.add_argument('--every', type=float, default=0.002)
asyncio.run(trial(parser.parse_args()))
