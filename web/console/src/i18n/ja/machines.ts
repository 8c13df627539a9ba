// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { machines as en } from '../en/machines';

export const machines: Words<typeof en> = {
  machines: {
    title: 'マシン',
    about: '登録順に表示します。',
    filters: '絞り込み',
    search: '検索',
    searchHelp: 'ホスト名、カーネルのリリース、パッケージ、ID',
    all: 'すべて',
    openCve: '未修正の CVE',
    need: '必要な対応',
    processes: 'プロセス',
    stale: '再起動が必要',
    toRestart: (n) => `${n} プロセスの再起動が必要`,
    clear: '絞り込みを解除',
    noneFit: '条件に合うマシンはありません',
    noMore: 'これ以上マシンはありません',
    csv: 'CSV',
    csvGoing: (n) => `${n} 台を読み込みました`,
  },
  views: {
    title: '保存したビュー',
    keep: 'このビューを保存',
    name: '名前',
    help: 'ビューはこのブラウザーに保存されます。',
    remove: (name) => `ビュー「${name}」を削除`,
  },
};
