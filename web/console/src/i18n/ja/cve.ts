// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { cve as en } from '../en/cve';

export const cve: Words<typeof en> = {
  cve: {
    about: '影響を受けていますか?',
    severity: '深刻度',
    open: '未修正のマシン',
    noneOpen: 'サーバーが把握しているマシンに、未修正のものはありません',
    openOn: (n) => `はい: ${n} 台で未修正です`,
    closed: 'いいえ: 把握している範囲ではすべて修正済みです',
    unknown: 'この CVE は把握されていません',
    unknownHelp: '修正するライブパッチはなく、未修正のマシンもありません。修正が登録されていないか、影響を受けるカーネルやパッケージがフリートにありません。',
    silent: (n) => `応答のない ${n} 台は最後の情報で数えています`,
    fixing: '修正するライブパッチ',
    noneFixing: '修正するライブパッチはありません',
  },
};
