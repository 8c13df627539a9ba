// SPDX-License-Identifier: Apache-2.0
import { keepPreviousData, queryOptions } from '@tanstack/react-query';
import { api, ask } from './client';
import { often, seldom } from './queries';

export const signInMethods = queryOptions({
  queryKey: ['sign-in-methods'],
  queryFn: ({ signal }) => ask(api.GET('/v1/sign-in', { signal })),
  staleTime: 5 * seldom,
});

export const account = queryOptions({
  queryKey: ['account'],
  queryFn: ({ signal }) => ask(api.GET('/v1/account', { signal })),
});

export const passkeys = queryOptions({
  queryKey: ['passkeys'],
  queryFn: ({ signal }) => ask(api.GET('/v1/account/passkeys', { signal })),
});

export const ownSessions = queryOptions({
  queryKey: ['own-sessions'],
  queryFn: ({ signal }) => ask(api.GET('/v1/account/sessions', { signal })),
  refetchInterval: seldom,
});

export const ownKeys = queryOptions({
  queryKey: ['own-keys'],
  queryFn: ({ signal }) => ask(api.GET('/v1/account/keys', { signal })),
});

export const users = queryOptions({
  queryKey: ['users'],
  queryFn: ({ signal }) => ask(api.GET('/v1/users', { signal })),
  refetchInterval: often,
});

export const user = (id: string) =>
  queryOptions({
    queryKey: ['user', id],
    queryFn: ({ signal }) => ask(api.GET('/v1/users/{id}', { params: { path: { id } }, signal })),
    refetchInterval: often,
  });

export const sessions = queryOptions({
  queryKey: ['sessions'],
  queryFn: ({ signal }) => ask(api.GET('/v1/sessions', { signal })),
  refetchInterval: seldom,
});

export const keys = queryOptions({
  queryKey: ['keys'],
  queryFn: ({ signal }) => ask(api.GET('/v1/keys', { signal })),
  refetchInterval: seldom,
});

export const approvals = (query: { all?: boolean; after?: string | undefined; limit?: number }) =>
  queryOptions({
    queryKey: ['approvals', query],
    queryFn: ({ signal }) =>
      ask(
        api.GET('/v1/approvals', {
          params: { query: { ...(query.all ? { all: true } : {}), ...(query.after ? { after: query.after } : {}), limit: query.limit ?? 100 } },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
    refetchInterval: often,
  });

export const approvalActions = queryOptions({
  queryKey: ['approval-actions'],
  queryFn: ({ signal }) => ask(api.GET('/v1/approvals/actions', { signal })),
  staleTime: seldom,
});
