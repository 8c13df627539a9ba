// SPDX-License-Identifier: Apache-2.0
import type { Query, QueryClient } from '@tanstack/react-query';
import type { Schemas } from './client';
import { session } from './session';

// What a change of a kind is seen in: the first words of the keys of queries.
export const seen: Record<string, readonly string[]> = {
  machine: ['machines', 'machine', 'overview', 'reports', 'cves', 'livepatch', 'tokens'],
  livepatch: ['livepatches', 'livepatch', 'policies', 'policy', 'overview', 'machine', 'cves', 'tiers', 'targets', 'rollouts', 'promotions'],
  tier: ['tiers', 'livepatch', 'overview', 'rollouts', 'rollout-settings'],
  job: ['jobs', 'job', 'overview', 'policies', 'policy'],
  policy: ['policies', 'policy', 'updates', 'overview', 'machine', 'cves', 'targets', 'preview'],
  rollout: ['rollouts', 'rollout', 'overview', 'machine', 'livepatch', 'promotions'],
  window: ['targets'],
  setting: ['settings', 'approval-actions', 'rollout-settings', 'promotions', 'channels', 'notifications'],
  tuf: ['trust', 'system'],
  token: ['tokens'],
  operator: ['keys', 'own-keys', 'whoami'],
  user: ['users', 'user', 'account', 'whoami', 'sessions', 'own-sessions', 'passkeys', 'own-keys', 'keys'],
  approval: ['approvals', 'overview'],
  channel: ['channels', 'notifications', 'deliveries'], // a delivery, too
};

// Where a change of one machine, live patch, job or policy is seen only in its
// own page, by the second word of the key.
const own: Record<string, string> = { machine: 'machine', livepatch: 'livepatch', job: 'job', policy: 'policy', rollout: 'rollout' };

// concerned says whether what a query holds may be another after a change.
export function concerned(key: readonly unknown[], changed: Schemas['Changed']): boolean {
  if (changed.all) return true;
  for (const [kind, ids] of Object.entries(changed.kinds)) {
    const words = seen[kind] ?? [kind, `${kind}s`];
    if (!words.includes(String(key[0]))) continue;
    if (key[0] === own[kind] && ids && ids.length > 0 && typeof key[1] === 'string' && !ids.includes(key[1])) continue;
    return true;
  }
  return false;
}

// events cuts whole events out of what came of the stream, and gives the rest.
export function events(text: string): { events: { id: string; data: string }[]; rest: string } {
  const parts = text.split('\n\n');
  const rest = parts.pop() ?? '';
  const all = parts.map((p) => {
    const e = { id: '', data: '' };
    for (const line of p.split('\n')) {
      if (line.startsWith('id: ')) e.id = line.slice(4);
      else if (line.startsWith('data: ')) e.data += line.slice(6);
    }
    return e;
  });
  return { events: all.filter((e) => e.data !== ''), rest };
}

const quiet = 40_000; // two beats of the server and some
const spacing = 2_000; // a page asks again not more often
const spacingOfMachines = 6_000; // in a fleet there is always one that changes

let on = false;
const listeners = new Set<() => void>();

// stream tells whether the server tells what changes. Queries ask again at an
// interval all the same: some things change by time alone.
export const stream = {
  get on() {
    return on;
  },
  subscribe(l: () => void) {
    listeners.add(l);
    return () => {
      listeners.delete(l);
    };
  },
};

function set(to: boolean) {
  if (on === to) return;
  on = to;
  listeners.forEach((l) => l());
}

// listen keeps what is shown right, until it is stopped. A page that nobody
// sees listens to nothing; it asks for everything when it is seen again.
export function listen(client: QueryClient): () => void {
  let last = '';
  let stopped = false;
  let control = new AbortController();
  let pending: Schemas['Changed'][] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  let due = 0; // of the timer
  let told = 0;
  let tries = 0;

  const tell = () => {
    timer = undefined;
    told = Date.now();
    const now = pending;
    pending = [];
    void client.invalidateQueries({ predicate: (q: Query) => now.some((c) => concerned(q.queryKey, c)) });
  };
  const take = (changed: Schemas['Changed']) => {
    if (!changed.all && Object.keys(changed.kinds).length === 0) return;
    pending.push(changed);
    const busy = Object.keys(changed.kinds).every((k) => k === 'machine') && !changed.all;
    const at = Math.max(Date.now() + 150, told + (busy ? spacingOfMachines : spacing));
    if (timer !== undefined && due <= at) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(tell, at - Date.now());
  };

  const follow = async (signal: AbortSignal) => {
    const headers = new Headers({ Accept: 'text/event-stream' });
    if (session.credential !== '') headers.set('Authorization', `Bearer ${session.credential}`);
    if (last !== '') headers.set('Last-Event-ID', last);
    const r = await fetch('/v1/events', { headers, signal, cache: 'no-store', credentials: 'same-origin' });
    if (!r.ok || !r.body) throw new Error(`events: ${r.status}`);
    const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const silence = setTimeout(() => void reader.cancel(), quiet);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      set(true);
      tries = 0;
      const cut = events(text + value);
      text = cut.rest;
      for (const e of cut.events) {
        if (e.id !== '') last = e.id;
        take(JSON.parse(e.data) as Schemas['Changed']);
      }
    }
  };

  const run = async () => {
    while (!stopped) {
      if (document.visibilityState === 'hidden') {
        await new Promise<void>((seenAgain) => document.addEventListener('visibilitychange', () => seenAgain(), { once: true }));
        continue;
      }
      control = new AbortController();
      try {
        await follow(control.signal);
      } catch {
        // It is tried again; what else the server or the network has to say is said by the queries.
      }
      set(false);
      if (stopped) return;
      const wait = Math.min(60_000, 1000 * 2 ** tries++) * (0.75 + Math.random() / 2);
      await new Promise((go) => setTimeout(go, wait));
    }
  };
  const away = () => {
    if (document.visibilityState === 'hidden') control.abort();
  };
  document.addEventListener('visibilitychange', away);
  void run();
  return () => {
    stopped = true;
    control.abort();
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', away);
  };
}
