// SPDX-License-Identifier: Apache-2.0
// The head of the page, its warnings, its figures, and the services.
import {byId, Keyed, make, makeTable, setAttribute, setText} from '../dom';
import {age, count, percent, prefixed, rate} from '../format';
import type {Service, Status} from '../types';

const kLevels = {ok: 'all well', degraded: 'degraded', unserved: 'not served'};

interface Figure {
  element: HTMLElement;
  value: HTMLElement;
  note: HTMLElement;
}

export class Overview {
  private readonly warnings: Keyed<{element: HTMLElement}, string>;
  private readonly figures: Keyed<Figure, string[]>;
  private readonly services: Keyed<ServiceRow, Service>;

  constructor() {
    this.warnings = new Keyed<{element: HTMLElement}, string>(byId('warnings'), (text) => ({element: make('p', {}, text)}), () => {});
    this.figures = new Keyed<Figure, string[]>(
      byId('summary'),
      ([name]) => {
        const value = make('strong');
        const note = make('small');
        return {element: make('div', {class: 'figure'}, make('span', {}, name!), value, note), value, note};
      },
      (view, [, value, note]) => {
        setText(view.value, value!);
        setText(view.note, note!);
      });
    const table = makeTable('Services', ['Service', 'Listens on', 'Mode', 'Pool', '#Connections', '#New/s', '#Bit/s']);
    byId('services').append(table.wrap);
    this.services = new Keyed(table.body, () => new ServiceRow(), (row, service) => row.show(service));
  }

  show(status: Status) {
    setText(byId('instance'), status.instance);
    const level = byId('level');
    setText(level, kLevels[status.level] ?? status.level);
    setAttribute(level, 'class', `pill ${status.level}`);
    document.title = `${status.level === 'ok' ? '' : '(!) '}${status.instance} · Portico`;
    const warnings = warningsOf(status);
    byId('warnings').hidden = warnings.length === 0;
    this.warnings.show(warnings, (text) => text);
    this.figures.show(figuresOf(status), ([name]) => name!);
    this.services.show(status.services, (service) => service.name);
    setText(byId('about'), `Portico ${status.version} · control up ${age(status.now_ms - status.control.started_ms)} · ` +
                               `configuration ${status.config.version} of ${status.config.path}`);
  }
}

function warningsOf(status: Status): string[] {
  const list: string[] = [];
  const {dataplane, table} = status;
  if (!dataplane.working) list.push(`The dataplane does not work: ${dataplane.text || dataplane.state}`);
  if (table.refused > 0) list.push(`Table ${table.refused} was refused: ${table.refused_text}`);
  for (const port of dataplane.ports) if (!port.link_up) list.push(`Port ${port.name} has no link`);
  return [...new Set([...list, ...status.warnings.filter((text) => text !== dataplane.text)])];
}

function figuresOf(status: Status): string[][] {
  const sum = (of: (service: Service) => number) => status.services.reduce((total, service) => total + of(service), 0);
  const backends = status.pools.flatMap((pool) => pool.backends);
  const {dataplane, table, drops} = status;
  const out = backends.filter((backend) => backend.admin !== 'active').length;
  const busiest = Math.max(0, ...dataplane.workers.map((worker) => worker.busy));
  return [
    ['Backends up', `${backends.filter((backend) => backend.health === 'up').length} of ${backends.length}`,
     out === 0 ? 'none drained or held' : `${out} drained or held`],
    ['Connections', count(sum((service) => service.flows)), `${rate(sum((service) => service.new_per_second))} new per second`],
    ['Traffic', `${prefixed(sum((service) => service.bits_per_second))}bit/s`, 'of all services'],
    ['Drops', `${rate(drops.per_second)}/s`, drops.top ? `most: ${drops.top}` : 'none at present'],
    ['Dataplane', dataplane.working ? `up ${age(status.now_ms - dataplane.started_ms)}` : 'down',
     dataplane.workers.length === 1 ? `its worker ${percent(busiest)} busy` : `${dataplane.workers.length} workers, the busiest ${percent(busiest)}`],
    ['Table', count(table.adopted), table.adopted === table.published ? 'in use' : `${count(table.published)} published`],
    ...(dataplane.nat_ports_total === 0 ? [] : [['NAT ports', percent(dataplane.nat_ports_used / dataplane.nat_ports_total),
      dataplane.nat_fullest ? `most: ${dataplane.nat_fullest}` : 'of each backend’s']]),
  ];
}

class ServiceRow {
  readonly element = make('tr');
  private readonly name = make('th', {scope: 'row'});
  private readonly cells = ['', '', '', 'number', 'number', 'number'].map((kind) => make('td', kind ? {class: kind} : {}));

  constructor() {
    this.element.append(this.name, ...this.cells);
  }

  show(service: Service) {
    setText(this.name, service.level === 'ok' ? service.name : `${service.name} (${kLevels[service.level]})`);
    setAttribute(this.name, 'class', service.level);
    const proxy = service.proxy_protocol === 'none' ? '' : `, PROXY ${service.proxy_protocol}`;
    [service.listen.join('\n'), service.mode + proxy, service.pool, count(service.flows), rate(service.new_per_second),
     prefixed(service.bits_per_second)].forEach((text, i) => setText(this.cells[i]!, text));
  }
}
