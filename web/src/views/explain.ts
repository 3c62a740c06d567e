// SPDX-License-Identifier: Apache-2.0
// Where a connection goes, or would go.
import {byId, make} from '../dom';
import {age, count, percent} from '../format';
import type {Explanation, Hop, Status} from '../types';
import {refusal} from '../sse';

export class Explain {
  private readonly form = byId<HTMLFormElement>('explain-form');
  private readonly services = this.form.elements.namedItem('service') as HTMLSelectElement;
  private readonly result = byId('explanation');

  constructor(headers: () => HeadersInit) {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.ask(headers());
    });
  }

  show(status: Status) {
    const names = status.services.map((service) => service.name);
    if ([...this.services.options].map((option) => option.value).join(' ') === names.join(' ')) return;
    const chosen = this.services.value;
    this.services.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  }

  private async ask(headers: HeadersInit) {
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(this.form)) if (value !== '') asked.set(name, String(value).trim());
    try {
      const answer = await fetch(`/v1/explain?${asked}`, {headers, cache: 'no-store'});
      if (!answer.ok) throw new Error(await refusal(answer));
      this.result.replaceChildren(...explanationOf((await answer.json()) as Explanation));
    } catch (error) {
      this.result.replaceChildren(make('p', {class: 'bad'}, (error as Error).message));
    }
  }
}

/** What is told, as pairs of a name and words. */
export function explanationLines(told: Explanation): [string, string][] {
  const lines: [string, string][] = [];
  const rule = told.access_rule ? ` (${told.access_rule.list} ${told.access_rule.prefix})` : '';
  lines.push(['access', (told.allowed ? 'allowed' : 'denied') + rule]);
  if (!told.choices) {
    const flow = told.flow;
    lines.push(['flow', flow ? `${flow.state}${flow.probationary ? ', on probation' : ''}, idle for ${age(flow.idle_ms)}, ` +
                               `worker ${flow.worker}${flow.nat ? `, from ${flow.nat}` : ''}` : 'none yet']);
    const slot = told.slot !== null && !flow ? ` (slot ${count(told.slot)})` : '';
    lines.push(['backend', told.backend ? told.backend + slot : 'none']);
  }
  if (told.why) lines.push(['why', told.why]);
  if (told.tunnel) lines.push(['tunnel', `from ${told.tunnel.source} to ${told.tunnel.destination}`]);
  if (told.next_hop) lines.push(['next hop', hopWords(told.next_hop)]);
  if (told.return_hop) lines.push(['return', hopWords(told.return_hop)]);
  for (const choice of told.choices ?? [])
    lines.push([choice.name, `${percent(choice.share)}, ${choice.health}${choice.admin === 'active' ? '' : `, ${choice.admin}`}`]);
  return lines;
}

function hopWords(hop: Hop): string {
  const vlan = hop.vlan > 0 ? ` VLAN ${hop.vlan}` : '';
  return `${hop.address} ${hop.resolved ? `(${hop.mac})` : '(its MAC address is not known)'} by ${hop.port}${vlan}`;
}

function explanationOf(told: Explanation): HTMLElement[] {
  const port = told.client_port > 0 ? `, port ${told.client_port},` : '';
  const list = make('dl');
  for (const [name, words] of explanationLines(told)) list.append(make('dt', {}, name), make('dd', {}, words));
  return [make('p', {}, `${told.client}${port} to ${told.service} on ${told.listen} (${told.mode})`), list];
}
