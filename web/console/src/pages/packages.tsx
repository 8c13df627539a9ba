// SPDX-License-Identifier: Apache-2.0
import { Code, Text } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { count } from '../format';
import { useT } from '../i18n';
import { Table } from '../ui/table';
import { PatchState, Protection, Time } from '../ui/words';

// Packages are those that processes of a machine map files of: how far the live
// patch of each reached, and why not further.
export function Packages({ of }: { of: readonly Schemas['MachinePackage'][] }) {
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
        { name: t.machine.processes, cell: (p) => <Processes of={p.processes} /> },
        { name: t.machine.why, cell: (p) => <Reasons p={p} /> },
      ]}
    />
  );
}

function Runs({ p }: { p: Schemas['MachinePackage'] }) {
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

function Processes({ of }: { of: Schemas['Processes'] }) {
  const t = useT();
  const words = [
    [of.protected, t.machine.inProcesses],
    [of.pending, t.machine.pending],
    [of.unprotected, t.machine.unprotected],
  ] as const;
  const some = words.filter(([n]) => n > 0);
  return some.length === 0 ? <>0</> : some.map(([n, w]) => <div key={w} className="nowrap">{`${count(n)} ${w}`}</div>);
}

function Reasons({ p }: { p: Schemas['MachinePackage'] }) {
  const t = useT();
  const problem = p.patch.problem;
  return (
    <div lang="en" className="wrap">
      {p.reason}
      {problem?.code && (
        <Text size="sm">
          <Code>{problem.code}</Code> {problem.why || problem.what}
        </Text>
      )}
      {p.reasons?.map((r, i) => (
        <Text size="sm" key={i}>
          <Code>{r.problem.code}</Code> {r.problem.why || r.problem.what}
          {r.program && <> ({t.machine.program(r.program, count(r.processes))})</>}
        </Text>
      ))}
    </div>
  );
}
