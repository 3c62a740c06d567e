// SPDX-License-Identifier: Apache-2.0
// Pools and their backends: state, share, traffic, the last hour, and what an operator can do.
import {byId, Keyed, make, makeSvg, makeTable, setAttribute, setText} from '../dom';
import {age, count, percent, prefixed, rate} from '../format';
import {kSpanSeconds, type History, type Segment, type State} from '../history';
import type {Backend, Pool, Status} from '../types';

export type Verb = 'drain' | 'hold' | 'resume';
export type Act = (verb: Verb, pool: Pool, backend: Backend) => void;

const kStates: Record<State, string> = {u: 'up', d: 'down', '?': 'unknown', n: 'drained', h: 'held'};
// By height, too, not by colour alone.
const kHeights: Record<State, number> = {u: 8, d: 20, '?': 4, n: 12, h: 12};

interface Shown {
  status: Status;
  pool: Pool;
  backend: Backend;
}

export class Backends {
  private readonly pools: Keyed<PoolCard, {status: Status; pool: Pool}>;

  constructor(private readonly history: History, act: Act) {
    const list = make('div', {class: 'pools'});
    byId('backends').append(list);
    this.pools = new Keyed(list, () => new PoolCard(act), (card, data) => card.show(data.status, data.pool));
  }

  show(status: Status) {
    this.pools.show(status.pools.map((pool) => ({status, pool})), ({pool}) => pool.name);
  }

  /** The last hours, which change with each sample only. */
  showHistory(now: number) {
    for (const strip of Strip.all) strip.show(this.history, now);
  }
}

class PoolCard {
  readonly element = make('article', {class: 'card'});
  private readonly title = make('h3');
  private readonly warnings = make('p', {class: 'warning'});
  private readonly rows: Keyed<BackendRow, Shown>;

  constructor(act: Act) {
    const table = makeTable('Backends of this pool',
      ['Backend', 'State', 'Share', '#Connections', '#New/s', '#Bit/s', 'Last hour', 'Checks', 'Actions']);
    this.element.append(this.title, this.warnings, table.wrap);
    this.rows = new Keyed(table.body, () => new BackendRow(act), (row, data) => row.show(data));
  }

  show(status: Status, pool: Pool) {
    setText(this.title, `${pool.name}: ${pool.up} of ${pool.total} up`);
    setText(this.warnings, pool.warnings.join(' · '));
    setAttribute(this.warnings, 'class', pool.level === 'unserved' ? 'bad' : 'warning');
    this.warnings.hidden = pool.warnings.length === 0;
    this.rows.show(pool.backends.map((backend) => ({status, pool, backend})), ({backend}) => backend.name);
  }
}

class BackendRow {
  readonly element = make('tr');
  private readonly name = make('strong');
  private readonly addresses = make('small');
  private readonly state = make('span', {class: 'pill'});
  private readonly since = make('small');
  private readonly share = make('span');
  private readonly bar = make('i', {class: 'fill', 'aria-hidden': 'true'});
  private readonly numbers = [0, 1, 2].map(() => make('td', {class: 'number'}));
  private readonly strip = new Strip();
  private readonly checks = make('td', {class: 'checks'});
  private readonly buttons: Record<Verb, HTMLButtonElement>;
  private shown?: Shown;

  constructor(act: Act) {
    const button = (verb: Verb, text: string) => {
      const made = make('button', {type: 'button'}, text);
      made.addEventListener('click', () => this.shown && act(verb, this.shown.pool, this.shown.backend));
      return made;
    };
    this.buttons = {drain: button('drain', 'Drain'), hold: button('hold', 'Hold'), resume: button('resume', 'Resume')};
    this.element.append(
      make('th', {scope: 'row'}, this.name, this.addresses),
      make('td', {}, this.state, this.since),
      make('td', {class: 'share'}, this.share, make('span', {class: 'gauge'}, this.bar)),
      ...this.numbers,
      make('td', {}, this.strip.element),
      this.checks,
      make('td', {class: 'actions'}, ...Object.values(this.buttons)));
  }

