// SPDX-License-Identifier: Apache-2.0
// What the page uses of the API's answers; docs/api.md says what each field means.

export type Level = 'ok' | 'degraded' | 'unserved';

export interface Check {
  name: string;
  kind: string;
  target: string;
  state: string;
  reason: string;
  latency_us: number;
}

export interface Backend {
  name: string;
  addresses: string[];
  zone: string;
  backup: boolean;
  standby: string;
  weight: number;
  health: string;
  since_ms: number;
  reason: string;
  admin: string;
  admin_since_ms: number;
  admin_who: string;
  admin_why: string;
  share: number;
  flows: number;
  new_per_second: number;
  bits_per_second: number;
  checks_passed: number;
  checks_total: number;
  checks: Check[];
}

export interface Pool {
  name: string;
  state: string;
  level: Level;
  up: number;
  total: number;
  warnings: string[];
  backends: Backend[];
}

export interface Service {
  name: string;
  listen: string[];
  mode: string;
  proxy_protocol: string;
  pool: string;
  level: Level;
  flows: number;
  new_per_second: number;
  bits_per_second: number;
}

export interface Status {
  instance: string;
  version: string;
  level: Level;
  now_ms: number;
  control: {started_ms: number};
  config: {path: string; version: number; loaded_ms: number};
  table: {published: number; adopted: number; refused: number; refused_text: string};
  dataplane: {
    state: string;
    working: boolean;
    text: string;
    started_ms: number;
    workers: {cpu: number; busy: number}[];
    nat_ports_used: number;
    nat_ports_total: number;
    nat_fullest: string;
    ports: {name: string; link_up: boolean}[];
  };
  drops: {per_second: number; top: string};
  services: Service[];
  pools: Pool[];
  warnings: string[];
}

export interface Drops {
  working: boolean;
  to_kernel: number;
  answered: number;
  drops: {name: string; packets: number; per_second: number; text: string}[];
}

export interface LogEvent {
  id: number;
  at_ms: number;
  kind: string;
  level: 'info' | 'warning' | 'error';
  pool: string;
  backend: string;
  text: string;
  who: string;
  why: string;
}

export interface Past {
  interval_ms: number;
  times_ms: number[];
  backends: {
    pool: string;
    backend: string;
    states: string;
    flows: number[];
    new_per_second: number[];
    bits_per_second: number[];
  }[];
}

export interface Hop {
  address: string;
  mac: string;
  port: string;
  vlan: number;
  resolved: boolean;
}

export interface Explanation {
  service: string;
  listen: string;
  pool: string;
  mode: string;
  client: string;
  client_port: number;
  allowed: boolean;
  access_rule: {list: string; prefix: string} | null;
  flow: {state: string; probationary: boolean; idle_ms: number; worker: number; nat: string | null} | null;
  backend: string | null;
  slot: number | null;
  why: string;
  next_hop: Hop | null;
  return_hop: Hop | null;
  tunnel?: {source: string; destination: string} | null;
  choices?: {name: string; share: number; health: string; admin: string}[];
}
