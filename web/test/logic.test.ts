// SPDX-License-Identifier: Apache-2.0
import {describe, expect, it} from 'vitest';
import {consequence} from '../src/actions';
import {age, count, percent, prefixed, rate} from '../src/format';
import {History} from '../src/history';
import {MessageParser} from '../src/sse';
import type {Backend, Pool, Status} from '../src/types';
import {segmentWords} from '../src/views/backends';
import {explanationLines} from '../src/views/explain';
import {largest} from '../src/views/traffic';

function backend(name: string, more: Partial<Backend> = {}): Backend {
  return {name, addresses: [], zone: '', backup: false, standby: '', weight: 100, health: 'up', since_ms: 0, reason: '', admin: 'active', admin_since_ms: 0, admin_who: '',
          admin_why: '', share: 0.5, flows: 7, new_per_second: 1, bits_per_second: 8, checks_passed: 1, checks_total: 1, checks: [], ...more};
}
const poolOf = (...backends: Backend[]): Pool =>
  ({name: 'p', state: 'normal', level: 'ok', up: 1, total: 1, warnings: [], backends});
const statusAt = (seconds: number, ...backends: Backend[]) =>
  ({now_ms: seconds * 1000, pools: [poolOf(...backends)]}) as Status;

describe('numbers read as the command line prints them', () => {
  it.each([[0, '0'], [999, '999'], [1204, '1,204'], [1234567, '1,234,567']])('%d', (n, text) => expect(count(n)).toBe(text));
  it.each([[0.04, '0'], [0.4, '0.4'], [87.3, '87'], [12345, '12,345']])('rate %d', (n, text) => expect(rate(n)).toBe(text));
  it.each([[0, '0'], [340, '340'], [999.7, '1.0k'], [1900, '1.9k'], [12.3e6, '12M'], [1.9e9, '1.9G']])('%d bits', (n, text) =>
    expect(prefixed(n)).toBe(text));
  it.each([[0, '0%'], [0.001, '<1%'], [0.5, '50%'], [0.999, '>99%'], [1, '100%']])('part %d', (n, text) => expect(percent(n)).toBe(text));
  it.each([[-5, '0s'], [12_000, '12s'], [252_000, '4m12s'], [240_000, '4m'], [3 * 3600_000 + 300_000, '3h5m'], [52 * 3600_000, '2d4h'],
           [12 * 86400_000, '12d']])('%d ms', (n, text) => expect(age(n)).toBe(text));
});

describe('server-sent events', () => {
  it('are the same in whatever pieces they come', () => {
    const text = 'event: status\ndata: {"a":1}\n\n:\n\nevent: x\ndata: 1\ndata: 2\n\nevent: half';
    const whole = new MessageParser().push(text);
    expect(whole).toEqual([{event: 'status', data: '{"a":1}'}, {event: 'x', data: '1\n2'}]);
    for (let cut = 1; cut < text.length; ++cut) {
      const parser = new MessageParser();
      expect([...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))]).toEqual(whole);
    }
  });
});

describe('the last hour', () => {
  const loaded = () => {
    const history = new History();
    history.load({interval_ms: 4000, times_ms: [4000, 8000, 12000], backends: [
      {pool: 'p', backend: 'a', states: 'uud', flows: [1, 2, 3], new_per_second: [0, 0, 0], bits_per_second: [0, 0, 0]},
      {pool: 'p', backend: 'b', states: 'u', flows: [9], new_per_second: [0], bits_per_second: [0]}]});
    return history;
  };
  it('is one row of times for all, also for who came later', () => {
    const history = loaded();
    expect(history.tracks.get('p/b')!.flows).toEqual([null, null, 9]);
    expect(history.segments('p/a', 0)).toEqual([{state: 'u', from: 0, to: 8}, {state: 'd', from: 8, to: 12}]);
    expect(history.segments('p/b', 0)).toEqual([{state: 'u', from: 8, to: 12}]);
  });
  it('goes on with readings, and does not lose a short outage', () => {
    const history = loaded();
    expect(history.add(statusAt(16, backend('a'), backend('c')))).toBe(true);
    expect(history.add(statusAt(17, backend('a', {health: 'down'}), backend('c')))).toBe(false);
    expect(history.add(statusAt(18, backend('a', {flows: 5}), backend('c')))).toBe(false);
    expect(history.times).toEqual([4, 8, 12, 16]);
    expect(history.tracks.get('p/a')!.flows).toEqual([1, 2, 3, 5]);
    expect(history.segments('p/a', 0).at(-1)).toEqual({state: 'd', from: 8, to: 16});
    expect([...history.tracks.keys()]).toEqual(['p/a', 'p/c']);
    expect(history.tracks.get('p/c')!.flows).toEqual([null, null, null, 7]);
  });
  it('forgets what is older than an hour, and says nothing of gaps', () => {
    const history = loaded();
    history.add(statusAt(3611, backend('a')));
    expect(history.times).toEqual([12, 3611]);
    expect(history.segments('p/a', 0)).toEqual([{state: 'd', from: 8, to: 12}, {state: 'u', from: 3599, to: 3611}]);
  });
  it('is told in words', () => {
    expect(segmentWords([])).toBe('nothing known yet');
    expect(segmentWords([{state: 'u', from: 0, to: 60}, {state: 'd', from: 60, to: 72}, {state: 'u', from: 72, to: 132}])).toBe(
      'In the last hour: up 2m, down 12s');
  });
});

describe('before a command', () => {
  const a = backend('a', {flows: 1204}), b = backend('b', {weight: 300}), c = backend('c'), d = backend('d', {health: 'down'});
  it('says who will carry what', () => {
    expect(consequence('drain', poolOf(a, b, c, d), a)).toBe(
      'New connections then go to b 75%, c 25%. Its 1,204 connections stay until they end.');
    expect(consequence('hold', poolOf(a, d), a)).toContain('Nobody else takes new connections');
    expect(consequence('resume', poolOf(a, d), d)).toBe('d takes new connections again once its checks pass.');
  });
});

describe('the chart', () => {
  it('has those with most, by name', () => {
    const track = (name: string, value: number) => ({pool: 'p', backend: name, states: [], flows: [value, null], new_per_second: [], bits_per_second: []});
    const many = [...'jihgfedcba'].map((name, i) => track(name, i));
    const chosen = largest(many, 'flows');
    expect(chosen.left).toBe(2);
    expect(chosen.tracks.map((of) => of.backend)).toEqual([...'hgfedcba']);
  });
});

describe('explain', () => {
  it('tells of a denied client that nothing is known', () => {
    const lines = explanationLines({service: 's', listen: '198.18.0.10:443', pool: 'p', mode: 'nat', client: '198.18.0.9', client_port: 1,
      allowed: false, access_rule: {list: 'deny', prefix: '198.18.0.8/31'}, flow: null, backend: null, slot: null, why: 'because',
      next_hop: null, return_hop: null});
    expect(lines).toEqual([['access', 'denied (deny 198.18.0.8/31)'], ['flow', 'none yet'], ['backend', 'none'], ['why', 'because']]);
  });
});
