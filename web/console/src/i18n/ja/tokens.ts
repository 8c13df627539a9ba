// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { tokens as en } from '../en/tokens';

export const tokens: Words<typeof en> = {
  tokens: {
    title: '登録トークン',
    about: 'マシンの登録に使います。ティアとグループはトークンで決まります。',
    name: '名前',
    uses: 'マシン',
    of: (n, of) => `${n} / ${of}`,
    lastUsed: '最終使用',
    expires: '期限',
    expired: '期限切れ',
    revoked: '失効',
    none: 'トークンはありません',
    noneHelp: '作成し、表示されるコマンドを各マシンで実行してください。',
    make: '新しいトークン',
    made: '各マシンで次を実行してください',
    madeHelp: '表示は一度だけです。これを持つ人はマシンを登録できます。',
    groupHelp: 'グループによってマシンのポリシーが決まります。',
    limit: '上限',
    limitHelp: 'このトークンで登録できる台数。空欄: プランの上限のみ。',
    revoke: '失効させる',
    revokeTitle: (name) => `${name} を失効させますか?`,
    revokeHelp: '以後は登録に使えません。登録済みのマシンはそのままです。',
    revokedNow: 'トークンを失効させました。',
  },
};
