// SPDX-License-Identifier: Apache-2.0
import { Alert, Group, NativeSelect, SimpleGrid, Switch, Text, Textarea, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { livePatch, reports, tiers } from '../api/queries';
import { bytes, count } from '../format';
import { useT, word } from '../i18n';
import { Dialog, Help, NumberField, useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { colorOf, Mono, PatchState, ReportKind, Time } from '../ui/words';
import { Contents } from './contents';
import { Cves } from './cves';
import { MachineLink } from './machinelink';
import { NewRollout } from './newrollout';
import { PatchMarks } from './patchmarks';

const here = getRouteApi('/livepatches/$id');

export function LivePatch() {
  const t = useT();
  const { id } = here.useParams();
  const q = useQuery(livePatch(id));
  const may = useMay('stop'); // all who may promote may stop
  return (
    <Page
      title={id}
      up={
        <Link to="/livepatches" className="link">
          {t.nav.livePatches}
        </Link>
      }
      about={q.data && <PatchMarks p={q.data} />}
      actions={may && q.data && <Actions p={q.data} />}
    >
      <Loaded query={q} lines={10}>
        {(p) => (
          <div className="stack">
            {p.blocked ? (
              <Alert color="red" title={p.recall ? t.livePatch.recalledSince : t.livePatch.blockedSince}>
                <Time at={p.blocked} />
                {p.reason && <>: {p.reason}</>}
              </Alert>
            ) : null}
            <Stages p={p} />
            <SimpleGrid cols={{ base: 1, md: 2 }}>
              <Section title={t.livePatch.contents}>
                <Facts
                  of={[
                    [t.job.target, p.target],
                    [t.livePatch.version, String(p.version)],
                    ...(p.kernel.release
                      ? ([
                          [t.livePatch.kernelName, <Mono>{p.name}</Mono>],
                          [t.machine.kernel, `${p.kernel.release} ${p.kernel.arch}`],
                          [t.machine.buildId, <Mono>{p.kernel.build_id}</Mono>],
                        ] as const)
                      : ([[t.machine.arch, p.kernel.arch]] as const)),
                    [t.livePatch.policies, p.policies?.join(', ')],
                    [t.livePatch.size, bytes(p.size)],
                    ['SHA-256', <Mono>{p.sha256}</Mono>],
                    [t.livePatch.created, <Time at={p.created} />],
                  ]}
                />
              </Section>
              <Section title={t.livePatch.machines}>
                <Machines p={p} />
              </Section>
            </SimpleGrid>
            <Section title={t.livePatch.cves(count(p.cves?.length ?? 0))}>
              {p.cves && p.cves.length > 0 ? <Cves of={p.cves} /> : <Empty title={t.livePatch.noCves} />}
            </Section>
            <Contents id={p.id} target={p.target} proven={p.proven} />
            <Section title={t.livePatch.reports}>
              <Reports id={p.id} />
            </Section>
          </div>
        )}
      </Loaded>
    </Page>
  );
}

// Stages shows the tiers in order, and which of them have it.
function Stages({ p }: { p: Schemas['LivePatch'] }) {
  const t = useT();
  const all = useQuery(tiers).data?.items ?? [];
  return (
    <ol className="stages" aria-label={t.livePatch.tiers}>
      {all.map((x) => {
        const there = p.tiers?.includes(x.name) ?? false;
        return (
          <li key={x.name} data-there={there || undefined}>
            <b>{x.name}</b>
            <span>{there ? t.livePatch.there : t.livePatch.notThere}</span>
            <span>{t.livePatch.tierMachines(count(x.machines))}</span>
          </li>
        );
      })}
    </ol>
  );
}

function Machines({ p }: { p: Schemas['LivePatch'] }) {
  const t = useT();
  const of = Object.entries(p.machines ?? {}).sort((a, b) => b[1] - a[1]);
  const total = of.reduce((n, [, k]) => n + k, 0);
  if (total === 0) return <Empty title={t.livePatch.noMachines} />;
  return (
    <>
      <Text className="big">{count(total)}</Text>
      <div className="bar" aria-hidden>
        {of.map(([s, n]) => (
          <span key={s} data-color={colorOf(s)} style={{ flexGrow: n }} />
        ))}
      </div>
      <ul className="legend">
        {of.map(([s, n]) => (
          <li key={s} className="legend-link">
            <PatchState of={s} /> <b>{count(n)}</b>
          </li>
        ))}
      </ul>
    </>
  );
}

const kinds = ['', 'state', 'crash', 'health'] as const;

function Reports({ id }: { id: string }) {
  const t = useT();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const kind = kinds.find((k) => k === search.kind) ?? '';
  const after = search.after;
  const pages = usePages(after, (to) => void navigate({ search: (s) => ({ ...s, after: to }), resetScroll: false }));
  const q = useQuery(reports({ patch: id, ...(kind ? { kind } : {}), limit: 20, after }));
  return (
    <>
      <NativeSelect
        aria-label={t.report.kind}
        mb="sm"
        maw={220}
        value={kind}
        onChange={(e) => {
          pages.reset();
          void navigate({ search: { kind: e.currentTarget.value || undefined }, resetScroll: false });
        }}
        data={kinds.map((k) => ({ value: k, label: k === '' ? t.report.allKinds : word(t.reportKind, k) }))}
      />
      <Loaded query={q}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <Table
                caption={t.livePatch.reports}
                rows={l.items}
                id={(r) => r.report.id}
                stale={q.isPlaceholderData}
                columns={[
                  { name: t.report.received, cell: (r) => <Time at={r.received} /> },
                  { name: t.report.kind, cell: (r) => <ReportKind of={r.report.kind} /> },
                  {
                    name: t.report.machine,
                    cell: (r) => (
                      <MachineLink id={r.machine} />
                    ),
                  },
                  { name: t.report.state, cell: (r) => (r.report.patch.state ? <PatchState of={r.report.patch.state} /> : '–') },
                  { name: t.report.detail, cell: (r) => <span lang="en" className="wrap">{r.report.patch.problem?.why ?? r.report.patch.problem?.what ?? '–'}</span> },
                ]}
              />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Empty title={t.report.none} />
          )
        }
      </Loaded>
    </>
  );
}

