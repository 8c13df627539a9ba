// SPDX-License-Identifier: Apache-2.0
import { Text } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { useT, word } from '../i18n';
import { Table } from '../ui/table';
import { PatchState, Protection, Time } from '../ui/words';

type Machine = Schemas['Machine'];

// MachineTable lists machines. Where it was asked for what is open on them, and that
// is in packages alone, the kernel and its live patch have nothing to do with it.
export function MachineTable({ rows, stale, asked }: { rows: readonly Machine[]; stale: boolean; asked: boolean }) {
  const t = useT();
  const inPackages = asked && rows.every((m) => m.open?.length && m.open.every((o) => o.package));
  return (
    <Table
      caption={t.machines.title}
      rows={rows}
      id={(m) => m.id}
      stale={stale}
      columns={[
        {
          name: t.machine.hostname,
          cell: (m) => (
            <Link to="/machines/$id" params={{ id: m.id }} className="link">
              {m.hostname}
            </Link>
          ),
        },
        { name: t.machine.protection, cell: (m) => <Standing m={m} /> },
        ...(inPackages
          ? []
          : [
              { name: t.machine.kernel, cell: (m: Machine) => <span className="nowrap">{m.kernel.release}</span> },
              {
                name: t.machine.patch,
                cell: (m: Machine) =>
                  m.patch.id ? (
                    <span>
                      v{m.patch.version} <PatchState of={m.patch.state ?? ''} />
                    </span>
                  ) : (
                    '–'
                  ),
              },
            ]),
        ...(asked
          ? [
              {
                name: t.machine.open,
                cell: (m: Machine) => {
                  const first = m.open?.[0];
                  if (!first) return '–';
                  const n = m.open?.length ?? 0;
                  return (
                    <span>
                      {first.cve} · {word(t.need, first.need)}
                      {n > 1 && ` +${n - 1}`}
                      {first.package && (
                        <Text size="xs" c="dimmed">
                          {first.package}
                        </Text>
                      )}
                    </span>
                  );
                },
              },
            ]
          : []),
        { name: t.machine.tier, cell: (m) => m.tier },
        { name: t.machine.group, cell: (m) => m.group || '–' },
        { name: t.machine.seen, cell: (m) => <span className="nowrap"><Time at={m.seen} never={t.never} /></span> },
      ]}
    />
  );
}

function Standing({ m }: { m: Machine }) {
  const t = useT();
  const n = m.stale?.processes ?? 0;
  return (
    <>
      <Protection of={m.protection} />
      {n > 0 && <Text size="xs">{t.machines.toRestart(n)}</Text>}
    </>
  );
}
