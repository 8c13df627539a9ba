// SPDX-License-Identifier: Apache-2.0
import { Alert, Group, NativeSelect, SimpleGrid, Text, Textarea } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { ended, rollout, rolloutMachines, rolloutSteps, type RolloutMachineQuery } from '../api/rollouts';
import { count, dateTime } from '../format';
import { useLanguage, useT, word } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { MachineStatus, Phase, Time } from '../ui/words';
import { Budget, Waves } from './waves';

const here = getRouteApi('/rollouts/$id');
type Rollout = Schemas['Rollout'];

export function Rollout() {
  const t = useT();
  const { id } = here.useParams();
  const q = useQuery(rollout(id));
  const r = q.data;
  return (
    <Page
      title={r ? r.livepatch : id}
      up={
        <Link to="/rollouts" className="link">
          {t.nav.rollouts}
        </Link>
      }
      about={
        r && (
          <>
            <Phase of={r.phase} /> · {t.rollouts.through(r.tier)} · {t.rollouts.by(r.created_by)}, <Time at={r.created} />
          </>
        )
      }
      actions={r && <Actions r={r} />}
    >
      <Loaded query={q} lines={10}>
        {(r) => (
          <div className="stack">
            <Standing r={r} />
            <Section title={t.rollouts.waves}>
              <Waves waves={r.waves ?? []} r={r} />
            </Section>
            <SimpleGrid cols={{ base: 1, md: 2 }}>
              <Section title={t.rollouts.health}>
                <Budget r={r} />
              </Section>
              <Section title={t.rollouts.plan}>
                <PlanFacts p={r.plan} r={r} />
              </Section>
            </SimpleGrid>
            <Section title={t.rollouts.decisions}>
              <Steps id={r.id} />
            </Section>
            <Section title={t.rollouts.machinesTitle}>
              <Machines id={r.id} />
            </Section>
          </div>
        )}
      </Loaded>
    </Page>
  );
}

const tones: Record<string, string> = { halted: 'red', reverting: 'orange', pending: 'yellow', done: 'teal' };

// Standing says in words where a rollout stands and what it waits for.
function Standing({ r }: { r: Rollout }) {
  const t = useT();
  const waitsFor = Math.max(0, r.needed - (r.approvals?.length ?? 0));
  const tone = tones[r.phase] ?? (r.closed ? 'yellow' : '');
  if (tone === '') return null;
  return (
    <Alert color={tone || 'gray'} variant="light" title={word(t.phaseHelp, r.phase)} role={r.phase === 'halted' ? 'alert' : undefined}>
      {r.reason && (
        <div lang="en" className="wrap">
          {r.reason}
        </div>
      )}
      {r.by && <div>{t.rollouts.doneBy(r.by)}</div>}
      {waitsFor > 0 && !ended(r.phase) && <div>{t.rollouts.needs(count(waitsFor))}</div>}
      {r.closed && !ended(r.phase) && (
        <div>
          <span lang="en">{r.closed}</span>
          {r.opens_at ? (
            <>
              : <Time at={r.opens_at} />
            </>
          ) : null}
        </div>
      )}
      <div className="dim">
        <Time at={r.since} />
      </div>
    </Alert>
  );
}

export function PlanFacts({ p, r }: { p: Schemas['RolloutPlan']; r?: Rollout }) {
  const t = useT();
  const limit = (l: Schemas['RolloutLimit'] | undefined) => l && t.rollouts.limit(count(l.count), String(l.percent ?? 0));
  return (
    <Facts
      of={[
        [t.rollouts.emergency, (p.emergency || r?.emergency) && t.yes],
        [t.rollouts.maxInFlight, p.max_in_flight],
        [t.rollouts.mayCrash, limit(p.budget?.crashes)],
        [t.rollouts.mayFail, limit(p.budget?.failures)],
        [t.rollouts.settle, p.settle],
        [t.rollouts.watch, p.watch],
        [t.rollouts.patience, p.patience],
        [t.rollouts.windows, p.windows?.join(', ')],
        [t.rollouts.freezes, p.freezes?.map((f) => `${f.from} – ${f.to}: ${f.reason}`).join('; ')],
        [t.rollouts.timezone, p.windows?.length ? p.timezone : ''],
        [t.rollouts.start, p.start],
        [t.rollouts.onHalt, p.revert ? t.rollouts.takeOut : t.rollouts.wait],
        [t.rollouts.approvals, p.approvals ? count(p.approvals) : ''],
        [t.rollouts.approvedBy, r?.approvals?.map((a) => a.by).join(', ')],
      ]}
    />
  );
}