function Actions({ p }: { p: Schemas['LivePatch'] }) {
  const t = useT();
  const mayPromote = useMay('rollouts');
  const all = useQuery(tiers).data?.items ?? [];
  const rank = Math.max(0, ...all.filter((x) => p.tiers?.includes(x.name)).map((x) => x.rank));
  const higher = all.filter((x) => !p.tiers?.includes(x.name));
  const next = higher.find((x) => x.rank > rank)?.name ?? higher[0]?.name ?? '';
  const [tier, setTier] = useState('');
  const [reason, setReason] = useState('');
  const [recall, setRecall] = useState(false);
  const path = { path: { id: p.id } };
  return (
    <Group gap="xs">
      {mayPromote && !p.blocked && <NewRollout livepatch={p} />}
      {mayPromote && higher.length > 0 && !p.blocked && (
        <Dialog
          button={t.livePatch.promote}
          title={t.livePatch.promoteTitle(p.id)}
          go={t.livePatch.promote}
          done={t.livePatch.promoted}
          onOpen={() => setTier(next)}
          approval={{ action: 'promote-stable', object: p.id, tier }}
          act={(approval) => ask(api.POST('/v1/livepatches/{id}/promote', { params: { ...path, ...(approval ? { query: { approval } } : {}) }, body: { tier } }))}
        >
          <Help>{t.livePatch.promoteHelp}</Help>
          <NativeSelect
            label={t.machine.tier}
            value={tier}
            onChange={(e) => setTier(e.currentTarget.value)}
            data={higher.map((x) => ({ value: x.name, label: `${x.name} (${t.livePatch.tierMachines(count(x.machines))})` }))}
          />
        </Dialog>
      )}
      {p.blocked ? (
        mayPromote && <Dialog
          button={t.livePatch.unblock}
          title={t.livePatch.unblockTitle(p.id)}
          go={t.livePatch.unblock}
          done={t.livePatch.unblocked}
          act={() => ask(api.POST('/v1/livepatches/{id}/unblock', { params: path }))}
        >
          <Help>{t.livePatch.unblockHelp}</Help>
        </Dialog>
      ) : (
        <Dialog
          button={t.livePatch.block}
          danger
          title={t.livePatch.blockTitle(p.id)}
          go={t.livePatch.block}
          done={t.livePatch.blockedNow}
          ready={reason.trim() !== ''}
          onOpen={() => {
            setReason('');
            setRecall(false);
          }}
          act={() => ask(api.POST('/v1/livepatches/{id}/block', { params: path, body: { reason: reason.trim(), recall } }))}
        >
          <Help>{t.livePatch.blockHelp}</Help>
          <Textarea label={t.reason} required value={reason} onChange={(e) => setReason(e.currentTarget.value)} data-autofocus maxLength={1000} autosize={false} />
          <Switch label={t.livePatch.recall} description={t.livePatch.recallHelp} checked={recall} onChange={(e) => setRecall(e.currentTarget.checked)} />
        </Dialog>
      )}
      {mayPromote && (p.tiers?.length ?? 0) > 0 && <Revert p={p} />}
    </Group>
  );
}

function Revert({ p }: { p: Schemas['LivePatch'] }) {
  const t = useT();
  const [tier, setTier] = useState('');
  const [to, setTo] = useState<number | ''>(0);
  const [reason, setReason] = useState('');
  const [policy, setPolicy] = useState('');
  const version = Number(to);
  return (
    <Dialog
      button={t.livePatch.revert}
      danger
      title={t.livePatch.revertTitle(p.target)}
      go={t.livePatch.revert}
      done={t.livePatch.reverted}
      ready={reason.trim() !== '' && tier !== '' && Number.isInteger(version) && version >= 0 && to !== ''}
      onOpen={() => {
        setTier(p.tiers?.at(-1) ?? '');
        setTo(0);
        setReason('');
        setPolicy('');
      }}
      act={() => ask(api.POST('/v1/reverts', { body: { target: p.target, tier, to: version, reason: reason.trim(), ...(policy ? { policy } : {}) } }))}
    >
      <Help>{t.livePatch.revertHelp}</Help>
      <NativeSelect label={t.machine.tier} value={tier} onChange={(e) => setTier(e.currentTarget.value)} data={[...(p.tiers ?? [])]} />
      <NumberField label={t.livePatch.revertTo} description={t.livePatch.revertToHelp} min={0} value={to} onChange={setTo} />
      <TextInput label={t.livePatch.revertPolicy} description={t.livePatch.revertPolicyHelp} value={policy} onChange={(e) => setPolicy(e.currentTarget.value.trim())} />
      <Textarea label={t.reason} required value={reason} onChange={(e) => setReason(e.currentTarget.value)} maxLength={1000} />
    </Dialog>
  );
}
