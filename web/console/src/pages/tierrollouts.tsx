// SPDX-License-Identifier: Apache-2.0
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { promotions, rolloutSettings } from '../api/rollouts';
import { dateTime } from '../format';
import { useLanguage, useT } from '../i18n';
import { Help, useMay } from '../ui/act';
import { Facts, Section } from '../ui/page';
import { Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Time } from '../ui/words';
import { ChangeLadder } from './ladder';

type Tier = Schemas['Tier'];

// TierRollouts say how live patches come to the machines of tiers, and climb
// from one tier to the next.
export function TierRollouts({ tiers }: { tiers: readonly Tier[] }) {
  const t = useT();
  const may = useMay('tiers');
  const q = useQuery(rolloutSettings);
  const rows = [...tiers].sort((a, b) => a.rank - b.rank);
  return (
    <Section title={t.rollouts.ladder} actions={may && q.data && <ChangeLadder tiers={rows} s={q.data} />}>
      <Help>{t.rollouts.ladderHelp}</Help>
      <Loaded query={q} lines={3}>
        {(s) => (
          <>
            <Table
              caption={t.rollouts.ladder}
              rows={rows}
              id={(x) => x.name}
              columns={[
                { name: t.tiers.name, cell: (x) => x.name },
                {
                  name: t.rollouts.onlyBy,
                  cell: (x) => {
                    const set = s.tiers[x.name];
                    return set?.only ? (
                      <>
                        {t.yes}, {t.rollouts.onlySince} <Time at={set.since} />
                      </>
                    ) : (
                      t.no
                    );
                  },
                },
                {
                  name: t.rollouts.plan,
                  cell: (x) => {
                    const plan = s.tiers[x.name]?.plan;
                    return plan?.waves ? plan.waves.map((w) => w.upto).join(', ') : t.rollouts.planUsual;
                  },
                },
                {
                  name: t.nav.livePatches,
                  cell: (x) => {
                    const rung = s.ladder.rungs?.find((r) => r.from === x.name);
                    if (!rung) return '–';
                    return (
                      <>
                        {t.rollouts.rung(rung.from, rung.to)}
                        <div className="dim">
                          {rung.auto ? t.rollouts.auto : t.rollouts.byHand}
                          {rung.soak && `, ${t.rollouts.soakOf} ${rung.soak}`}
                          {rung.well ? `, ${t.rollouts.wellOfRung}: ${rung.well}` : ''}
                          {rung.approvals ? `, ${t.rollouts.approvals}: ${rung.approvals}` : ''}
                        </div>
                      </>
                    );
                  },
                },
              ]}
            />
            <When l={s.ladder} />
          </>
        )}
      </Loaded>
      <Promotions />
    </Section>
  );
}

// When says when live patches climb by themselves, and when not.
function When({ l }: { l: Schemas['RolloutLadder'] }) {
  const t = useT();
  useLanguage();
  return (
    <Facts
      of={[
        [t.rollouts.climbWindows, l.windows?.length ? `${l.windows.join(', ')} (${l.timezone || 'UTC'})` : ''],
        [
          t.rollouts.ladderFreezes,
          l.freezes?.length ? (
            <ul className="bare">
              {l.freezes.map((f, i) => (
                <li key={i}>
                  {dateTime(Date.parse(f.from))} – {dateTime(Date.parse(f.to))}: {f.reason}
                </li>
              ))}
            </ul>
          ) : (
            ''
          ),
        ],
      ]}
    />
  );
}

function Promotions() {
  const t = useT();
  const all = useQuery(promotions).data?.items ?? [];
  if (all.length === 0) return null;
  return (
    <Table
      caption={t.rollouts.promotions}
      rows={all}
      id={(p) => p.livepatch}
      columns={[
        {
          name: t.rollouts.promotions,
          cell: (p) => (
            <Link to="/livepatches/$id" params={{ id: p.livepatch }} className="link" preload={false}>
              {p.livepatch}
            </Link>
          ),
        },
        { name: t.tiers.name, cell: (p) => (p.to ? t.rollouts.rung(p.tier, p.to) : p.tier) },
        {
          name: t.rollouts.why,
          cell: (p) => (
            <span lang="en" className="wrap">
              {p.why}
            </span>
          ),
        },
        { name: t.rollouts.wordUntil, cell: (p) => (p.ready ? t.rollouts.ready : <Time at={p.until} />) },
      ]}
    />
  );
}
