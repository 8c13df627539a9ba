// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { updates as en } from '../en/updates';

export const updates: Words<typeof en> = {
  updates: {
    title: 'アップデート',
    about: '各カーネルとパッケージに登録された修正。ポリシーはこの中から選びます。',
    name: 'シリーズ',
    extra: '指定したポリシーのみ',
    versions: 'バージョン',
    fixes: '修正',
    live: 'ライブ適用可',
    of: (n, of) => `${of} 件中 ${n} 件`,
    reboot: '再起動が必要',
    selections: '必要なライブパッチ',
    created: '登録',
    none: '修正はまだ登録されていません',
    noneHelp: 'ディストリビューションの更新を分解して登録します:',
    removeTitle: (name, target) => `${target} の ${name} を削除しますか?`,
    removeHelp: 'ポリシーはこれを除いて選択し直します。公開済みのライブパッチは残ります。',
    removed: 'アップデートを削除しました。',
  },
};
