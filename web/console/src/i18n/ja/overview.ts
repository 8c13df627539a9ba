// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { overview as en } from '../en/overview';

export const overview: Words<typeof en> = {
  overview: {
    title: '概要',
    counted: '集計:',
    protection: '保護状況',
    protectedOf: (n, of) => `${of} 台中 ${n} 台`,
    attention: '対応が必要',
    nothing: '対応待ちはありません。',
    attend: {
      halted: () => '件: 停止したロールアウト',
      approvals: () => '件: 承認待ち',
      exploited: () => '台: 悪用が確認された CVE に再起動またはモジュールの取り外しが必要',
      restart: () => '台: 悪用が確認された CVE にプロセスの再起動が必要',
      stale: () => '台: 更新で置き換えられたファイルをプロセスが実行中',
      failing: () => '台: 適用に失敗',
      silent: () => '台: 応答なし',
      choices: () => '件: 失敗またはブロックされたポリシーの選択',
      unpromoted: () => '件: ライブパッチの昇格待ち',
      ending: () => '件: 2 週間以内に終わる除外',
    },
    exposed: 'この CVE の影響を受けていますか?',
    ask: '調べる',
    answer: (live, open, ends, none) => `ライブパッチで保護済み ${live} 台、未修正 ${open} 台${ends && `(${ends})`}、影響なし ${none} 台。`,
    answerUnknown: (n) => `${n} 台については判断できません。`,
    answerMore: '詳細',
    and: '、',
    notCve: 'CVE の名前ではありません(例: CVE-2026-31431)。',
    open: '未修正の脆弱性',
    openHelp: '解消に必要な対応と、最も高い深刻度ごとのマシン数です。',
    openUnknown: '現在は集計できません。理由はサーバーのログにあります。',
    noneOpen: '既知の未修正の脆弱性はありません',
    noneOpenHelp: 'サーバーが把握しているのは、修正が登録または公開された脆弱性です。対象外のマシンについては把握していません。',
    needed: '必要な対応',
    jobs: '最近のビルド',
    reports: '最近の報告',
    noMachines: '登録されたマシンはまだありません',
    noMachinesHelp: 'トークンを作成し、表示されるコマンドを各マシンで実行してください:',
  },
};
