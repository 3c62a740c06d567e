// SPDX-License-Identifier: Apache-2.0
// Drain, hold, resume; and the token that they need.
import {byId, setText} from './dom';
import {count, percent} from './format';
import {refusal} from './sse';
import type {Backend, Pool} from './types';
import type {Verb} from './views/backends';

const kToken = 'portico-token';  // until this tab is closed

export function token(): string {
  return sessionStorage.getItem(kToken) ?? '';
}

export function headers(): Record<string, string> {
  return token() ? {Authorization: `Bearer ${token()}`} : {};
}

function keep(value: string) {
  if (value) sessionStorage.setItem(kToken, value);
  else sessionStorage.removeItem(kToken);
  setText(byId('lock'), value ? 'Lock' : 'Unlock');
}

/** What a command does, before it is given. */
export function consequence(verb: Verb, pool: Pool, backend: Backend): string {
  if (verb === 'resume') return `${backend.name} takes new connections again${backend.health === 'up' ? '' : ' once its checks pass'}.`;
  const others = pool.backends.filter((other) => other !== backend && other.health === 'up' && other.admin === 'active');
  const weight = others.reduce((sum, other) => sum + other.weight, 0);
  const shares = others.filter((other) => other.weight > 0).map((other) => `${other.name} ${percent(other.weight / weight)}`);
  const who = shares.length === 0 ? 'Nobody else takes new connections of this pool.'
                                  : `New connections then go to ${shares.slice(0, 8).join(', ')}${shares.length > 8 ? ' and others' : ''}.`;
  const stays = `Its ${count(backend.flows)} connections stay until they end.`;
  return `${who} ${stays}${verb === 'hold' ? ' It is not used even when all others are down.' : ''}`;
}

export class Actions {
  private readonly dialog = byId<HTMLDialogElement>('action');
  private readonly form = this.dialog.querySelector('form')!;
  private submit: () => Promise<void> = async () => {};

  constructor(private readonly done: (text: string) => void, private readonly unlocked: () => void) {
    byId('action-cancel').addEventListener('click', () => this.dialog.close());
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.submit();
    });
    byId('lock').addEventListener('click', () => (token() ? this.forget() : this.unlock()));
    keep(token());
  }

  /** Asks for a token, and whether it is a right one. */
  unlock(reason = 'Draining, holding and resuming need a token of portico-control’s token file. It is forgotten when this tab is closed.') {
    this.open('Unlock', reason, 'Unlock', ['token']);
    this.submit = async () => {
      const given = this.field('token').value.trim();
      const answer = await fetch('/v1/events?after=999999999999999', {headers: {Authorization: `Bearer ${given}`}, cache: 'no-store'});
      if (!answer.ok) return this.fail(await refusal(answer));
      keep(given);
      this.dialog.close();
      this.unlocked();
    };
  }

  forget() {
    keep('');
    this.done('Locked');
  }

  ask(verb: Verb, pool: Pool, backend: Backend) {
    const name = verb[0]!.toUpperCase() + verb.slice(1);
    this.open(`${name} ${backend.name}?`, consequence(verb, pool, backend), name,
              [...(token() ? [] : ['token']), ...(verb === 'resume' ? [] : ['why'])]);
    this.submit = async () => {
      const given = token() || this.field('token').value.trim();
      const answer = await fetch(`/v1/backends/${pool.name}/${backend.name}/${verb}`, {
        method: 'POST',
        headers: given ? {Authorization: `Bearer ${given}`} : {},
        body: JSON.stringify({why: this.field('why').value, force: this.field('force').checked}),
      });
      if (!answer.ok) {
        // Refused as the last one: that may be meant.
        byId('action-force').hidden = answer.status !== 409;
        if (answer.status === 401) {
          keep('');
          byId('action-token').hidden = false;
        }
        return this.fail(await refusal(answer));
      }
      keep(given);
      this.dialog.close();
      this.done(`${backend.name}: ${verb} done`);
    };
  }

  private open(title: string, text: string, go: string, fields: string[]) {
    this.form.reset();
    setText(byId('action-title'), title);
    setText(byId('action-text'), text);
    setText(byId('action-go'), go);
    setText(byId('action-error'), '');
    for (const field of ['token', 'why', 'force']) byId(`action-${field}`).hidden = !fields.includes(field);
    this.dialog.showModal();
    (fields[0] ? this.field(fields[0]) : byId('action-go')).focus();
  }

  private field(name: string): HTMLInputElement {
    return this.form.elements.namedItem(name) as HTMLInputElement;
  }

  private fail(text: string) {
    setText(byId('action-error'), text);
  }
}
