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
    filters: '絞り込み',
    actorHelp: '名前の全体',
    objectHelp: 'ID または名前',
    clear: '絞り込みを解除',
    noneFit: '条件に合う記録はありません',
    noneFitHelp: '実行者と対象は名前全体を入力します。操作は policy.set のような 1 つの操作、または rollout.* のような分野です。',
    csv: 'CSV',
    csvGoing: (n) => `${n} 件を読み込みました`,
    csvMost: (n) => `ファイルには新しい順に ${n} 件が含まれます。すべてを書き出すには tsugictl audit export を使います。`,
  },
};
