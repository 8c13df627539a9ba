// SPDX-License-Identifier: Apache-2.0
import { Switch, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { promotions, rolloutSettings } from '../api/rollouts';
import { useT } from '../i18n';
import { Dialog, Help, NumberField, useMay } from '../ui/act';
import { Section } from '../ui/page';
import { Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Time } from '../ui/words';

type Settings = Schemas['RolloutSettings'];
type Tier = Schemas['Tier'];

// TierRollouts say how live patches come to the machines of tiers, and climb
// from one tier to the next.
export function TierRollouts({ tiers }: { tiers: readonly Tier[] }) {
  const t = useT();
  const may = useMay('tiers');
  const q = useQuery(rolloutSettings);
  const rows = [...tiers].sort((a, b) => a.rank - b.rank);
  return (
    <Section title={t.rollouts.ladder} actions={may && q.data && <Change tiers={rows} s={q.data} />}>
      <Help>{t.rollouts.ladderHelp}</Help>
      <Loaded query={q} lines={3}>
        {(s) => (
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
                      </div>
                    </>
                  );
                },
              },
            ]}
          />
        )}
      </Loaded>
      <Promotions />
    </Section>
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

interface Row {
  name: string;
  only: boolean;
  auto: boolean;
  soak: string;
  well: number | '';
}

function Change({ tiers, s }: { tiers: readonly Tier[]; s: Settings }) {
  const t = useT();
  const [rows, setRows] = useState<readonly Row[]>([]);
  const set = (name: string, p: Partial<Row>) => setRows((all) => all.map((r) => (r.name === name ? { ...r, ...p } : r)));
  const body = (): Settings => ({
    tiers: Object.fromEntries(
      rows.map((r) => {
        const plan = s.tiers[r.name]?.plan;
        return [r.name, { only: r.only, ...(plan ? { plan } : {}) }];
      }),
    ),
    ladder: {
      ...s.ladder,
      // A rung that was never set and is not wanted now is left out.
      rungs: rows.slice(0, -1).flatMap((r, i) => {
        const to = rows[i + 1]?.name ?? '';
        const old = s.ladder.rungs?.find((x) => x.from === r.name);
        if (!old && !r.auto) return [];
        return [{ ...old, from: r.name, to: old?.to ?? to, auto: r.auto, ...(r.soak.trim() ? { soak: r.soak.trim() } : {}), ...(r.well === '' ? {} : { well: Number(r.well) }) }];
      }),
    },
  });
  return (
    <Dialog
      button={t.rollouts.change}
      title={t.rollouts.ladderTitle}
      size="xl"
      go={t.save}
      done={t.rollouts.changed}
      onOpen={() =>
        setRows(
          tiers.map((x) => {
            const rung = s.ladder.rungs?.find((r) => r.from === x.name);
            return { name: x.name, only: s.tiers[x.name]?.only ?? false, auto: rung?.auto ?? false, soak: rung?.soak ?? '', well: rung?.well ?? '' };
          }),
        )
      }
      act={() => ask(api.PUT('/v1/rollout-settings', { body: body() }))}
    >
      <Help>{t.rollouts.onlyByHelp}</Help>
      {rows.map((r, i) => {
        const next = rows[i + 1]?.name;
        return (
          <fieldset key={r.name} className="choices">
            <legend>{r.name}</legend>
            <Switch label={t.rollouts.onlyBy} checked={r.only} onChange={(e) => set(r.name, { only: e.currentTarget.checked })} />
            {next && (
              <>
                <Switch label={`${t.rollouts.rung(r.name, next)}: ${t.rollouts.auto}`} checked={r.auto} onChange={(e) => set(r.name, { auto: e.currentTarget.checked })} />
                {r.auto && (
                  <div className="columns">
                    <TextInput label={t.rollouts.soakOf} placeholder="1d" value={r.soak} onChange={(e) => set(r.name, { soak: e.currentTarget.value })} maxLength={20} />
                    <NumberField label={t.rollouts.wellOfRung} min={0} value={r.well} onChange={(well) => set(r.name, { well })} />
                  </div>
                )}
              </>
            )}
          </fieldset>
        );
      })}
    </Dialog>
  );
}
