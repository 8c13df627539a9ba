// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { concerned, events, seen } from './events';

const sources: Record<string, string> = import.meta.glob(['../**/*.ts', '../**/*.tsx', '!../**/*.test.ts'], { query: '?raw', import: 'default', eager: true });
const keys = new Set(Object.values(sources).flatMap((text) => [...text.matchAll(/queryKey: \['([^']+)'/g)].map((m) => m[1])));

describe('what a change is seen in', () => {
  it.each(Object.entries(seen))('%s: names queries that there are', (_, words) => expect(words.filter((w) => !keys.has(w))).toEqual([]));
  it('every list that people change is told of', () => {
    // What changes by time alone, or never, is asked for at an interval.
    const untold = ['sign-in-methods', 'auditchain', 'audit', 'history', 'link', 'machine name', 'patchdiff', 'patchproof', 'patchprovenance', 'rollout-preview'];
    const told = new Set(Object.values(seen).flat());
    expect([...keys].filter((k) => !told.has(k ?? '')).sort()).toEqual(untold.sort());
  });
  it('the page of another one is left alone', () => {
    const changed = { all: false, kinds: { machine: ['a'] } };
    expect(concerned(['machine', 'a'], changed)).toBe(true);
    expect(concerned(['machine', 'b'], changed)).toBe(false);
    expect(concerned(['deliveries', {}], { all: false, kinds: { channel: [] } })).toBe(true);
    expect(concerned(['settings'], { all: true, kinds: {} })).toBe(true);
  });
});

describe('the stream of changes', () => {
  it('is cut at whole events, wherever it was broken', () => {
    const text = 'id: 1\ndata: {"a":1}\n\n: beat\n\nid: 2\ndata: {}\n\nid: 3\nda';
    for (let i = 0; i <= text.length; i++) {
      const first = events(text.slice(0, i));
      const second = events(first.rest + text.slice(i));
      expect([...first.events, ...second.events]).toEqual([{ id: '1', data: '{"a":1}' }, { id: '2', data: '{}' }]);
      expect(second.rest).toBe('id: 3\nda');
    }
  });
});
