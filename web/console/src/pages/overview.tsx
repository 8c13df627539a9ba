// SPDX-License-Identifier: Apache-2.0
import { Button, Group, SimpleGrid, Text, TextInput } from '@mantine/core';
import { IconArrowRight, IconCircleCheck } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState, type ReactNode } from 'react';
import type { Schemas } from '../api/client';
import { cve as cveQuery } from '../api/data';
import { jobs, overview, reports } from '../api/queries';
import { approvals } from '../api/people';
import { rollouts } from '../api/rollouts';
import { cveOf } from '../cve';
import { count, percent } from '../format';
import { useT, word } from '../i18n';
import { useMay } from '../ui/act';
import { Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { colorOf, JobState, Need, Protection, ReportKind, Time } from '../ui/words';
import { MachineLink } from './machinelink';
import { RolloutTable } from './rollouts';
import { Trend } from './trend';

const order = ['protected', 'outdated', 'partly', 'unprotected', 'not-covered', 'failing', 'silent'] as const;
const needs = ['reboot', 'module', 'restart', 'live-patch', 'build', 'policy', 'possible'] as const;
const severities = ['exploited', 'critical', 'high', 'medium', 'low', 'unknown'] as const;

export function Overview() {
  const t = useT();
  const q = useQuery(overview);
  return (
    <Page title={t.overview.title} about={q.data && <>{t.overview.counted} <Time at={q.data.counted} /></>}>
      <Loaded query={q} lines={8}>
        {(o) => (o.machines === 0 ? <Begin /> : <Fleet o={o} />)}
      </Loaded>
    </Page>
  );
}

function Begin() {
  const t = useT();
  return (
    <Empty title={t.overview.noMachines}>
      {t.overview.noMachinesHelp}{' '}
      <Link to="/tokens" className="link">
        {t.nav.tokens}
      </Link>
    </Empty>
  );
}

function Fleet({ o }: { o: Schemas['Overview'] }) {
  const t = useT();
  const of = (p: string) => o.protections[p] ?? 0;
  return (
    <div className="stack">
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Section title={t.overview.protection}>
          <Group align="baseline" gap="xs">
            <Text className="big">{percent(of('protected'), o.machines)}</Text>
            <Text c="dimmed">{t.overview.protectedOf(count(of('protected')), count(o.machines))}</Text>
          </Group>
          <div className="bar" aria-hidden>
            {order.map((p) => of(p) > 0 && <span key={p} data-color={colorOf(p)} style={{ flexGrow: of(p) }} />)}
          </div>
          <ul className="legend">
            {order.map((p) => (
              <li key={p}>
                <Link to="/machines" search={{ protection: p }} className="legend-link">
                  <Protection of={p} />
                  <b>{count(of(p))}</b>
                </Link>
              </li>
            ))}
          </ul>
        </Section>
        <Section title={t.overview.attention}>
          <Attention o={o} />
        </Section>
      </SimpleGrid>
      <Running />
      <Section title={t.trend.title}>
        <Trend />
      </Section>
      <Section title={t.overview.exposed}>
        <Exposed />
      </Section>
      <Section title={t.overview.open}>
        <Open o={o} />
      </Section>
      <SimpleGrid cols={{ base: 1, lg: 2 }}>
        <Section title={t.overview.jobs}>
          <LatestJobs />
        </Section>
        <Section title={t.overview.reports}>
          <LatestReports />
        </Section>
      </SimpleGrid>
    </div>
  );
}

// Running are the rollouts under way, if there are any.
function Running() {
  const t = useT();
  const open = useQuery(rollouts({ open: true, limit: 10 })).data?.items ?? [];
  if (open.length === 0) return null;
  return (
    <Section title={t.rollouts.running}>
      <RolloutTable rows={open} />
    </Section>
  );
}

function Attention({ o }: { o: Schemas['Overview'] }) {
  const t = useT();
  const open = useQuery(rollouts({ open: true, limit: 10 })).data?.items ?? [];
  const mayApprove = useMay('approve');
  const asked = useQuery({ ...approvals({}), enabled: mayApprove }).data?.items ?? [];
  const failing = o.protections['failing'] ?? 0;
  const silent = o.protections['silent'] ?? 0;
  const exploited = needs.filter((n) => n === 'reboot' || n === 'module').reduce((sum, n) => sum + (o.open?.[n]?.['exploited'] ?? 0), 0);
  const failed = (o.choices?.['failed'] ?? 0) + (o.choices?.['blocked'] ?? 0);
  const items: ReactNode[] = [];
  const item = (n: number, of: (n: number) => string, to: (name: { 'aria-label': string }) => ReactNode) => {
    const text = of(n);
    if (n > 0) {
      items.push(
        <li key={text}>
          <b>{count(n)}</b> <span className="grow">{text}</span> {to({ 'aria-label': text })}
        </li>,
      );
    }
  };
  const see = <IconArrowRight size={16} aria-hidden />;
  item(open.filter((r) => r.phase === 'halted').length, t.overview.attend.halted, (name) => <Link to="/rollouts" search={{ open: 'true' }} {...name}>{see}</Link>);
  item(asked.length + open.filter((r) => r.needed > (r.approvals?.length ?? 0)).length, t.overview.attend.approvals, (name) => <Link to="/approvals" {...name}>{see}</Link>);
  item(exploited, t.overview.attend.exploited, (name) => <Link to="/machines" search={{ need: 'reboot' }} {...name}>{see}</Link>);
  item(o.open?.['restart']?.['exploited'] ?? 0, t.overview.attend.restart, (name) => <Link to="/machines" search={{ need: 'restart' }} {...name}>{see}</Link>);
  item(o.stale ?? 0, t.overview.attend.stale, (name) => <Link to="/machines" search={{ stale: 'true' }} {...name}>{see}</Link>);
  item(failing, t.overview.attend.failing, (name) => <Link to="/machines" search={{ protection: 'failing' }} {...name}>{see}</Link>);
  item(silent, t.overview.attend.silent, (name) => <Link to="/machines" search={{ protection: 'silent' }} {...name}>{see}</Link>);
  item(failed, t.overview.attend.choices, (name) => <Link to="/policies" {...name}>{see}</Link>);
  item(o.unpromoted ?? 0, t.overview.attend.unpromoted, (name) => <Link to="/policies" {...name}>{see}</Link>);
  item(o.ending ?? 0, t.overview.attend.ending, (name) => <Link to="/policies" {...name}>{see}</Link>);
  if (items.length === 0) {
    return (
      <Group gap="xs">
        <IconCircleCheck aria-hidden color="var(--mantine-color-teal-6)" />
        <Text>{t.overview.nothing}</Text>
      </Group>
    );
  }
  return <ul className="attention">{items}</ul>;
}

function Exposed() {
  const t = useT();
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  const cve = cveOf(text);
  return (
    <form
      onSubmit={(e) => {
        e.preventDefault();
        if (cve) setAsked(cve);
      }}
    >
      <Group align="flex-start" gap="xs">
        <TextInput
          className="grow"
          aria-label={t.overview.exposed}
          placeholder="CVE-2026-31431"
          value={text}
          onChange={(e) => setText(e.currentTarget.value)}
          error={text.length > 12 && !cve ? t.overview.notCve : undefined}
        />
        <Button type="submit" disabled={!cve}>
          {t.overview.ask}
        </Button>
      </Group>
      {asked && <Answer cve={asked} />}
    </form>
  );
}

// Answer says it in one sentence; the page of the CVE says the rest.
function Answer({ cve }: { cve: string }) {
  const t = useT();
  const q = useQuery(cveQuery(cve));
  return (
    <div aria-live="polite" className="answer">
      <Loaded query={q} lines={1}>
        {(d) => {
          const open = needs.filter((n) => d.open[n]);
          const total = open.reduce((sum, n) => sum + (d.open[n] ?? 0), 0);
          const known = (d.targets?.length ?? 0) > 0 || total > 0;
          const ends = open.map((n) => `${word(t.need, n)}: ${count(d.open[n] ?? 0)}`).join(t.overview.and);
          return (
            <Text component="p">
              <b>{d.cve}</b>:{' '}
              {known ? t.overview.answer(count(d.protected), count(total), ends, count(d.not_affected)) : t.cve.unknown}{' '}
              {known && d.unknown > 0 && <>{t.overview.answerUnknown(count(d.unknown))} </>}
              <Link to="/cves/$cve" params={{ cve: d.cve }} className="link">
                {t.overview.answerMore}
              </Link>
            </Text>
          );
        }}
      </Loaded>
    </div>
  );
}

function Open({ o }: { o: Schemas['Overview'] }) {
  const t = useT();
  if (!o.open) return <Text c="dimmed">{t.overview.openUnknown}</Text>;
  const rows = needs.filter((n) => Object.keys(o.open?.[n] ?? {}).length > 0);
  if (rows.length === 0) return <Empty title={t.overview.noneOpen}>{t.overview.noneOpenHelp}</Empty>;
  const shown = severities.filter((s) => rows.some((n) => o.open?.[n]?.[s]));
  return (
    <>
      <Text size="sm" c="dimmed" mb="xs">
        {t.overview.openHelp}
      </Text>
      <Table
        caption={t.overview.open}
        rows={rows}
        id={(n) => n}
        columns={[
          {
            name: t.overview.needed,
            cell: (n) => (
              <Link to="/machines" search={{ need: n }} className="link">
                <Need of={n} />
              </Link>
            ),
          },
          ...shown.map((s) => ({
            name: word(t.severity, s),
            right: true,
            cell: (n: (typeof needs)[number]) => {
              const k = o.open?.[n]?.[s] ?? 0;
              return k === 0 ? <span className="zero">0</span> : count(k);
            },
          })),
        ]}
      />
    </>
  );
}

function LatestJobs() {
  const t = useT();
  return (
    <Loaded query={useQuery(jobs({ limit: 5 }))} lines={5}>
      {(l) =>
        l.items && l.items.length > 0 ? (
          <Table
            caption={t.overview.jobs}
            rows={l.items}
            id={(j) => j.id}
            columns={[
              {
                name: t.job.title,
                cell: (j) => (
                  <>
                    <Link to="/jobs/$id" params={{ id: j.id }} className="link">
                      {j.title || j.target}
                    </Link>
                    {j.title && (
                      <Text size="xs" c="dimmed">
                        {j.target}
                      </Text>
                    )}
                  </>
                ),
              },
              { name: t.job.state, cell: (j) => <JobState of={j} /> },
              { name: t.job.created, cell: (j) => <Time at={j.created} /> },
            ]}
          />
        ) : (
          <Empty title={t.jobs.none} />
        )
      }
    </Loaded>
  );
}

function LatestReports() {
  const t = useT();
  return (
    <Loaded query={useQuery(reports({ limit: 5 }))} lines={5}>
      {(l) =>
        l.items && l.items.length > 0 ? (
          <Table
            caption={t.overview.reports}
            rows={l.items}
            id={(r) => r.report.id}
            columns={[
              { name: t.report.kind, cell: (r) => <ReportKind of={r.report.kind} /> },
              {
                name: t.report.machine,
                cell: (r) => (
                  <MachineLink id={r.machine} />
                ),
              },
              { name: t.report.state, cell: (r) => word(t.patchState, r.report.patch.state) || '–' },
              { name: t.report.received, cell: (r) => <Time at={r.received} /> },
            ]}
          />
        ) : (
          <Empty title={t.report.none} />
        )
      }
    </Loaded>
  );
}