  show(data: Shown) {
    this.shown = data;
    const {status, pool, backend} = data;
    setAttribute(this.element, 'data-backend', `${pool.name}/${backend.name}`);
    setAttribute(this.element, 'data-health', backend.health);
    setAttribute(this.element, 'data-admin', backend.admin);
    setText(this.name, backend.name);
    setText(this.addresses, backend.addresses.join('\n'));
    setText(this.state, stateWords(backend));
    setAttribute(this.state, 'class', `pill ${backend.health} ${backend.admin}`);
    setText(this.since, backend.since_ms > 0 ? age(status.now_ms - backend.since_ms) : '');
    setText(this.share, percent(backend.share));
    this.bar.style.width = `${(backend.share * 100).toFixed(1)}%`;
    [count(backend.flows), rate(backend.new_per_second), prefixed(backend.bits_per_second)].forEach(
      (text, i) => setText(this.numbers[i]!, text));
    this.strip.follow(`${pool.name}/${backend.name}`);
    setText(this.checks, checksText(status, backend));
    setAttribute(this.checks, 'class', backend.reason ? 'checks bad' : 'checks');
    setAttribute(this.checks, 'title', backend.checks.map(checkText).join('\n'));
    this.showButtons(backend);
  }

  private showButtons(backend: Backend) {
    for (const [verb, button] of Object.entries(this.buttons)) {
      const hidden = verb === 'resume' ? backend.admin === 'active'
                   : verb === 'drain' ? backend.admin !== 'active' : backend.admin === 'held';
      // Not lost from under the keyboard: the next button of the row takes the focus.
      if (hidden && document.activeElement === button)
        this.element.querySelector<HTMLElement>('td.actions button:not([hidden])')?.focus();
      button.hidden = hidden;
      setAttribute(button, 'aria-label', `${button.textContent} ${backend.name}`);
    }
  }
}

function stateWords(backend: Backend): string {
  const health = backend.health === 'unknown' ? 'waiting' : backend.health;
  if (backend.admin === 'active') return backend.standby ? `${health}, standby` : health;
  return `${health}, ${backend.admin}`;
}

function checkText(check: Backend['checks'][number]): string {
  return `${check.name} (${check.kind} ${check.target}): ${check.state}${check.reason ? `, ${check.reason}` : ''}`;
}

function checksText(status: Status, backend: Backend): string {
  const lines = [backend.reason || `${backend.checks_passed} of ${backend.checks_total} pass`];
  if (backend.admin !== 'active') {
    const who = backend.admin_who ? ` by ${backend.admin_who}` : '';
    const since = backend.admin_since_ms > 0 ? ` ${age(status.now_ms - backend.admin_since_ms)} ago` : '';
    lines.push(`${backend.admin}${since}${who}${backend.admin_why ? `: ${backend.admin_why}` : ''}`);
  }
  if (backend.weight === 0) lines.push('weight 0');
  const place = [backend.zone && `zone ${backend.zone}`, backend.backup && 'backup'].filter(Boolean).join(', ');
  if (backend.standby) lines.push(`standby: ${backend.standby}`);
  else if (place) lines.push(place);
  return lines.join('\n');
}

/** The last hour as coloured bars, with the same in words for those who cannot see them. */
class Strip {
  static readonly all = new Set<Strip>();
  readonly element = makeSvg('svg', {class: 'strip', viewBox: `0 0 ${kSpanSeconds} 20`, preserveAspectRatio: 'none', role: 'img',
                                       'aria-label': segmentWords([])});
  private key = '';

  follow(key: string) {
    this.key = key;
    Strip.all.add(this);
  }

  show(history: History, now: number) {
    if (!this.element.isConnected) {
      Strip.all.delete(this);
      return;
    }
    const segments = history.segments(this.key, now - kSpanSeconds);
    setAttribute(this.element, 'aria-label', segmentWords(segments));
    this.element.replaceChildren(...segments.map((segment) => this.bar(segment, now)));
  }

  private bar(segment: Segment, now: number): SVGElement {
    const height = kHeights[segment.state];
    const x = kSpanSeconds - (now - segment.from);
    // Ten seconds of an hour are a third of a pixel: nobody would see that it was down.
    const width = Math.max(segment.to - segment.from, segment.state === 'd' ? 24 : 0);
    const bar = makeSvg('rect', {class: `state-${kStates[segment.state]}`, x, y: 20 - height, width, height});
    const title = makeSvg('title', {});
    title.textContent = `${kStates[segment.state]} ${age((segment.to - segment.from) * 1000)}, ` +
      `until ${age((now - segment.to) * 1000)} ago`;
    bar.append(title);
    return bar;
  }
}

/** "up 54m, down 2m12s" */
export function segmentWords(segments: Segment[]): string {
  const sums = new Map<State, number>();
  for (const {state, from, to} of segments) sums.set(state, (sums.get(state) ?? 0) + to - from);
  if (sums.size === 0) return 'nothing known yet';
  return `In the last hour: ${[...sums].map(([state, s]) => `${kStates[state]} ${age(s * 1000)}`).join(', ')}`;
}
