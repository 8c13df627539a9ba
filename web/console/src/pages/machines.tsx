// SPDX-License-Identifier: Apache-2.0
import { Button, NativeSelect } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { machines, overview, tiers, type MachineQuery } from '../api/queries';
import { downloadMachines } from '../csv';
import { cveOf, needs } from '../cve';
import { useT, word } from '../i18n';
import { Download } from '../ui/download';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, changing, usePages } from '../ui/table';
import { Typed } from '../ui/typed';
import { MachineTable } from './machinetable';
import { Views } from './views';

const here = getRouteApi('/machines');
const protections = ['protected', 'outdated', 'partly', 'unprotected', 'not-covered', 'failing', 'silent', 'gone'] as const;
const size = 50;

type Filter = Omit<MachineQuery, 'limit' | 'after' | 'stale'> & { stale?: 'true' | undefined };

const asked = ({ stale, ...f }: Filter): MachineQuery => ({ ...f, stale: stale ? true : undefined });

// known takes from a link what the API knows: a link that somebody mistyped
// shows a list, and not an error.
function known(search: Record<string, string | undefined>): Filter {
  const of = <T extends string>(all: readonly T[], w: string | undefined) => all.find((a) => a === w);
  return {
    q: search['q'], tier: search['tier'], group: search['group'], cve: cveOf(search['cve'] ?? '') || undefined,
    protection: of(protections, search['protection']), need: of(needs, search['need']),
    stale: of(['true'], search['stale']),
  };
}

export function Machines() {
  const t = useT();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const filter = known(search);
  const pages = usePages(search.after, (after) => void navigate({ search: (s) => ({ ...s, after }) }));
  const change = changing<keyof Filter>(pages, (c, replace) => void navigate({ search: (s) => ({ ...s, ...c, after: undefined }), replace }));
  const q = useQuery(machines({ ...asked(filter), after: search.after, limit: size }));
  const filtered = Object.values(filter).some(Boolean);
  return (
    <Page title={t.machines.title} about={t.machines.about} actions={<Download name={t.machines.csv} going={t.machines.csvGoing} get={(signal, progress) => downloadMachines(asked(filter), signal, progress)} />}>
      <Filters filter={filter} change={change} />
      <Views search={filter} onOpen={(s) => change({ q: '', tier: '', group: '', protection: '', cve: '', need: '', stale: '', ...s })} />
      <Loaded query={q} lines={12}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <MachineTable rows={l.items} stale={q.isPlaceholderData} asked={Boolean(filter.cve ?? filter.need)} />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : filtered ? (
            <Empty title={t.machines.noneFit}>
              <Button variant="default" size="xs" mt="xs" onClick={() => change({ q: '', tier: '', group: '', protection: '', cve: '', need: '', stale: '' })}>
                {t.machines.clear}
              </Button>
            </Empty>
          ) : search.after ? (
            <Empty title={t.machines.noMore} />
          ) : (
            <Empty title={t.overview.noMachines}>
              {t.overview.noMachinesHelp}{' '}
              <Link to="/tokens" className="link">
                {t.nav.tokens}
              </Link>
            </Empty>
          )
        }
      </Loaded>
    </Page>
  );
}

function Filters({ filter, change }: { filter: Filter; change: (c: Partial<Record<keyof Filter, string>>, replace?: boolean) => void }) {
  const t = useT();
  const all = { value: '', label: t.machines.all };
  const known = useQuery(tiers).data?.items ?? [];
  const groups = useQuery(overview).data?.groups ?? [];
  return (
    <div className="filters" role="search" aria-label={t.machines.filters}>
      <Typed
        label={t.machines.search}
        placeholder={t.machines.searchHelp}
        icon
        value={filter.q ?? ''}
        onChange={(q) => change({ q }, true)}
        className="wide"
      />
      <NativeSelect
        label={t.machine.protection}
        value={filter.protection ?? ''}
        onChange={(e) => change({ protection: e.currentTarget.value })}
        data={[all, ...protections.map((p) => ({ value: p, label: word(t.protection, p) }))]}
      />
      <NativeSelect
        label={t.machine.tier}
        value={filter.tier ?? ''}
        onChange={(e) => change({ tier: e.currentTarget.value })}
        data={[all, ...known.map((x) => ({ value: x.name, label: x.name })), ...(filter.tier && !known.some((x) => x.name === filter.tier) ? [filter.tier] : [])]}
      />
      <NativeSelect
        label={t.machine.group}
        value={filter.group ?? ''}
        onChange={(e) => change({ group: e.currentTarget.value })}
        data={[all, ...groups, ...(filter.group && !groups.includes(filter.group) ? [filter.group] : [])]}
      />
      <Typed
        label={t.machines.openCve}
        placeholder="CVE-…"
        value={filter.cve ?? ''}
        read={cveOf}
        wrong={t.overview.notCve}
        onChange={(cve) => change({ cve }, true)}
      />
      <NativeSelect
        label={t.machines.need}
        value={filter.need ?? ''}
        onChange={(e) => change({ need: e.currentTarget.value })}
        data={[all, ...needs.map((n) => ({ value: n, label: word(t.need, n) }))]}
      />
      <NativeSelect
        label={t.machines.processes}
        value={filter.stale ?? ''}
        onChange={(e) => change({ stale: e.currentTarget.value })}
        data={[all, { value: 'true', label: t.machines.stale }]}
      />
    </div>
  );
}
