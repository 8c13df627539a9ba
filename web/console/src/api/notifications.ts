// SPDX-License-Identifier: Apache-2.0
import { keepPreviousData, queryOptions } from '@tanstack/react-query';
import { api, ask } from './client';
import { clean, often, seldom } from './queries';

export const notifications = queryOptions({
  queryKey: ['notifications'],
  queryFn: ({ signal }) => ask(api.GET('/v1/notifications', { signal })),
  refetchInterval: seldom,
});

export const channels = queryOptions({
  queryKey: ['channels'],
  queryFn: ({ signal }) => ask(api.GET('/v1/notifications/channels', { signal })),
  refetchInterval: often,
});

export const deliveries = (query: { stage?: 'waiting' | 'delivered' | 'dead' | undefined; channel?: string; after?: string | undefined; limit?: number }) =>
  queryOptions({
    queryKey: ['deliveries', clean(query)],
    queryFn: ({ signal }) => ask(api.GET('/v1/notifications/deliveries', { params: { query: clean(query) as { limit?: number } }, signal })),
    placeholderData: keepPreviousData,
    refetchInterval: often,
  });
