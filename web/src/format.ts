// SPDX-License-Identifier: Apache-2.0
// Numbers and times as `portico` prints them.

/** "1,204" */
export function count(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

/** Per second: "0", "0.4", "87", "12,345". */
export function rate(value: number): string {
  if (value < 0.05) return '0';
  return value < 10 ? value.toFixed(1) : count(value);
}

/** With a decimal prefix: "0", "340", "1.9k", "12M". */
export function prefixed(value: number): string {
  const prefixes = ['', 'k', 'M', 'G', 'T'];
  let at = 0;
  while (value >= 999.5 && at < prefixes.length - 1) {
    value /= 1000;
    ++at;
  }
  return (at > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value).toString()) + prefixes[at];
}

/** `part` is 0 to 1. What is not all or nothing does not look like it: "<1%", ">99%". */
export function percent(part: number): string {
  if (part > 0 && part < 0.005) return '<1%';
  if (part < 1 && part >= 0.995) return '>99%';
  return `${Math.round(part * 100)}%`;
}

/** The two leading units at most: "12s", "4m12s", "3h5m", "2d4h", "12d". */
export function age(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s}s`;
  const two = (big: number, unit: string, small: number, other: string) =>
    small === 0 ? `${big}${unit}` : `${big}${unit}${small}${other}`;
  if (s < 3600) return two(Math.floor(s / 60), 'm', s % 60, 's');
  if (s < 86400) return two(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'm');
  const days = Math.floor(s / 86400);
  return days >= 10 ? `${days}d` : two(days, 'd', Math.floor((s % 86400) / 3600), 'h');
}

/** The time of day, with the date if it is not today's. */
export function clock(ms: number, now_ms: number): string {
  const at = new Date(ms);
  const time = at.toLocaleTimeString('en-GB');
  if (at.toDateString() === new Date(now_ms).toDateString()) return time;
  return `${at.toLocaleDateString('en-GB', {day: 'numeric', month: 'short'})} ${time}`;
}
