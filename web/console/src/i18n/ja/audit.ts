// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { audit as en } from '../en/audit';

export const audit: Words<typeof en> = {
  audit: {
    title: '監査ログ',
    about: '人とサーバーのすべての決定(新しい順)。',
    chain: '各項目は直前の項目のハッシュを含みます。サーバー上で全体を検証するコマンド:',
    time: '時刻',
    actor: '実行者',
    action: '操作',
    object: '対象',
    detail: '詳細',
    none: '記録はまだありません',
  },
};
