// SPDX-License-Identifier: Apache-2.0
// The last hour of each backend: what control kept, and what the stream adds.
import type {Backend, Past, Status} from './types';

export const kSpanSeconds = 3600;

/** One letter for each sample: u up, d down, ? unknown, n drained, h held. */
export type State = 'u' | 'd' | '?' | 'n' | 'h';
export type Quantity = 'flows' | 'new_per_second' | 'bits_per_second';
type Values = (number | null)[];

export interface Track {
  pool: string;
  backend: string;
  states: string[];
  flows: Values;
  new_per_second: Values;
  bits_per_second: Values;
}

/** A time in which the state was the same; seconds of Unix time. */
export interface Segment {
  state: State;
  from: number;
  to: number;
}

export function stateOf(backend: Backend): State {
  if (backend.health === 'unknown') return '?';
  if (backend.health === 'down' || backend.health === 'recovering') return 'd';
  if (backend.admin === 'held') return 'h';
  return backend.admin === 'drained' ? 'n' : 'u';
}

export class History {
  times: number[] = [];
  readonly tracks = new Map<string, Track>();
  private interval = 4;

  load(past: Past) {
    this.interval = past.interval_ms / 1000;
    this.times = past.times_ms.map((ms) => ms / 1000);
    this.tracks.clear();
    for (const of of past.backends) {
      const missing = this.times.length - of.states.length;
      const pad = (values: number[]): Values => [...new Array<null>(missing).fill(null), ...values];
      this.tracks.set(`${of.pool}/${of.backend}`, {
        pool: of.pool,
        backend: of.backend,
        states: [...new Array<string>(missing).fill(''), ...of.states],
        flows: pad(of.flows),
        new_per_second: pad(of.new_per_second),
        bits_per_second: pad(of.bits_per_second),
      });
    }
  }

  /** The newest reading: a new sample when it is time for one, else in place of the last. True if a new one. */
  add(status: Status): boolean {
    const now = status.now_ms / 1000;
    const last = this.times.length - 1;
    const isNew = last < 0 || now - this.times[last]! >= this.interval;
    if (isNew) this.times.push(now);
    const length = this.times.length;
    const configured = new Set<string>();
    for (const pool of status.pools)
      for (const backend of pool.backends) {
        const key = `${pool.name}/${backend.name}`;
        configured.add(key);
        this.note(this.track(key, pool.name, backend.name, length - (isNew ? 1 : 0)), backend, length - 1);
      }
    for (const key of this.tracks.keys()) if (!configured.has(key)) this.tracks.delete(key);
    this.forget(now - kSpanSeconds);
    return isNew;
  }

  segments(key: string, from: number): Segment[] {
    const track = this.tracks.get(key);
    const list: Segment[] = [];
    if (!track) return list;
    for (let i = 0; i < this.times.length; ++i) {
      const state = track.states[i] as State | '' | undefined;
      // A sample tells of the time since the one before; a gap, when control was away, tells nothing.
      const begin = Math.max(i > 0 ? this.times[i - 1]! : this.times[i]! - this.interval,
                             this.times[i]! - 3 * this.interval, from);
      if (!state || this.times[i]! <= begin) continue;
      const open = list.at(-1);
      if (open && open.state === state && begin - open.to < 0.001) open.to = this.times[i]!;
      else list.push({state, from: begin, to: this.times[i]!});
    }
    return list;
  }

  private track(key: string, pool: string, backend: string, length: number): Track {
    let track = this.tracks.get(key);
    if (!track) {
      const none = (): Values => new Array<null>(length).fill(null);
      track = {pool, backend, states: new Array<string>(length).fill(''), flows: none(), new_per_second: none(),
               bits_per_second: none()};
      this.tracks.set(key, track);
    }
    return track;
  }

  private note(track: Track, backend: Backend, at: number) {
    // Down, if only for a moment, is what the sample shows.
    if (track.states[at] !== 'd') track.states[at] = stateOf(backend);
    track.flows[at] = backend.flows;
    track.new_per_second[at] = backend.new_per_second;
    track.bits_per_second[at] = backend.bits_per_second;
  }

  private forget(before: number) {
    const old = this.times.findIndex((time) => time >= before);
    if (old <= 0) return;
    this.times.splice(0, old);
    for (const track of this.tracks.values())
      for (const list of [track.states, track.flows, track.new_per_second, track.bits_per_second]) list.splice(0, old);
  }
}
