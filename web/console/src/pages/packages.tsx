// SPDX-License-Identifier: Apache-2.0
import { Code, Text, Title } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { count } from '../format';
import { useT } from '../i18n';
import { Table } from '../ui/table';
import { PatchState, Protection, Time } from '../ui/words';

type Package = Schemas['MachinePackage'];

// Packages are those that processes of a machine map files of: how far the live
// patch of each reached, and why not further.
export function Packages({ of }: { of: readonly Package[] }) {
  const t = useT();
  const waits = of.flatMap((p) => (p.reasons ?? []).map((r, i) => ({ ...r, target: p.target, id: `${p.id} ${i}` })));
  return (
    <>
      <Stand of={of} />
      {waits.length > 0 && (
        <>
          <Title order={3} size="h5" mt="lg" mb="xs">
            {t.machine.reasons}
          </Title>
          <Waits of={waits} />
        </>
      )}
    </>
  );
}

function Stand({ of }: { of: readonly Package[] }) {
  const t = useT();
  return (
    <Table
      caption={t.machine.packages}
      rows={of}
      id={(p) => p.id}
      columns={[
        {
          name: t.machine.package,
          cell: (p) => (
            <Link to="/cves" search={{ target: p.target }} className="link">
              {p.target}
            </Link>
          ),
        },
        { name: t.machine.protection, cell: (p) => <Protection of={p.protection} /> },
        { name: t.machine.patch, cell: (p) => <Runs p={p} /> },
        { name: t.machine.processes, cell: (p) => <Processes of={p.processes} replaced={p.stale ?? 0} /> },
        { name: t.machine.why, cell: (p) => <Why p={p} /> },
      ]}
    />
  );
}

function Runs({ p }: { p: Package }) {
  const t = useT();
  const should = p.should && p.should !== p.patch.id ? p.should : undefined;
  return (
    <>
      {p.patch.id ? (
        <>
          <Link to="/livepatches/$id" params={{ id: p.patch.id }} className="link">
            {p.patch.id}
          </Link>{' '}
          <PatchState of={p.patch.state ?? ''} />{' '}
          <Text span c="dimmed" size="sm">
            <Time at={p.patch.since} />
          </Text>
        </>
      ) : (
        '–'
      )}
      {should && (
        <Text size="sm">
          {t.machine.should}:{' '}
          <Link to="/livepatches/$id" params={{ id: should }} className="link">
            {should}
          </Link>
        </Text>
      )}
      {p.rollout?.rollout && (
        <Text size="sm">
          <Link to="/rollouts/$id" params={{ id: p.rollout.rollout }} className="link" preload={false}>
            {t.nav.rollouts}
          </Link>
        </Text>
      )}
    </>
  );
}

function Processes({ of, replaced }: { of: Schemas['Processes']; replaced: number }) {
  const t = useT();
  const words = [
    [of.protected, t.machine.inProcesses],
    [of.pending, t.machine.pending],
    [of.unprotected, t.machine.unprotected],
  ] as const;
  const some = words.filter(([n]) => n > 0);
  return (
    <>
      {some.length === 0 ? '0' : some.map(([n, w]) => <div key={w} className="nowrap">{`${count(n)} ${w}`}</div>)}
      {replaced > 0 && (
        <Text size="xs" c="dimmed">
          {`${count(replaced)} ${t.machine.replaced}`}
        </Text>
      )}
    </>
  );
}

// Why says why a package stands as it does, and once: the sentence of the server
// often has the problem in it already.
function Why({ p }: { p: Package }) {
  const problem = p.patch.problem;
  const what = problem && (problem.why || problem.what);
  const told = what && p.reason?.includes(what);
  return (
    <div lang="en" className="wrap">
      {told && <Code>{problem?.code}</Code>} {p.reason}
      {what && !told && (
        <Text size="sm">
          <Code>{problem?.code}</Code> {what}
        </Text>
      )}
    </div>
  );
}

type Wait = Schemas['ProcessReason'] & { target: string; id: string };

// Waits are the processes that a live patch is not in, by the reason.
function Waits({ of }: { of: readonly Wait[] }) {
  const t = useT();
  return (
    <Table
      caption={t.machine.reasons}
      rows={of}
      id={(r) => r.id}
      columns={[
        { name: t.machine.package, cell: (r) => r.target },
        { name: t.machine.processes, cell: (r) => (!r.program ? count(r.processes) : r.processes > 1 ? t.machine.andMore(r.program, count(r.processes - 1)) : r.program) },
        {
          name: t.machine.why,
          cell: (r) => (
            <span lang="en" className="wrap">
              <Code>{r.problem.code}</Code> {r.problem.what}
              {r.problem.why && <>: {r.problem.why}</>}
            </span>
          ),
        },
        { name: t.machine.todo, cell: (r) => (r.problem.fix ? <span lang="en" className="wrap">{r.problem.fix}</span> : '–') },
      ]}
    />
  );
}
