// SPDX-License-Identifier: Apache-2.0
import { Button, Checkbox, NativeSelect, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { cves, targets, type CVEQuery } from '../api/data';
import { policies } from '../api/queries';
import { count } from '../format';
import { useT, word } from '../i18n';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages, type Column } from '../ui/table';
import { Typed } from '../ui/typed';
import { Severity } from '../ui/words';
import { Cover, CoverCell } from './cover';

const here = getRouteApi('/cves');
const states = ['reboot', 'build', 'excluded', 'possible', 'module', 'live', 'not-affected'] as const;

// anyTarget is the word of a state where it is of kernels and packages together.
const anyTarget = (state: string) => (state === 'reboot' ? 'anew' : state);
const severities = ['critical', 'high', 'medium', 'low'] as const;
const size = 50;

type Filter = Omit<CVEQuery, 'limit' | 'after'>;

export function Matrix() {
  const t = useT();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const filter: Filter = {
    q: search.q, policy: search.policy, target: search.target,
    state: states.find((s) => s === search.state), severity: severities.find((s) => s === search.severity),
    ...(search.open === 'true' ? { open: true } : {}), ...(search.exploited === 'true' ? { exploited: true } : {}),
  };
  const pages = usePages(search.after, (after) => void navigate({ search: (s) => ({ ...s, after }) }));
  const change = (c: Record<string, string | undefined>, replace = false) => {
    pages.reset();
    void navigate({ search: (s) => ({ ...s, ...Object.fromEntries(Object.entries(c).map(([k, v]) => [k, v || undefined])), after: undefined }), replace });
  };
  const q = useQuery(cves({ ...filter, after: search.after, limit: size }));
  const filtered = Object.values(filter).some(Boolean);
  return (
    <Page title={t.matrix.title} about={t.matrix.about}>
      <Filters filter={filter} change={change} />
      <Loaded query={q} lines={12}>
        {(l) => (
          <>
            {Object.keys(l.states).length > 0 && (
              <ul className="marks plain-list" aria-label={t.matrix.states}>
                <li>
                  <b>{t.matrix.total(count(l.total))}</b>
                </li>
                {states.filter((s) => l.states[s]).map((s) => (
                  <li key={s}>
                    <Cover of={anyTarget(s)} /> <b>{count(l.states[s] ?? 0)}</b>
                  </li>
                ))}
              </ul>
            )}
            {l.items && l.items.length > 0 ? (
              <>
                <Lines list={l} stale={q.isPlaceholderData} policy={search.policy} />
                <Pager pages={pages} next={l.next} shown={l.items.length} />
              </>
            ) : filtered ? (
              <Empty title={t.matrix.noneFit}>
                <Button variant="default" size="xs" mt="xs" onClick={() => change({ q: '', policy: '', target: '', state: '', severity: '', open: '', exploited: '' })}>
                  {t.matrix.clear}
                </Button>
              </Empty>
            ) : (
              <Empty title={t.matrix.none}>{t.matrix.noneHelp}</Empty>
            )}
          </>
        )}
      </Loaded>
    </Page>
  );
}

function Lines({ list, stale, policy }: { list: Schemas['CVEList']; stale: boolean; policy: string | undefined }) {
  const t = useT();
  const columns: Column<Schemas['CVE']>[] = [
    {
      name: t.matrix.cve,
      cell: (c) => (
        <>
          <Link to="/cves/$cve" params={{ cve: c.cve }} search={policy ? { policy } : {}} className="link nowrap">
            {c.cve}
          </Link>
          <Text size="xs" c="dimmed" lang="en" className="clamp">
            {c.title}
          </Text>
        </>
      ),
    },
    { name: t.cve.severity, cell: (c) => <Severity of={c.severity} exploited={c.exploited} /> },
    {
      name: t.matrix.machines,
      right: true,
      cell: (c) =>
        c.machines === 0 ? (
          <span className="zero">0</span>
        ) : (
          <Link to="/machines" search={{ cve: c.cve }} className="link">
            {count(c.machines)}
          </Link>
        ),
    },
    ...(list.targets ?? []).map((target) => ({
      name: target,
      cell: (c: Schemas['CVE']) => {
        const cell = c.targets?.find((x) => x.target === target);
        return cell ? <CoverCell of={cell} /> : <span className="zero">–</span>;
      },
    })),
  ];
  return <Table caption={t.matrix.title} rows={list.items ?? []} id={(c) => c.cve} columns={columns} stale={stale} />;
}

// listed is what can be chosen, with what is chosen by a link.
const listed = (all: readonly string[], chosen: string | undefined) => (chosen && !all.includes(chosen) ? [...all, chosen] : [...all]);

function Filters({ filter, change }: { filter: Filter; change: (c: Record<string, string | undefined>, replace?: boolean) => void }) {
  const t = useT();
  const all = { value: '', label: t.matrix.all };
  const known = useQuery(policies).data?.items ?? [];
  const kernels = (useQuery(targets).data?.items ?? []).filter((x) => x.patches > 0 || (x.updates?.length ?? 0) > 0);
  return (
    <div className="filters" role="search" aria-label={t.machines.filters}>
      <Typed className="wide" label={t.matrix.search} icon value={filter.q ?? ''} onChange={(q) => change({ q }, true)} />
      <NativeSelect
        label={t.matrix.policy}
        value={filter.policy ?? ''}
        onChange={(e) => change({ policy: e.currentTarget.value })}
        data={[{ value: '', label: 'default' }, ...listed(known.map((p) => p.name).filter((n) => n !== 'default'), filter.policy)]}
      />
      <NativeSelect
        label={t.matrix.target}
        value={filter.target ?? ''}
        onChange={(e) => change({ target: e.currentTarget.value })}
        data={[all, ...listed(kernels.map((x) => x.target), filter.target)]}
      />
      <NativeSelect
        label={t.matrix.state}
        value={filter.state ?? ''}
        onChange={(e) => change({ state: e.currentTarget.value })}
        data={[all, ...states.map((s) => ({ value: s, label: word(t.coverState, anyTarget(s)) }))]}
      />
      <NativeSelect
        label={t.matrix.severity}
        value={filter.severity ?? ''}
        onChange={(e) => change({ severity: e.currentTarget.value })}
        data={[all, ...severities.map((s) => ({ value: s, label: word(t.severity, s) }))]}
      />
      <Checkbox.Group label={t.matrix.only} value={[...(filter.open ? ['open'] : []), ...(filter.exploited ? ['exploited'] : [])]} onChange={(v) => change({ open: v.includes('open') ? 'true' : '', exploited: v.includes('exploited') ? 'true' : '' })}>
        <div className="checks">
          <Checkbox value="open" label={t.matrix.open} />
          <Checkbox value="exploited" label={t.matrix.exploited} />
        </div>
      </Checkbox.Group>
    </div>
  );
}