type Verb = 'halt' | 'resume' | 'skip' | 'abort' | 'revert' | 'hurry' | 'approve';

function Actions({ r }: { r: Rollout }) {
  const stop = useMay('stop');
  const may = useMay('rollouts');
  const approve = useMay('approve');
  if (ended(r.phase)) return null;
  const waitsFor = Math.max(0, r.needed - (r.approvals?.length ?? 0));
  const going = r.phase === 'running' || r.phase === 'pending';
  return (
    <Group gap="xs">
      {stop && r.phase === 'running' && <Act r={r} verb="halt" danger needsReason />}
      {may && r.phase === 'halted' && <Act r={r} verb="resume" />}
      {approve && waitsFor > 0 && <Act r={r} verb="approve" />}
      {may && r.phase === 'running' && !r.skip && <Act r={r} verb="skip" />}
      {may && going && !r.emergency && <Act r={r} verb="hurry" danger needsReason />}
      {may && r.phase !== 'reverting' && <Act r={r} verb="abort" danger needsReason />}
      {may && r.phase !== 'reverting' && r.phase !== 'pending' && <Act r={r} verb="revert" danger needsReason />}
    </Group>
  );
}

function Act({ r, verb, danger, needsReason }: { r: Rollout; verb: Verb; danger?: boolean; needsReason?: boolean }) {
  const t = useT();
  const [reason, setReason] = useState('');
  const params = { path: { id: r.id } };
  const body = reason.trim() ? { reason: reason.trim() } : {};
  const act = () => {
    switch (verb) {
      case 'halt':
        return ask(api.POST('/v1/rollouts/{id}/halt', { params, body }));
      case 'resume':
        return ask(api.POST('/v1/rollouts/{id}/resume', { params, body }));
      case 'skip':
        return ask(api.POST('/v1/rollouts/{id}/skip', { params, body }));
      case 'abort':
        return ask(api.POST('/v1/rollouts/{id}/abort', { params, body }));
      case 'revert':
        return ask(api.POST('/v1/rollouts/{id}/revert', { params, body }));
      case 'hurry':
        return ask(api.POST('/v1/rollouts/{id}/hurry', { params, body }));
      case 'approve':
        return ask(api.POST('/v1/rollouts/{id}/approve', { params, body }));
    }
  };
  return (
    <Dialog
      button={t.verb[verb]}
      {...(danger ? { danger } : verb === 'resume' || verb === 'approve' ? { buttonProps: { variant: 'filled' as const } } : {})}
      title={t.verbTitle[verb]}
      go={t.verb[verb]}
      done={t.rollouts.acted}
      ready={!needsReason || reason.trim() !== ''}
      onOpen={() => setReason('')}
      act={act}
    >
      <Help>{t.verbHelp[verb]}</Help>
      <Textarea label={t.reason} required={needsReason ?? false} value={reason} onChange={(e) => setReason(e.currentTarget.value)} data-autofocus maxLength={1000} />
    </Dialog>
  );
}

