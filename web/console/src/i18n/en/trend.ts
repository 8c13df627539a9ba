// SPDX-License-Identifier: Apache-2.0
import { many } from './many';

export const trend = {
  trend: {
    title: 'Protection over time',
    span: 'How far back',
    none: 'There is nothing to show yet',
    noneHelp: 'How the fleet stands is written down each hour and kept for a year.',
    machines: (n: string) => many(n, 'machine', 'machines'),
    protectedOf: (p: string) => `${p} protected`,
  },
  trendSpan: { '1': 'A day', '7': 'A week', '30': 'A month', '366': 'A year' },
} as const;
