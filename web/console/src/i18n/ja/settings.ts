// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { settings as en } from '../en/settings';

export const settings: Words<typeof en> = {
  settings: {
    title: '設定',
    fleet: 'フリート',
    interval: 'チェックインの間隔',
    intervalSeconds: 'チェックインの間隔(秒)',
    intervalHelp: '新しいものはすぐにマシンへ届きます。この値は応答の途絶に気づくまでの速さです。3 回続けて応答がないと「応答なし」になります。',
    plan: '登録できるマシン数',
    planHelp: '0: 上限なし。',
    noLimit: '上限なし',
    change: '変更',
    changed: '設定を変更しました。',
    trust: '署名(TUF)',
    root: '最初の root のダイジェスト',
    tufRole: 'ロール',
    keys: '鍵',
    threshold: (n, of) => `${of} 個中 ${n} 個の署名が必要`,
    noRoles: 'メタデータにロールがありません',
    server: 'サーバー',
    url: 'アドレス',
    you: 'あなた',
  },
};
