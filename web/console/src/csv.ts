// SPDX-License-Identifier: Apache-2.0
import { api, ask, type Schemas } from './api/client';
import { clean, type AuditQuery, type MachineQuery } from './api/queries';
import { download } from './download';

type Machine = Schemas['Machine'];
type Columns<T> = readonly (readonly [string, (row: T) => string])[];

const time = (ms: number | undefined) => (ms ? new Date(ms).toISOString() : '');

// The columns' names are of the API and the same in every language: programs read them.
export const columns: Columns<Machine> = [
  ['id', (m) => m.id],
  ['hostname', (m) => m.hostname],
  ['protection', (m) => m.protection],
  ['reason', (m) => m.reason ?? ''],
  ['kernel_protection', (m) => m.kernel_protection ?? ''],
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
  ['stale_processes', (m) => (m.stale?.processes ? String(m.stale.processes) : '')],
  ['enrolled', (m) => time(m.enrolled)],
  ['seen', (m) => time(m.seen)],
];

export const entryColumns: Columns<Schemas['AuditEntry']> = [
  ['seq', (e) => (e.seq ? String(e.seq) : '')],
  ['time', (e) => time(e.time)],
  ['actor', (e) => e.actor],
  ['action', (e) => e.action],
  ['object', (e) => e.object],
  ['detail', (e) => e.detail],
  ['id', (e) => e.id],
  ['hash', (e) => e.hash ?? ''],
];

// field writes one value by RFC 4180. What a spreadsheet would take for a
// formula gets a quote before it: host names are what machines say they are.
export function field(v: string): string {
  const safe = /^[=+\-@\t\r]/.test(v) ? `'${v}` : v;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function lines<T>(of: Columns<T>, rows: readonly T[]): string {
  return rows.map((r) => of.map(([, f]) => field(f(r))).join(',') + '\r\n').join('');
}

interface List<T> {
  items?: readonly T[] | null;
  next?: string;
}

// downloadAll writes a list into a file, page by page. It says whether it came to
// the end: a browser holds the whole file, so that there is a most.
async function downloadAll<T>(name: string, of: Columns<T>, page: (after: string | undefined) => Promise<List<T>>, progress: (n: number) => void, most = Infinity) {
  const parts: string[] = ['\ufeff', of.map(([n]) => n).join(',') + '\r\n'];
  let after: string | undefined;
  let n = 0;
  do {
    const l = await page(after);
    parts.push(lines(of, l.items ?? []));
    n += l.items?.length ?? 0;
    progress(n);
    after = l.next;
  } while (after && n < most);
  download(new Blob(parts, { type: 'text/csv;charset=utf-8' }), `${name}-${new Date().toISOString().slice(0, 10)}.csv`);
  return !after;
}

export async function downloadMachines(filter: MachineQuery, signal: AbortSignal, progress: (n: number) => void) {
  await downloadAll('machines', columns, (after) => ask(api.GET('/v1/machines', { params: { query: clean({ ...filter, limit: 1000, after }) }, signal })), progress);
}

export const mostEntries = 100_000;

// downloadAudit writes the newest entries that fit, and says whether they are all.
export function downloadAudit(filter: AuditQuery, signal: AbortSignal, progress: (n: number) => void): Promise<boolean> {
  return downloadAll('audit', entryColumns, (after) => ask(api.GET('/v1/audit', { params: { query: clean({ ...filter, limit: 1000, after }) }, signal })), progress, mostEntries);
}
