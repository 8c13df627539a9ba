// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { common as en } from '../en/common';

export const common: Words<typeof en> = {
  product: 'Tsugi',
  cancel: 'キャンセル',
  close: '閉じる',
  copied: 'コピーしました',
  copy: 'コピー',
  done: '完了',
  loading: '読み込み中',
  never: 'なし',
  no: 'いいえ',
  reason: '理由',
  remove: '削除',
  save: '保存',
  yes: 'はい',
};
