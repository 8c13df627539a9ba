// SPDX-License-Identifier: Apache-2.0
import { currentLanguage, type Language } from './i18n';

// All times of the API are milliseconds since 1970 UTC; 0 and undefined: never.

// perLanguage keeps what is made of a language: a table has hundreds of times,
// and each maker of Intl costs more than all of its answers.
function perLanguage<T>(make: (language: Language) => T): () => T {
  const made = new Map<Language, T>();
  return () => {
    const l = currentLanguage();
    const there = made.get(l) ?? make(l);
    made.set(l, there);
    return there;
  };
}

const dateTimes = perLanguage((l) => new Intl.DateTimeFormat(l, { dateStyle: 'medium', timeStyle: 'medium' }));
const dates = perLanguage((l) => new Intl.DateTimeFormat(l, { dateStyle: 'medium' }));
const days = perLanguage((l) => new Intl.DateTimeFormat(l, { dateStyle: 'medium', timeZone: 'UTC' }));
const numbers = perLanguage((l) => new Intl.NumberFormat(l));
// "yesterday" would be wrong of 30 hours ago in the morning: only "now" is said in words.
const relative = perLanguage((l) => new Intl.RelativeTimeFormat(l, { numeric: 'always', style: 'short' }));
const now = perLanguage((l) => new Intl.RelativeTimeFormat(l, { numeric: 'auto', style: 'short' }).format(0, 'second'));

export function dateTime(ms: number): string {
  return dateTimes().format(ms);
}

// localInput is a time as a field of the kind datetime-local has it.
export function localInput(ms: number): string {
  const d = new Date(ms);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${two(d.getHours())}:${two(d.getMinutes())}`;
}

export function date(ms: number): string {
  return dates().format(ms);
}

// day is a date that the API means as one, by UTC: the same one wherever it is read.
export function day(ms: number): string {
  return days().format(ms);
}

const units: [Intl.RelativeTimeFormatUnit, number][] = [
  ['year', 365 * 86_400_000],
  ['month', 30 * 86_400_000],
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
];

export function ago(ms: number, at = Date.now()): string {
  const diff = ms - at;
  for (const [unit, size] of units) {
    if (Math.abs(diff) >= size) return relative().format(Math.round(diff / size), unit);
  }
  return now();
}

export function duration(ms: number): string {
  const language = currentLanguage();
  const f = (value: number, unit: string) =>
    new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: language === 'ja' ? 'short' : 'narrow' }).format(value);
  const two = (n: number, unit: string, rest: number, of: string) => (rest === 0 ? f(n, unit) : `${f(n, unit)} ${f(rest, of)}`);
  if (ms < 1000) return f(Math.max(0, Math.round(ms)), 'millisecond');
  const s = Math.round(ms / 1000);
  if (s < 60) return f(s, 'second');
  if (s < 3600) return two(Math.floor(s / 60), 'minute', s % 60, 'second');
  if (s < 86_400) return two(Math.floor(s / 3600), 'hour', Math.floor((s % 3600) / 60), 'minute');
  return two(Math.floor(s / 86_400), 'day', Math.floor((s % 86_400) / 3600), 'hour');
}

export function count(n: number): string {
  return numbers().format(n);
}

export function percent(part: number, whole: number): string {
  if (whole === 0) return '–';
  // Never 100 % while one is missing, and never 0 % while there is one.
  const p = part === whole ? 1 : Math.min(part / whole, 0.999);
  const digits = p === 1 || p === 0 ? 0 : 1;
  return new Intl.NumberFormat(currentLanguage(), { style: 'percent', maximumFractionDigits: digits }).format(p > 0 ? Math.max(p, 0.001) : 0);
}

export function bytes(n: number): string {
  const names = ['byte', 'kilobyte', 'megabyte', 'gigabyte'];
  let i = 0;
  let v = n;
  while (v >= 1000 && i < names.length - 1) {
    v /= 1000;
    i++;
  }
  return new Intl.NumberFormat(currentLanguage(), {
    style: 'unit', unit: names[i], unitDisplay: 'short', maximumFractionDigits: v < 10 && i > 0 ? 1 : 0,
  }).format(v);
}
