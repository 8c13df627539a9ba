// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { trend as en } from '../en/trend';

export const trend: Words<typeof en> = {
  trend: {
    title: '保護状況の推移',
    span: '期間',
    none: '表示できる記録はまだありません',
    noneHelp: 'フリートの状況は 1 時間ごとに記録され、1 年間保存されます。',
    machines: (n) => `${n} 台`,
    protectedOf: (p) => `保護 ${p}`,
  },
  trendSpan: { '1': '1 日', '7': '1 週間', '30': '1 か月', '366': '1 年' },
};
