// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { audit as en } from '../en/audit';

export const audit: Words<typeof en> = {
  audit: {
    title: '監査ログ',
    about: '人とサーバーのすべての決定(新しい順)。',
    chain: '各項目は直前の項目のハッシュを含みます。サーバー上で全体を検証するコマンド:',
    whole: (n) => `${n} 件すべて、記録時から変更されていません。確認:`,
    checking: (n, of) => `検証中: ${of} 件中 ${n} 件まで確認。開始:`,
    head: '末尾のハッシュ(別の場所に控えてください):',
    broken: (n) => `監査ログが変更されています: 項目 ${n} 以降は信頼できません`,
    brokenHelp: 'データベースの現状のコピーを保管し、以前のエクスポートまたはバックアップと比較してください。',
    time: '時刻',
    actor: '実行者',
    action: '操作',
    object: '対象',
    detail: '詳細',
    none: '記録はまだありません',
  },
};
