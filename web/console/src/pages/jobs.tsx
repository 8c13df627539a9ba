// SPDX-License-Identifier: Apache-2.0
import { FileInput, NativeSelect, Switch, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask } from '../api/client';
import { jobs, type JobQuery } from '../api/queries';
import { cveOf, verdictOf } from '../cve';
import { useT, word } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { JobState, Time, Took } from '../ui/words';

const here = getRouteApi('/jobs');
const states = ['queued', 'running', 'done', 'failed', 'cancelled'] as const;

export function Jobs() {
  const t = useT();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const may = useMay('build');
  const state: JobQuery['state'] = states.find((s) => s === search.state);
  const pages = usePages(search.after, (after) => void navigate({ search: (s) => ({ ...s, after }) }));
  const q = useQuery(jobs({ state, after: search.after, limit: 50 }));
  return (
    <Page title={t.jobs.title} about={t.jobs.about} actions={may && <Queue />}>
      <div className="filters">
        <NativeSelect
          label={t.job.state}
          value={state ?? ''}
          onChange={(e) => {
            pages.reset();
            void navigate({ search: e.currentTarget.value ? { state: e.currentTarget.value } : {} });
          }}
          data={[{ value: '', label: t.machines.all }, ...states.map((s) => ({ value: s, label: word(t.jobState, s) }))]}
        />
      </div>
      <Loaded query={q} lines={8}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <Table
                caption={t.jobs.title}
                rows={l.items}
                id={(j) => j.id}
                stale={q.isPlaceholderData}
                columns={[
                  {
                    name: t.job.title,
                    cell: (j) => (
                      <Link to="/jobs/$id" params={{ id: j.id }} className="link">
                        {j.title || j.id}
                      </Link>
                    ),
                  },
                  { name: t.job.target, cell: (j) => j.target },
                  { name: t.job.state, cell: (j) => <JobState of={j} /> },
                  { name: t.job.outcome, cell: (j) => (j.verdict ? word(t.verdict, verdictOf(j.verdict, j.target)) : j.state === 'running' ? (j.stage ?? '–') : '–') },
                  { name: t.job.policies, cell: (j) => j.policies?.join(', ') || '–' },
                  { name: t.job.took, right: true, cell: (j) => (j.started ? <Took from={j.started} to={j.ended} /> : '–') },
                  { name: t.job.created, cell: (j) => <Time at={j.created} /> },
                ]}
              />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Empty title={state ? t.jobs.noneFit : t.jobs.none}>{t.jobs.noneHelp}</Empty>
          )
        }
      </Loaded>
    </Page>
  );
}

function Queue() {
  const t = useT();
  const navigate = useNavigate();
  const [target, setTarget] = useState('');
  const [files, setFiles] = useState<File[]>([]);
  const [cves, setCves] = useState('');
  const [publish, setPublish] = useState(false);
  const [prove, setProve] = useState(true);
  const names = cves.split(/[\s,]+/).filter(Boolean);
  const wrong = names.find((n) => !cveOf(n));
  return (
    <Dialog
      button={t.jobs.queue}
      title={t.jobs.queue}
      go={t.jobs.queue}
      done={t.jobs.queued}
      ready={target.trim() !== '' && files.length > 0 && !wrong}
      onOpen={() => {
        setTarget('');
        setFiles([]);
        setCves('');
        setPublish(false);
        setProve(true);
      }}
      act={async () => {
        const fixes = await Promise.all(
          files.map(async (f, i) => ({
            id: f.name.replace(/\.(diff|patch)$/, ''),
            diff: await f.text(),
            ...(i === 0 && names.length > 0 ? { cves: names.map(cveOf) } : {}),
          })),
        );
        return ask(api.POST('/v1/jobs', { body: { target: target.trim(), fixes, publish, prove: prove || publish } }));
      }}
      after={(j) => navigate({ to: '/jobs/$id', params: { id: j.id } })}
    >
      <Help>{t.jobs.queueHelp}</Help>
      <TextInput label={t.job.target} placeholder="debian:6.1.0-55-amd64" required value={target} onChange={(e) => setTarget(e.currentTarget.value)} data-autofocus spellCheck={false} />
      <FileInput label={t.jobs.diffs} description={t.jobs.diffsHelp} multiple accept=".diff,.patch,text/plain" value={files} onChange={setFiles} />
      <TextInput
        label={t.jobs.cves}
        description={t.jobs.cvesHelp}
        placeholder="CVE-2026-31431"
        value={cves}
        onChange={(e) => setCves(e.currentTarget.value)}
        error={wrong ? t.overview.notCve : undefined}
        spellCheck={false}
      />
      <Switch label={t.jobs.prove} description={t.jobs.proveHelp} checked={prove || publish} disabled={publish} onChange={(e) => setProve(e.currentTarget.checked)} />
      <Switch label={t.jobs.publish} description={t.jobs.publishHelp} checked={publish} onChange={(e) => setPublish(e.currentTarget.checked)} />
    </Dialog>
  );
}
