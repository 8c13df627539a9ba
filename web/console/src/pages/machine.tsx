// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, Code, SimpleGrid, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { Fault, type Schemas } from '../api/client';
import { machine, machineModules } from '../api/queries';
import { explainRollout, rollouts } from '../api/rollouts';
import { useT, word } from '../i18n';
import { useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded, Problem } from '../ui/states';
import { Table } from '../ui/table';
import { Mono, Need, PatchState, Protection, Severity, Time } from '../ui/words';
import { Cves } from './cves';
import { MachineActions } from './machineacts';
import { MachineHistory } from './machinehistory';
import { Packages } from './packages';
import { Stale } from './stale';

const here = getRouteApi('/machines/$id');

export function Machine() {
  const t = useT();
  const { id } = here.useParams();
  const q = useQuery(machine(id));
  const m = q.data;
  const may = useMay('machines', m?.group);
  return (
    <Page
      title={m?.hostname ?? id}
      up={
        <Link to="/machines" className="link">
          {t.nav.machines}
        </Link>
      }
      about={m && <Mono>{m.id}</Mono>}
      actions={may && m && !m.gone && <MachineActions m={m} />}
    >
      <Loaded query={q} lines={10}>
        {(m) => (
          <div className="stack">
            <Standing m={m} />
            <InRollouts m={m} />
            <Section title={t.machine.open}>
              <Open m={m} />
            </Section>
            <Section title={t.machine.fixed}>
              {m.cves && m.cves.length > 0 ? <Cves of={m.cves} /> : <Empty title={t.machine.noneFixed} />}
            </Section>
            {m.packages && m.packages.length > 0 && (
              <Section title={t.machine.packages}>
                <Packages of={m.packages} />
              </Section>
            )}
            {m.stale && m.stale.processes > 0 && (
              <Section title={t.machine.stale}>
                <Stale of={m.stale} />
              </Section>
            )}
            {m.replacements && m.replacements.length > 0 && (
              <Section title={t.machine.replacements}>
                <Replacements of={m.replacements} />
              </Section>
            )}
            <Section title={t.machine.history}>
              <MachineHistory id={m.id} />
            </Section>
            <Section title={t.machine.modules}>
              <Modules id={m.id} />
            </Section>
          </div>
        )}
      </Loaded>
    </Page>
  );
}

// InRollouts says how the machine stands in the rollouts that are under way in
// its tier: why it has a live patch, or not yet.
function InRollouts({ m }: { m: Schemas['Machine'] }) {
  const open = useQuery(rollouts({ tier: m.tier, open: true, limit: 10 })).data?.items ?? [];
  return open.map((r) => <InRollout key={r.id} machine={m.id} r={r} />);
}

function InRollout({ machine, r }: { machine: string; r: Schemas['Rollout'] }) {
  const t = useT();
  const w = useQuery(explainRollout(r.id, machine)).data;
  if (!w || w.word === 'unknown' || w.word === 'out-of-scope') return null;
  const known = Object.hasOwn(t.rolloutWord, w.word);
  return (
    <Section title={t.rollouts.whyNot}>
      <Facts
        of={[
          [
            t.nav.rollouts,
            <Link to="/rollouts/$id" params={{ id: r.id }} className="link" preload={false}>
              {r.livepatch}
            </Link>,
          ],
          [t.rollouts.status, known ? word(t.rolloutWord, w.word) : Object.hasOwn(t.bar, w.word) ? word(t.bar, w.word) : word(t.machineStatus, w.word)],
          [t.rollouts.wave, w.wave ? String(w.wave) : ''],
          [t.machine.why, <span lang="en">{w.why}</span>],
          [t.rollouts.wordUntil, w.until ? <Time at={w.until} /> : ''],
        ]}
      />
    </Section>
  );
}