function Steps({ id }: { id: string }) {
  const t = useT();
  useLanguage();
  const { step } = here.useSearch();
  const navigate = here.useNavigate();
  const pages = usePages(step, (to) => void navigate({ search: (s) => ({ ...s, step: to }), resetScroll: false }));
  const q = useQuery(rolloutSteps(id, step));
  return (
    <Loaded query={q}>
      {(l) =>
        l.items && l.items.length > 0 ? (
          <>
            <Table
              caption={t.rollouts.decisions}
              rows={l.items}
              id={(s) => String(s.seq)}
              stale={q.isPlaceholderData}
              columns={[
                { name: t.audit.time, cell: (s) => <time className="nowrap" dateTime={new Date(s.time).toISOString()}>{dateTime(s.time)}</time> },
                {
                  name: t.rollouts.what,
                  cell: (s) => (
                    <>
                      {word(t.step, s.what)}
                      {s.failure && <>: {word(t.failure, s.failure)}</>}
                    </>
                  ),
                },
                { name: t.rollouts.wave, right: true, cell: (s) => (s.wave ? count(s.wave) : '–') },
                { name: t.nav.machines, right: true, cell: (s) => (s.machines ? count(s.machines) : '–') },
                {
                  name: t.rollouts.why,
                  cell: (s) => (
                    <span lang="en" className="wrap">
                      {s.why}
                    </span>
                  ),
                },
                { name: t.audit.actor, cell: (s) => (s.actor === 'rollout' ? t.rollouts.itself : s.actor) },
              ]}
            />
            <Pager pages={pages} next={l.next} shown={l.items.length} />
          </>
        ) : (
          <Empty title={t.rollouts.noDecisions} />
        )
      }
    </Loaded>
  );
}

const statuses = ['failed', 'begun', 'offered', 'well', 'late', 'withdrawn', 'left'] as const;

function Machines({ id }: { id: string }) {
  const t = useT();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const status: RolloutMachineQuery['status'] = statuses.find((s) => s === search.status);
  const after = search.after;
  const pages = usePages(after, (to) => void navigate({ search: (s) => ({ ...s, after: to }), resetScroll: false }));
  const q = useQuery(rolloutMachines(id, { ...(status ? { status } : {}), ...(after ? { after } : {}), limit: 50 }));
  return (
    <>
      <NativeSelect
        aria-label={t.rollouts.status}
        mb="sm"
        maw={240}
        value={status ?? ''}
        onChange={(e) => {
          pages.reset();
          const to = e.currentTarget.value || undefined;
          void navigate({ search: (s) => ({ ...s, status: to, after: undefined }), resetScroll: false });
        }}
        data={[{ value: '', label: t.rollouts.anyStatus }, ...statuses.map((s) => ({ value: s, label: word(t.machineStatus, s) }))]}
      />
      <Loaded query={q}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <Table
                caption={t.rollouts.machinesTitle}
                rows={l.items}
                id={(m) => m.machine}
                stale={q.isPlaceholderData}
                columns={[
                  {
                    name: t.machine.hostname,
                    cell: (m) => (
                      <Link to="/machines/$id" params={{ id: m.machine }} className="link" preload={false}>
                        {m.hostname || m.machine.slice(0, 8)}
                      </Link>
                    ),
                  },
                  {
                    name: t.rollouts.status,
                    cell: (m) => (
                      <>
                        <MachineStatus of={m.status} />
                        {m.failure && (
                          <div className="dim">
                            {word(t.failure, m.failure)}
                            {m.forgiven && <> ({t.rollouts.forgivenOne})</>}
                          </div>
                        )}
                      </>
                    ),
                  },
                  { name: t.rollouts.wave, right: true, cell: (m) => count(m.wave) },
                  { name: t.rollouts.offered, cell: (m) => <Time at={m.offered} /> },
                  { name: t.rollouts.begun, cell: (m) => <Time at={m.begun} /> },
                  { name: t.rollouts.settled, cell: (m) => <Time at={m.failed_at || m.settled} /> },
                ]}
              />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Text size="sm" c="dimmed">
              {t.rollouts.noMachines}
            </Text>
          )
        }
      </Loaded>
    </>
  );
}
