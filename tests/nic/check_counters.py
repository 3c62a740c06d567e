#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Whether Portico's counters say what happened: check_counters.py METRICS WIRE ANSWERS MODE WORKERS RSS

METRICS is control's /metrics; WIRE nft's JSON of the client's counters; ANSWERS {portal: requests}; RSS `rss` if the NIC spreads
by a hash. Prints what is wrong."""
import json
import re
import sys

LINE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')


def read_metrics(path):
    """{name: [(labels, value)]}"""
    metrics = {}
    with open(path, encoding='utf-8') as file:
        for line in file:
            if match := LINE.match(line.strip()):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ''))
                metrics.setdefault(match[1], []).append((labels, float(match[3])))
    return metrics


class Checks:
    def __init__(self, metrics):
        self.metrics = metrics
        self.wrong = []

    def value(self, name, **wanted):
        found = [value for labels, value in self.metrics.get(name, [])
                 if all(labels.get(key) == text for key, text in wanted.items())]
        if not found:
            self.wrong.append(f'no metric {name} {wanted}')
        return int(sum(found))

    def equal(self, what, seen, wanted):
        if seen != wanted:
            self.wrong.append(f'{what}: {seen}, not {wanted}')


def main(metrics_path, wire_path, answers, mode, workers, rss):
    checks = Checks(read_metrics(metrics_path))
    value, equal = checks.value, checks.equal
    with open(wire_path, encoding='utf-8') as file:
        wire = {each['counter']['name']: each['counter'] for each in json.load(file)['nftables'] if 'counter' in each}
    requests = json.loads(answers)

    equal('connections', value('portico_service_new_flows_total', service='web'), sum(requests.values()))
    for portal, count in requests.items():
        equal(f'connections of {portal}', value('portico_backend_new_flows_total', backend=portal), count)
    for way, chains in (('in', ('to4', 'to6')), ('out', ('from4', 'from6'))):
        packets, size = (sum(wire[chain][field] for chain in chains) for field in ('packets', 'bytes'))
        if way == 'out' and mode == 'dsr-l2':
            packets = size = 0  # the portals answer the client themselves
        equal(f'packets {way}', value('portico_service_packets_total', service='web', direction=way), packets)
        equal(f'bytes {way}', value('portico_service_bytes_total', service='web', direction=way), size)

    received = [value('portico_worker_packets_total', worker=str(i), direction='in') for i in range(int(workers))]
    equal('queues without a packet', sum(count == 0 for count in received), 0)
    equal('packets of the port', value('portico_port_packets_total', direction='in'), sum(received))
    equal('packets sent by the port', value('portico_port_packets_total', direction='out'),
          value('portico_worker_packets_total', direction='out'))
    equal('packets that the kernel took', value('portico_kernel_taken_packets_total'), value('portico_kernel_packets_total'))
    equal('whether the kernel sent anything', value('portico_from_kernel_packets_total') > 0, True)
    for name in ('portico_port_errors_total', 'portico_port_missed_packets_total'):
        equal(name, value(name), 0)
    for labels, count in checks.metrics.get('portico_dropped_packets_total', []):
        equal(f'dropped as {labels["reason"]}', int(count), 0)
    # By a hash replies come back to the worker that has the flow; else with two workers half of them must be handed over.
    handed_over = value('portico_worker_handed_over_packets_total')
    equal('whether workers handed packets over', handed_over > 0, mode == 'nat' and int(workers) > 1 and rss != 'rss')
    print('\n'.join(checks.wrong) or f'packets by queue: {received}')
    return 1 if checks.wrong else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
