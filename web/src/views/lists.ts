// SPDX-License-Identifier: Apache-2.0
// Events and drops.
import {byId, Keyed, make, makeTable, setAttribute, setText} from '../dom';
import {clock, count, rate} from '../format';
import type {Drops, LogEvent} from '../types';

const kMaxEvents = 300;

export class Events {
  private list: LogEvent[] = [];
  private readonly kind = byId<HTMLSelectElement>('events-kind');
  private readonly items: Keyed<{element: HTMLElement}, LogEvent>;

  constructor() {
    this.items = new Keyed(byId('event-list'), (event: LogEvent) => ({element: eventItem(event)}), () => {});
    this.kind.addEventListener('change', () => this.show());
  }

  /** The newest's id; 0: none. */
  newest(): number {
    return this.list[0]?.id ?? 0;
  }

  /** Those that are new, oldest first. */
  add(events: LogEvent[]): LogEvent[] {
    const fresh = events.filter((event) => event.id > this.newest());
    this.list = [...[...fresh].reverse(), ...this.list].slice(0, kMaxEvents);
    this.show();
    return fresh;
  }

  private show() {
    const shown = this.list.filter((event) => this.kind.value === '' || event.kind === this.kind.value);
    this.items.show(shown, (event) => String(event.id));
  }
}

function eventItem(event: LogEvent): HTMLElement {
  const time = make('time', {datetime: new Date(event.at_ms).toISOString()}, clock(event.at_ms, Date.now()));
  const text = make('span', {}, event.text);
  if (event.why) text.append(make('small', {}, event.why));
  if (event.who) text.append(make('small', {}, `by ${event.who}`));
  return make('li', {class: event.level}, time, make('span', {class: 'kind'}, event.kind), text);
}

type Drop = Drops['drops'][number];

export class DropTable {
  private last?: Drops;
  private readonly all = byId<HTMLInputElement>('drops-all');
  private readonly rows: Keyed<DropRow, Drop>;
  private readonly note = make('p', {class: 'faint'});

  constructor() {
    const table = makeTable('Dropped packets by reason', ['Reason', '#Packets', '#Per second', 'What it means, and what to do']);
    byId('drops').append(table.wrap, this.note);
    this.rows = new Keyed(table.body, () => new DropRow(), (row, drop) => row.show(drop));
    this.all.addEventListener('change', () => this.last && this.show(this.last));
  }

  show(drops: Drops) {
    this.last = drops;
    const shown = drops.drops.filter((drop) => this.all.checked || drop.packets > 0);
    this.rows.show(shown, (drop) => drop.name);
    const none = shown.length === 0 ? 'No packet was dropped. ' : '';
    const old = drops.working ? '' : 'The dataplane does not work; these are its last counters. ';
    setText(this.note, `${none}${old}${count(drops.to_kernel)} packets were given to the kernel, ${count(drops.answered)} answered with RST or ICMP.`);
  }
}

class DropRow {
  readonly element = make('tr');
  private readonly name = make('th', {scope: 'row'});
  private readonly packets = make('td', {class: 'number'});
  private readonly rate = make('td', {class: 'number'});
  private readonly text = make('td', {class: 'wide'});

  constructor() {
    this.element.append(this.name, this.packets, this.rate, this.text);
  }

  show(drop: Drop) {
    setText(this.name, drop.name);
    setText(this.packets, count(drop.packets));
    setText(this.rate, rate(drop.per_second));
    setAttribute(this.rate, 'class', drop.per_second >= 0.05 ? 'number warning' : 'number');
    setText(this.text, drop.text);
  }
}
