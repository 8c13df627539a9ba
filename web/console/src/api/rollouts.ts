// SPDX-License-Identifier: Apache-2.0
import { keepPreviousData, queryOptions } from '@tanstack/react-query';
import { api, ask, type Schemas } from './client';
import { clean, often, seldom, soon, type Query } from './queries';

export type RolloutQuery = Query<'list-rollouts'>;
export type RolloutMachineQuery = Query<'list-rollout-machines'>;

export const ended = (phase: string) => phase === 'done' || phase === 'aborted';

export const rollouts = (query: RolloutQuery) =>
  queryOptions({
    queryKey: ['rollouts', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/rollouts', { params: { query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: soon,
  });

export const rollout = (id: string) =>
  queryOptions({
    queryKey: ['rollout', id],
    queryFn: ({ signal }) => ask(api.GET('/v1/rollouts/{id}', { params: { path: { id } }, signal })),
    refetchInterval: (q) => (q.state.data && ended(q.state.data.phase) ? seldom : 3_000), // its machines move without any change that is told
  });

export const rolloutSteps = (id: string, after: string | undefined) =>
  queryOptions({
    queryKey: ['rollout', id, 'steps', after ?? ''],
    queryFn: ({ signal }) => ask(api.GET('/v1/rollouts/{id}/steps', { params: { path: { id }, query: clean({ after, limit: 50 }) as { limit: number } }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: soon,
  });

export const rolloutMachines = (id: string, query: RolloutMachineQuery) =>
  queryOptions({
    queryKey: ['rollout', id, 'machines', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/rollouts/{id}/machines', { params: { path: { id }, query: clean(query) }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: soon,
  });

export const rolloutPreview = (body: Schemas['NewRollout']) =>
  queryOptions({
    queryKey: ['rollout-preview', body],
    queryFn: ({ signal }) => ask(api.POST('/v1/rollouts/preview', { body, signal })),
    placeholderData: keepPreviousData,
    retry: false,
    staleTime: 10_000,
  });

export const rolloutSettings = queryOptions({
  queryKey: ['rollout-settings'],
  queryFn: ({ signal }) => ask(api.GET('/v1/rollout-settings', { signal })),
  refetchInterval: seldom,
});

export const promotions = queryOptions({
  queryKey: ['promotions'],
  queryFn: ({ signal }) => ask(api.GET('/v1/promotions', { signal })),
  refetchInterval: often,
});

export const explainRollout = (id: string, machine: string) =>
  queryOptions({
    queryKey: ['rollout', id, 'machine', machine],
    queryFn: ({ signal }) => ask(api.GET('/v1/rollouts/{id}/machines/{machine}', { params: { path: { id, machine } }, signal })),
    refetchInterval: often,
  });
