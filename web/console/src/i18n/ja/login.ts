// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { login as en } from '../en/login';

export const login: Words<typeof en> = {
  login: {
    title: 'Tsugi にログイン',
    about: 'フリート全体のライブパッチ管理。',
    token: 'オペレータートークン',
    tokenHelp: 'このタブを閉じるまで保持されます。',
    show: 'トークンを表示',
    go: 'ログイン',
    refused: 'サーバーに登録のないトークンか、失効したトークンです。',
    ended: 'トークンがサーバーに受け付けられなくなりました。もう一度ログインしてください。',
    none: 'トークンがない場合は、サーバー上で次を実行してください:',
  },
};
