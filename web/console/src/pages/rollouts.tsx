// SPDX-License-Identifier: Apache-2.0
import { Switch } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { rollouts } from '../api/rollouts';
import { count } from '../format';
import { useT } from '../i18n';
import { useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { Phase, Time } from '../ui/words';
import { NewRollout } from './newrollout';
import { Progress } from './waves';

const here = getRouteApi('/rollouts');

export function Rollouts() {
  const t = useT();
  const { open, after } = here.useSearch();
  const navigate = here.useNavigate();
  const may = useMay('rollouts');
  const pages = usePages(after, (a) => void navigate({ search: (s) => ({ ...(s.open ? { open: s.open } : {}), ...(a ? { after: a } : {}) }) }));
  const q = useQuery(rollouts({ open: open === 'true', after, limit: 50 }));
  return (
    <Page title={t.rollouts.title} about={t.rollouts.about} actions={may && <NewRollout />}>
      <Switch
        mb="md"
        label={t.rollouts.onlyOpen}
        checked={open === 'true'}
        onChange={(e) => {
          pages.reset();
          void navigate({ search: e.currentTarget.checked ? { open: 'true' } : {} });
        }}
      />
      <Loaded query={q} lines={6}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <RolloutTable rows={l.items} stale={q.isPlaceholderData} />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Empty title={t.rollouts.none}>{t.rollouts.noneHelp}</Empty>
          )
        }
      </Loaded>
    </Page>
  );
}

export function RolloutTable({ rows, stale }: { rows: readonly Schemas['Rollout'][]; stale?: boolean }) {
  const t = useT();
  return (
    <Table
      caption={t.rollouts.title}
      rows={rows}
      id={(r) => r.id}
      stale={stale ?? false}
      columns={[
        {
          name: t.rollouts.livePatch,
          cell: (r) => (
            <>
              <Link to="/rollouts/$id" params={{ id: r.id }} className="link">
                {r.livepatch}
              </Link>
              <div className="dim">{t.rollouts.through(r.tier)}</div>
            </>
          ),
        },
        {
          name: t.rollouts.phase,
          cell: (r) => (
            <>
              <Phase of={r.phase} />
              <div className="dim">
                <Time at={r.since} />
              </div>
              {r.phase === 'halted' && r.reason && (
                <div className="clamp why-halted" lang="en">
                  {r.reason}
                </div>
              )}
            </>
          ),
        },
        { name: t.rollouts.wave, cell: (r) => (r.wave === 0 ? '–' : t.rollouts.waveOf(count(r.wave), count(r.waves?.length ?? 0))) },
        { name: t.rollouts.progress, cell: (r) => <Progress r={r} /> },
      ]}
    />
  );
}
