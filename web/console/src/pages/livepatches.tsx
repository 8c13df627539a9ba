// SPDX-License-Identifier: Apache-2.0
import { FileInput, NativeSelect } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { targets } from '../api/data';
import { livePatches, tiers } from '../api/queries';
import { bytes, count } from '../format';
import { useT } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { Time } from '../ui/words';
import { PatchMarks } from './patchmarks';

const here = getRouteApi('/livepatches');
const size = 50;

export function LivePatches() {
  const t = useT();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const may = useMay('publish');
  const pages = usePages(search.after, (after) => void navigate({ search: (s) => ({ ...s, after }) }));
  const q = useQuery(livePatches({ ...search, limit: size }));
  const known = useQuery(tiers).data?.items ?? [];
  const kernels = (useQuery(targets).data?.items ?? []).filter((x) => x.patches > 0).map((x) => x.target);
  const change = (c: { tier?: string | undefined; target?: string | undefined }) => {
    pages.reset();
    void navigate({ search: (s) => ({ ...s, ...c, after: undefined }) });
  };
  return (
    <Page title={t.livePatches.title} about={t.livePatches.about} actions={may && <Publish />}>
      <div className="filters">
        <NativeSelect
          label={t.machine.tier}
          value={search.tier ?? ''}
          onChange={(e) => change({ tier: e.currentTarget.value || undefined })}
          data={[{ value: '', label: t.machines.all }, ...known.map((x) => x.name), ...(search.tier && !known.some((x) => x.name === search.tier) ? [search.tier] : [])]}
        />
        <NativeSelect
          className="wide"
          label={t.job.target}
          value={search.target ?? ''}
          onChange={(e) => change({ target: e.currentTarget.value || undefined })}
          data={[{ value: '', label: t.machines.all }, ...kernels, ...(search.target && !kernels.includes(search.target) ? [search.target] : [])]}
        />
      </div>
      <Loaded query={q} lines={8}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <PatchTable rows={l.items} stale={q.isPlaceholderData} />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Empty title={search.tier || search.target ? t.livePatches.noneFit : t.livePatches.none}>{t.livePatches.noneHelp}</Empty>
          )
        }
      </Loaded>
    </Page>
  );
}

export function PatchTable({ rows, stale }: { rows: readonly Schemas['LivePatch'][]; stale?: boolean }) {
  const t = useT();
  return (
    <Table
      caption={t.livePatches.title}
      rows={rows}
      id={(p) => p.id}
      stale={stale ?? false}
      columns={[
        {
          name: t.livePatch.name,
          cell: (p) => (
            <Link to="/livepatches/$id" params={{ id: p.id }} className="link">
              {p.id}
            </Link>
          ),
        },
        { name: t.livePatch.marks, cell: (p) => <PatchMarks p={p} /> },
        { name: 'CVE', right: true, cell: (p) => count(p.cves?.length ?? 0) },
        { name: t.livePatch.tiers, cell: (p) => p.tiers?.join(', ') || '–' },
        { name: t.livePatch.size, right: true, cell: (p) => bytes(p.size) },
        { name: t.livePatch.created, cell: (p) => <Time at={p.created} /> },
      ]}
    />
  );
}

function Publish() {
  const t = useT();
  const navigate = useNavigate();
  const [artifact, setArtifact] = useState<File | null>(null);
  const [proof, setProof] = useState<File | null>(null);
  const [report, setReport] = useState<File | null>(null);
  const [tier, setTier] = useState('');
  const known = useQuery(tiers).data?.items ?? [];
  return (
    <Dialog
      button={t.livePatches.publish}
      title={t.livePatches.publish}
      go={t.livePatches.publish}
      done={t.livePatches.published}
      ready={artifact !== null}
      onOpen={() => {
        setArtifact(null);
        setProof(null);
        setReport(null);
        setTier('');
      }}
      act={() => {
        const form = new FormData();
        if (artifact) form.append('artifact', artifact, artifact.name);
        if (proof) form.append('proof', proof, proof.name);
        if (report) form.append('report', report, report.name);
        return ask(
          api.POST('/v1/livepatches', {
            params: { query: tier ? { tier } : {} },
            body: form as never,
            bodySerializer: (b: unknown) => b as FormData,
          }),
        );
      }}
      after={(p) => navigate({ to: '/livepatches/$id', params: { id: p.id } })}
    >
      <Help>{t.livePatches.publishHelp}</Help>
      <FileInput label={t.livePatches.artifact} placeholder=".tsugi" accept=".tsugi" value={artifact} onChange={setArtifact} />
      <FileInput label={t.livePatches.proof} placeholder="proof.json" accept=".json" value={proof} onChange={setProof} clearable />
      <FileInput label={t.livePatches.report} placeholder="report.json" accept=".json" value={report} onChange={setReport} clearable />
      <NativeSelect
        label={t.machine.tier}
        value={tier}
        onChange={(e) => setTier(e.currentTarget.value)}
        data={[{ value: '', label: t.livePatches.firstTier }, ...known.map((x) => x.name)]}
      />
    </Dialog>
  );
}
