// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { tiers as en } from '../en/tiers';

export const tiers: Words<typeof en> = {
  tiers: {
    title: 'ティア',
    about: 'ライブパッチが進む段階。少数の試行用マシンから残りのすべてへ。',
    rank: '順序',
    name: 'ティア',
    nameHelp: '英小文字、数字、ハイフン。',
    none: 'ティアはありません',
    make: '新しいティア',
    made: 'ティアを作成しました。',
    after: '次のティアの後',
    first: '最初に置く',
    rotate: '鍵を更新',
    rotateTitle: (name) => `${name} の鍵を更新しますか?`,
    rotateHelp: 'ティアのすべてに署名し直します。マシンは自動で追従します。',
    rotated: 'ティアの鍵を更新しました。',
    removeTitle: (name) => `${name} を削除しますか?`,
    removeHelp: 'このティアにはマシンもライブパッチもありません。',
    removed: 'ティアを削除しました。',
  },
};
