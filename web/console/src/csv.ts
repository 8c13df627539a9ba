// SPDX-License-Identifier: Apache-2.0
import { api, ask, type Schemas } from './api/client';
import type { MachineQuery } from './api/queries';
import { download } from './download';

type Machine = Schemas['Machine'];

const time = (ms: number | undefined) => (ms ? new Date(ms).toISOString() : '');

// The columns' names are of the API and the same in every language: programs read them.
export const columns: readonly (readonly [string, (m: Machine) => string])[] = [
  ['id', (m) => m.id],
  ['hostname', (m) => m.hostname],
  ['protection', (m) => m.protection],
  ['reason', (m) => m.reason ?? ''],
  ['tier', (m) => m.tier],
  ['group', (m) => m.group ?? ''],
  ['policy', (m) => m.policy ?? ''],
  ['kernel', (m) => m.kernel.release],
  ['arch', (m) => m.kernel.arch],
  ['build_id', (m) => m.kernel.build_id],
  ['os', (m) => m.os ?? ''],
  ['agent', (m) => m.agent ?? ''],
  ['live_patch', (m) => m.patch.id ?? ''],
  ['state', (m) => m.patch.state ?? ''],
  ['target', (m) => m.target ?? ''],
  ['hold', (m) => (m.hold ? 'true' : '')],
  ['open', (m) => (m.open ?? []).map((o) => `${o.cve}:${o.need}`).join(' ')],
  ['enrolled', (m) => time(m.enrolled)],
  ['seen', (m) => time(m.seen)],
];

// field writes one value by RFC 4180. What a spreadsheet would take for a
// formula gets a quote before it: host names are what machines say they are.
export function field(v: string): string {
  const safe = /^[=+\-@\t\r]/.test(v) ? `'${v}` : v;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function lines(machines: readonly Machine[]): string {
  return machines.map((m) => columns.map(([, f]) => field(f(m))).join(',') + '\r\n').join('');
}

export async function downloadMachines(filter: MachineQuery, signal: AbortSignal, progress: (n: number) => void) {
  const parts: string[] = ['\ufeff', columns.map(([n]) => n).join(',') + '\r\n'];
  const query = Object.fromEntries(Object.entries(filter).filter(([, v]) => v)) as MachineQuery;
  let after: string | undefined;
  let n = 0;
  do {
    const page: Schemas['ListMachine'] = await ask(
      api.GET('/v1/machines', { params: { query: { ...query, limit: 1000, ...(after ? { after } : {}) } }, signal }),
    );
    parts.push(lines(page.items ?? []));
    n += page.items?.length ?? 0;
    progress(n);
    after = page.next;
  } while (after);
  download(new Blob(parts, { type: 'text/csv;charset=utf-8' }), `machines-${new Date().toISOString().slice(0, 10)}.csv`);
}
