// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it, vi } from 'vitest';

const store = new Map<string, string>();
vi.stubGlobal('localStorage', { getItem: (k: string) => store.get(k) ?? null, setItem: (k: string, v: string) => void store.set(k, v) });
vi.stubGlobal('window', { addEventListener: () => undefined });
vi.stubGlobal('document', { documentElement: { lang: '' } });

const { en } = await import('./i18n/en');
const { ja } = await import('./i18n/ja');
const { setLanguage, word } = await import('./i18n');
const { ago, bytes, count, duration, percent } = await import('./format');
const { field } = await import('./csv');
const { cveOf } = await import('./cve');

type Tree = { [k: string]: string | ((...a: never[]) => string) | Tree };

function flat(t: Tree, at = ''): [string, unknown][] {
  return Object.entries(t).flatMap(([k, v]): [string, unknown][] => (typeof v === 'object' ? flat(v, `${at}${k}.`) : [[at + k, v]]));
}

describe('the dictionaries', () => {
  const a = new Map(flat(en as Tree));
  const b = new Map(flat(ja as Tree));
  it('have the same words', () => expect([...b.keys()].sort()).toEqual([...a.keys()].sort()));
  it('have no empty word', () => {
    for (const [k, v] of [...a, ...b]) if (typeof v === 'string') expect(v.trim(), k).not.toBe('');
  });
  it('put what they are given into what they say', () => {
    for (const [k, v] of b) {
      if (typeof v !== 'function' || v.length === 0) continue;
      const given = ['First9', 'Second9'].slice(0, v.length);
      for (const g of given) expect((v as (...x: string[]) => string)(...given), k).toContain(g);
    }
  });
  it('are Japanese where they are', () => {
    const same = new Set(['product', 'machines.csv', 'audit.csv', 'jobs.cves', 'search.cve', 'channelType.webhook', 'overview.and']); // names
    for (const [k, v] of b) {
      if (typeof v === 'string' && !same.has(k)) expect(/[ぁ-んァ-ヶ一-龠]/.test(v), `${k}: ${v}`).toBe(true);
    }
  });
  it('show a word that is newer than the console', () => {
    expect(word(en.protection, 'protected')).toBe('Protected');
    expect(word(en.protection, 'brand-new')).toBe('brand-new');
    expect(word(en.protection, 'constructor')).toBe('constructor');
    expect(word(en.protection, undefined)).toBe('');
  });
});

describe('numbers and times', () => {
  beforeEach(() => setLanguage('en', false));
  it('never say all while one is missing', () => {
    expect(percent(100_000, 100_000)).toBe('100%');
    expect(percent(99_999, 100_000)).toBe('99.9%');
    expect(percent(1, 100_000)).toBe('0.1%');
    expect(percent(0, 10)).toBe('0%');
    expect(percent(0, 0)).toBe('–');
  });
  it('say when', () => {
    const now = Date.UTC(2026, 10, 22, 12);
    expect(ago(now - 100_000, now)).toMatch(/^2 min/);
    expect(ago(now + 6 * 86_400_000 - 5_000, now)).toBe('in 6 days');
    expect(ago(now, now)).toBe('now');
  });
  it('say how long', () => {
    expect(duration(312)).toBe('312ms');
    expect(duration(3_600_000)).toBe('1h');
    expect(duration(3_660_000)).toBe('1h 1m');
    expect(duration(90_061_000)).toBe('1d 1h');
    expect(duration(-5)).toBe('0ms');
  });
  it('are written for the language', async () => {
    expect(count(1234567)).toBe('1,234,567');
    expect(bytes(47_120)).toBe('47 kB');
    await setLanguage('ja', false);
    expect(duration(3_660_000)).toBe('1 時間 1 分');
  });
});

describe('CSV', () => {
  it('is no formula', () => {
    expect(field('=cmd()')).toBe("'=cmd()");
    expect(field('-1')).toBe("'-1");
    expect(field('web-01')).toBe('web-01');
  });
  it('quotes what has to be', () => {
    expect(field('a,b')).toBe('"a,b"');
    expect(field('a"b\nc')).toBe('"a""b\nc"');
  });
});

describe('the name of a CVE', () => {
  it.each([
    ['CVE-2026-31431', 'CVE-2026-31431'],
    [' cve-2026-31431 ', 'CVE-2026-31431'],
    ['2026-31431', 'CVE-2026-31431'],
    ['cve 2026-31431', 'CVE-2026-31431'],
    ['CVE-2026-1', ''],
    ['CVE-2026-31431x', ''],
    ['../../etc', ''],
    ['', ''],
  ])('%s', (typed, name) => expect(cveOf(typed)).toBe(name));
});
