// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { coverage as en } from '../en/coverage';

export const coverage: Words<typeof en> = {
  coverage: {
    nav: 'ターゲット',
    title: 'ターゲットと提供期間',
    about: 'マシンで動いているカーネルと、ライブパッチやアップデートのあるカーネル・パッケージです。マシンは、自身のティアにライブパッチがあるパッケージだけを調べます。',
    stale: (n) => `${n} 台のプロセスが置き換え前のファイルを使用`,
    countedIn: (tiers) => `${tiers} のみ集計`,
    uncounted: '未集計(ライブパッチのあるティアがありません)',
    newest: '最新のライブパッチ',
    update: 'アップデート',
    fixes: (n, cves) => `修正 ${n} 件、CVE ${cves} 件`,
    window: '提供期間',
    nothing: '提供されるものはありません',
    none: '把握しているカーネルやパッケージはまだありません',
    noneHelp: '登録済みのマシン、登録されたアップデート、公開済みのライブパッチから把握します。',
    over: (n) => `${n} 台を別のカーネルで再起動する必要があります`,
    overPackage: (n) => `${n} 台を別のバージョンのパッケージに更新する必要があります`,
    set: '期間を設定',
    setTitle: (target) => `${target} の提供期間`,
    setHelp: 'このカーネルまたはパッケージにライブパッチを提供する期間、つまり利用者への約束です。設定しても動作は変わりません。期間が終わると、まだそれを使っているマシンを表示します。',
    isSet: '提供期間を設定しました。',
    from: '開始日',
    until: '終了日(当日は含まない)',
    note: 'メモ',
    wrong: '終了日が開始日より前です。',
    unset: '取り消す',
    unsetTitle: (target) => `${target} の提供期間を取り消しますか?`,
    unsetHelp: 'このターゲットの提供期間の終了は、以後知らされません。',
    isUnset: '提供期間を取り消しました。',
  },
  windowStanding: { open: '提供中', ending: '30 日以内に終了', over: '終了', ahead: '開始前', none: '未設定' },
};
