// SPDX-License-Identifier: Apache-2.0
import 'uplot/dist/uPlot.min.css';
import './style.css';
import {Actions, headers, token} from './actions';
import {byId, setAttribute, setText} from './dom';
import {History} from './history';
import {Broken, read, type Message} from './sse';
import type {Drops, LogEvent, Past, Status} from './types';
import {Backends} from './views/backends';
import {Explain} from './views/explain';
import {DropTable, Events} from './views/lists';
import {Overview} from './views/overview';
import {Traffic} from './views/traffic';

const kRetryMs = 1000;
const kSilenceMs = 30_000;  // control says something each 15 s at least

const history = new History();
const actions = new Actions(announce, () => restart.abort());
const overview = new Overview();
const backends = new Backends(history, (verb, pool, backend) => actions.ask(verb, pool, backend));
const traffic = new Traffic(history);
const events = new Events();
const drops = new DropTable();
const explain = new Explain(headers);
let restart = new AbortController();
let isLoaded = false;  // the history, and not shown yet
let isFirst = true;  // what happened before this page was opened is no news

function announce(text: string) {
  setText(byId('announce'), text);
}

function showConnection(state: string, text: string) {
  const element = byId('connection');
  setText(element, text);
  setAttribute(element, 'class', state);
  document.body.classList.toggle('stale', state !== 'live');
}

function showStatus(status: Status) {
  const isNew = history.add(status);
  overview.show(status);
  backends.show(status);
  explain.show(status);
  if (isNew || isLoaded) backends.showHistory(status.now_ms / 1000);
  isLoaded = false;
  traffic.show();
}

function take(message: Message) {
  if (message.event === 'status') showStatus(JSON.parse(message.data) as Status);
  if (message.event === 'drops') drops.show(JSON.parse(message.data) as Drops);
  if (message.event !== 'events') return;
  const fresh = events.add(JSON.parse(message.data) as LogEvent[]);
  const told = isFirst ? [] : fresh.filter((event) => event.kind === 'health' || event.level === 'error');
  isFirst = false;
  if (told.length > 0) announce(told.map((event) => event.text).join('; '));
}

/** From its past to its end; rejects when it ends. */
async function follow() {
  restart = new AbortController();
  const past = await fetch('/v1/history', {headers: headers(), cache: 'no-store', signal: restart.signal});
  if (!past.ok) throw new Broken(past.status, '');
  history.load((await past.json()) as Past);
  isLoaded = true;
  let watch = 0;
  const isAlive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => restart.abort(), kSilenceMs);
  };
  isAlive();
  try {
    await read(`/v1/stream?after=${events.newest()}`, headers(), restart.signal, (message) => {
      isAlive();
      showConnection('live', 'live');
      take(message);
    });
  } finally {
    clearTimeout(watch);
  }
}

async function main() {
  let isAsked = false;
  for (;;) {
    try {
      await follow();
    } catch (error) {
      const status = error instanceof Broken ? error.status : 0;
      showConnection('broken', status === 401 ? 'a token is needed' : status === 503 ? 'too many pages are open' : 'not connected; trying again');
      if (status === 401 && token()) actions.forget();  // it is none any more
      else if (status === 401 && !isAsked) actions.unlock('Reading needs a token here. It is forgotten when this tab is closed.');
      isAsked = status === 401;
    }
    await new Promise((go) => setTimeout(go, kRetryMs));
  }
}

void main();
