// SPDX-License-Identifier: Apache-2.0
import { keepPreviousData, queryOptions } from '@tanstack/react-query';
import { api, ask } from './client';
import { clean, often, seldom } from './queries';
import type { operations } from './schema';

export type CVEQuery = NonNullable<operations['list-cves']['parameters']['query']>;

export const cves = (query: CVEQuery) =>
  queryOptions({
    queryKey: ['cves', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/cves', { params: { query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: often,
  });

export const cve = (name: string, policy?: string) =>
  queryOptions({
    queryKey: ['cves', name, policy ?? ''],
    queryFn: ({ signal }) => ask(api.GET('/v1/cves/{cve}', { params: { path: { cve: name }, query: clean({ policy }) }, signal })),
    refetchInterval: often,
  });

// A live patch never changes.
const never = Infinity;

export const contents = (id: string) =>
  queryOptions({
    queryKey: ['livepatch', id, 'contents'],
    queryFn: ({ signal }) => ask(api.GET('/v1/livepatches/{id}/contents', { params: { path: { id } }, signal })),
    staleTime: seldom,
  });

export const patchDiff = (id: string, fix: string) =>
  queryOptions({
    queryKey: ['patchdiff', id, fix],
    queryFn: ({ signal }) => ask(api.GET('/v1/livepatches/{id}/diff', { params: { path: { id }, query: { fix } }, signal })),
    staleTime: never,
  });

export const patchProof = (id: string) =>
  queryOptions({
    queryKey: ['patchproof', id],
    queryFn: ({ signal }) => ask(api.GET('/v1/livepatches/{id}/proof', { params: { path: { id } }, signal })),
    staleTime: never,
    retry: false,
  });

export const patchProvenance = (id: string) =>
  queryOptions({
    queryKey: ['patchprovenance', id],
    queryFn: ({ signal }) => ask(api.GET('/v1/livepatches/{id}/provenance', { params: { path: { id } }, signal })),
    staleTime: never,
    retry: false,
  });

export const targets = queryOptions({
  queryKey: ['targets'],
  queryFn: ({ signal }) => ask(api.GET('/v1/targets', { signal })),
  refetchInterval: seldom,
});

export const history = (days: number) =>
  queryOptions({
    queryKey: ['history', days],
    queryFn: ({ signal }) => ask(api.GET('/v1/history', { params: { query: { days } }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: 10 * seldom,
    retry: false,
  });

export const system = queryOptions({
  queryKey: ['system'],
  queryFn: ({ signal }) => ask(api.GET('/v1/system', { signal })),
  refetchInterval: often,
});
