// SPDX-License-Identifier: Apache-2.0
import { keepPreviousData, queryOptions } from '@tanstack/react-query';
import { api, ask } from './client';
import { stream } from './events';
import type { operations } from './schema';

export type Query<Op extends keyof operations> = NonNullable<operations[Op]['parameters']['query']>;
export type MachineQuery = Query<'list-machines'>;
export type LivePatchQuery = Query<'list-livepatches'>;
export type JobQuery = Query<'list-jobs'>;
export type AuditQuery = Query<'list-audit'>;
export type ReportQuery = Query<'list-reports'>;

// How often a page that is looked at asks again: seldom while the server tells
// what changes.
export const soon = () => (stream.on ? 30_000 : 5_000);
export const often = () => (stream.on ? 60_000 : 15_000);
export const seldom = 60_000;

// clean leaves out what was not asked about: the API refuses empty words.
export function clean<T extends object>(q: T): T {
  return Object.fromEntries(Object.entries(q).filter(([, v]) => v !== undefined && v !== '')) as T;
}

export const overview = queryOptions({
  queryKey: ['overview'],
  queryFn: ({ signal }) => ask(api.GET('/v1/overview', { signal })),
  refetchInterval: often,
});

export const auditChain = queryOptions({
  queryKey: ['auditchain'],
  queryFn: ({ signal }) => ask(api.GET('/v1/audit/chain', { signal })),
  staleTime: seldom,
  refetchInterval: (q) => (q.state.data && !q.state.data.done ? 500 : false),
});

export const whoami = queryOptions({
  queryKey: ['whoami'],
  queryFn: ({ signal }) => ask(api.GET('/v1/whoami', { signal })),
  staleTime: 5 * seldom,
});

export const machines = (query: MachineQuery) =>
  queryOptions({
    queryKey: ['machines', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/machines', { params: { query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: often,
  });

export const machine = (id: string) =>
  queryOptions({
    queryKey: ['machine', id],
    queryFn: ({ signal }) => ask(api.GET('/v1/machines/{id}', { params: { path: { id } }, signal })),
    refetchInterval: often,
  });

export const machineModules = (id: string) =>
  queryOptions({
    queryKey: ['machine', id, 'modules'],
    queryFn: ({ signal }) => ask(api.GET('/v1/machines/{id}/modules', { params: { path: { id } }, signal })),
    staleTime: seldom,
  });

export const reports = (query: ReportQuery) =>
  queryOptions({
    queryKey: ['reports', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/reports', { params: { query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: often,
  });

export const livePatches = (query: LivePatchQuery) =>
  queryOptions({
    queryKey: ['livepatches', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/livepatches', { params: { query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: often,
  });

export const livePatch = (id: string) =>
  queryOptions({
    queryKey: ['livepatch', id],
    queryFn: ({ signal }) => ask(api.GET('/v1/livepatches/{id}', { params: { path: { id } }, signal })),
    refetchInterval: often,
  });

export const jobs = (query: JobQuery) =>
  queryOptions({
    queryKey: ['jobs', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/jobs', { params: { query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: soon,
  });

export const jobEnded = (state: string) => state !== 'queued' && state !== 'running';

export const job = (id: string) =>
  queryOptions({
    queryKey: ['job', id],
    queryFn: ({ signal }) => ask(api.GET('/v1/jobs/{id}', { params: { path: { id } }, signal })),
    refetchInterval: (q) => (q.state.data && jobEnded(q.state.data.state) ? false : 2_000),
  });

export const policies = queryOptions({
  queryKey: ['policies'],
  queryFn: ({ signal }) => ask(api.GET('/v1/policies', { signal })),
  refetchInterval: often,
});

export const policy = (name: string) =>
  queryOptions({
    queryKey: ['policy', name],
    queryFn: ({ signal }) => ask(api.GET('/v1/policies/{name}', { params: { path: { name } }, signal })),
    refetchInterval: often,
  });

export const updates = queryOptions({
  queryKey: ['updates'],
  queryFn: ({ signal }) => ask(api.GET('/v1/updates', { signal })),
  refetchInterval: seldom,
});

export const tiers = queryOptions({
  queryKey: ['tiers'],
  queryFn: ({ signal }) => ask(api.GET('/v1/tiers', { signal })),
  refetchInterval: seldom,
});

export const tokens = queryOptions({
  queryKey: ['tokens'],
  queryFn: ({ signal }) => ask(api.GET('/v1/tokens', { signal })),
  refetchInterval: seldom,
});

export const audit = (query: AuditQuery) =>
  queryOptions({
    queryKey: ['audit', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/audit', { params: { query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: often,
  });

export const settings = queryOptions({
  queryKey: ['settings'],
  queryFn: ({ signal }) => ask(api.GET('/v1/settings', { signal })),
});

export const trust = queryOptions({
  queryKey: ['trust'],
  queryFn: ({ signal }) => ask(api.GET('/v1/trust', { signal })),
  refetchInterval: seldom,
});