function Standing({ m }: { m: Schemas['Machine'] }) {
  const t = useT();
  const p = m.patch;
  return (
    <>
      {m.cloned && <Alert color="red" title={t.machine.cloned}>{t.machine.clonedHelp}</Alert>}
      {m.hold && <Alert color="yellow">{t.machine.held}</Alert>}
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Section title={t.machine.standing}>
          <Facts
            of={[
              [t.machine.protection, <Protection of={m.protection} />],
              [t.machine.why, m.reason && <span lang="en">{m.reason}</span>],
              [
                t.machine.kernelProtection,
                m.kernel_protection && m.kernel_protection !== m.protection && (
                  <>
                    <Protection of={m.kernel_protection} />
                    <Text size="sm" c="dimmed" lang="en">{m.kernel_reason}</Text>
                  </>
                ),
              ],
              [
                t.machine.runs,
                p.id && (
                  <span>
                    <Link to="/livepatches/$id" params={{ id: p.id }} className="link">
                      {p.id}
                    </Link>{' '}
                    <PatchState of={p.state ?? ''} /> <Text span c="dimmed" size="sm"><Time at={p.since} /></Text>
                  </span>
                ),
              ],
              [
                t.machine.should,
                m.target && (
                  <Link to="/livepatches/$id" params={{ id: m.target }} className="link">
                    {m.target}
                  </Link>
                ),
              ],
              [
                t.machine.policy,
                <Link to="/policies/$name" params={{ name: m.policy || 'default' }} className="link">
                  {m.policy || 'default'}
                </Link>,
              ],
              [t.machine.tier, m.tier],
              [t.machine.group, m.group],
              [t.machine.able, m.able ? t.yes : t.no],
            ]}
          />
        </Section>
        <Section title={t.machine.itself}>
          <Facts
            of={[
              [t.machine.kernel, m.kernel.release],
              [t.machine.arch, m.kernel.arch],
              [t.machine.buildId, <Mono>{m.kernel.build_id}</Mono>],
              [t.machine.os, m.os],
              [t.machine.agent, m.agent],
              [t.machine.seen, <Time at={m.seen} never={t.never} />],
              [t.machine.booted, m.booted ? <Time at={m.booted} /> : undefined],
              [t.machine.enrolled, <Time at={m.enrolled} />],
              [t.machine.gone, m.gone ? <Time at={m.gone} /> : undefined],
            ]}
          />
        </Section>
      </SimpleGrid>
      {p.problem && <Problem problem={p.problem} />}
      {m.problems?.map((x, i) => <Problem key={i} problem={x} color="yellow" />)}
    </>
  );
}

function Open({ m }: { m: Schemas['Machine'] }) {
  const t = useT();
  if (!m.open || m.open.length === 0) {
    return (m.kernel_protection ?? m.protection) === 'not-covered' ? <Empty title={t.machine.notKnown}>{t.machine.notKnownHelp}</Empty> : <Empty title={t.machine.noneOpen} />;
  }
  return (
    <Table
      caption={t.machine.open}
      rows={m.open}
      id={(o) => `${o.cve} ${o.package ?? ''} ${o.fix ?? ''} ${o.need}`}
      columns={[
        {
          name: 'CVE',
          cell: (o) => (
            <Link to="/cves/$cve" params={{ cve: o.cve }} className="link">
              {o.cve}
            </Link>
          ),
        },
        { name: t.cve.severity, cell: (o) => <Severity of={o.severity} exploited={o.exploited} /> },
        { name: t.machines.need, cell: (o) => <Need of={o.need} /> },
        {
          name: t.machine.why,
          cell: (o) => (
            <span lang="en" className="wrap">
              {o.code && <Code>{o.code}</Code>} {o.why || o.title}
              {o.modules && o.modules.length > 0 && <> ({o.modules.join(', ')})</>}
              {o.package && <Text size="xs" c="dimmed">{o.package}</Text>}
            </span>
          ),
        },
      ]}
    />
  );
}

function Replacements({ of }: { of: readonly Schemas['Replacement'][] }) {
  const t = useT();
  return (
    <Table
      caption={t.machine.replacements}
      rows={of}
      id={(r) => r.module}
      columns={[
        { name: t.machine.module, cell: (r) => <Mono>{r.module}</Mono> },
        { name: t.machine.state, cell: (r) => word(t.replacement, r.state) },
        { name: t.machine.why, cell: (r) => (r.problem ? <span lang="en">{r.problem.code} {r.problem.why ?? r.problem.what}</span> : '–') },
      ]}
    />
  );
}

function Modules({ id }: { id: string }) {
  const t = useT();
  const [open, setOpen] = useState(false);
  const q = useQuery({ ...machineModules(id), enabled: open });
  const untold = q.error instanceof Fault && q.error.status === 404;
  if (!open) {
    return (
      <Button variant="default" size="xs" onClick={() => setOpen(true)}>
        {t.machine.showModules}
      </Button>
    );
  }
  if (untold) return <Empty title={t.machine.noModules} />;
  return (
    <Loaded query={q}>
      {(l) =>
        l.items && l.items.length > 0 ? (
          <Table
            caption={t.machine.modules}
            rows={l.items}
            id={(m) => m.name}
            columns={[
              { name: t.machine.module, cell: (m) => <Mono>{m.name}</Mono> },
              { name: t.machine.buildId, cell: (m) => (m.build_id ? <Mono>{m.build_id}</Mono> : '–') },
            ]}
          />
        ) : (
          <Empty title={t.machine.noModules} />
        )
      }
    </Loaded>
  );
}
