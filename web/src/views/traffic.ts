// SPDX-License-Identifier: Apache-2.0
// The chart of what each backend carries.
import uPlot from 'uplot';
import {byId, setAttribute, setText} from '../dom';
import {prefixed} from '../format';
import type {History, Quantity, Track} from '../history';

const kMaxLines = 8;
const kHeight = 260;
// Told apart by those who see no colours, too.
const kDashes = [[], [8, 4], [2, 3], [12, 3, 2, 3]];

export class Traffic {
  private plot?: uPlot;
  private drawn = '';  // what the plot is of
  private readonly what = byId<HTMLSelectElement>('traffic-what');
  private readonly span = byId<HTMLSelectElement>('traffic-span');
  private readonly place = byId('chart');

  constructor(private readonly history: History) {
    const again = () => this.show();
    this.what.addEventListener('change', again);
    this.span.addEventListener('change', again);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.drawn = '';
      this.show();
    });
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
  }

  show() {
    const quantity = this.what.value as Quantity;
    const {tracks, left} = largest([...this.history.tracks.values()], quantity);
    const key = `${quantity} ${tracks.map((track) => `${track.pool}/${track.backend}`).join(' ')}`;
    if (key !== this.drawn) this.make(tracks, quantity);
    this.drawn = key;
    const from = (this.history.times.at(-1) ?? 0) - Number(this.span.value);
    const first = Math.max(0, this.history.times.findIndex((time) => time >= from));
    this.plot?.setData([this.history.times.slice(first), ...tracks.map((track) => track[quantity].slice(first))]);
    const now = tracks.map((track) => `${nameOf(track)} ${prefixed(track[quantity].at(-1) ?? 0)}`);
    setAttribute(this.place, 'aria-label', `${this.what.selectedOptions[0]?.text ?? ''} by backend; now ${now.join(', ')}`);
    setText(byId('chart-note'), left > 0 ? `The ${kMaxLines} backends with most; ${left} others are not drawn.` : '');
  }

  private size() {
    return {width: Math.max(280, this.place.clientWidth), height: kHeight};
  }

  private make(tracks: Track[], quantity: Quantity) {
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = {stroke: colour('--faint'), grid: {stroke: colour('--line'), width: 1}, ticks: {stroke: colour('--line'), width: 1}};
    const unit = quantity === 'bits_per_second' ? 'bit/s' : quantity === 'flows' ? '' : '/s';
    this.plot = new uPlot(
      {
        ...this.size(),
        series: [
          {value: '{HH}:{mm}:{ss}'},
          ...tracks.map((track, i) => ({
            label: nameOf(track),
            stroke: colour(`--line-${i % kMaxLines}`),
            width: 2,
            dash: kDashes[i % kDashes.length]!,
            points: {show: false},
            value: (_: uPlot, value: number | null) => (value === null ? '–' : prefixed(value) + unit),
          })),
        ],
        axes: [
          {...axis, space: 90, values: (_: uPlot, times: number[]) => times.map(clockOf)},
          {...axis, size: 60, values: (_: uPlot, values: number[]) => values.map(prefixed)},
        ],
        scales: {
          // Not a second stretched over the page.
          x: {range: (_: uPlot, first: number, last: number) => [Math.min(first, last - 120), last]},
          y: {range: (_: uPlot, __: number, most: number) => [0, Math.max(1, most * 1.1)]},
        },
        cursor: {points: {size: 7}},
      },
      [[], ...tracks.map(() => [])], this.place);
  }
}

function clockOf(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString('en-GB').slice(0, seconds % 60 === 0 ? 5 : 8);
}

function nameOf(track: Track): string {
  return `${track.pool}/${track.backend}`;
}

/** Those with most, in an order that does not change from second to second: by name. */
export function largest(tracks: Track[], quantity: Quantity): {tracks: Track[]; left: number} {
  if (tracks.length <= kMaxLines) return {tracks, left: 0};
  const most = new Map(tracks.map((track) => [track, Math.max(0, ...track[quantity].map((value) => value ?? 0))]));
  const chosen = new Set([...tracks].sort((a, b) => most.get(b)! - most.get(a)!).slice(0, kMaxLines));
  return {tracks: tracks.filter((track) => chosen.has(track)), left: tracks.length - kMaxLines};
}
