// SPDX-License-Identifier: Apache-2.0
import { Text } from '@mantine/core';
import type { Schemas } from '../api/client';
import { count } from '../format';
import { useT } from '../i18n';
import { Table } from '../ui/table';
import { Mono } from '../ui/words';

// Stale are the files that processes of a machine run and its disk has no more.
export function Stale({ of }: { of: Schemas['Stale'] }) {
  const t = useT();
  return (
    <>
      <Text size="sm" mb="xs">
        {t.machine.staleHelp(of.processes)}
      </Text>
      {of.files && of.files.length > 0 && (
        <Table
          caption={t.machine.stale}
          rows={of.files}
          id={(f) => `${f.path} ${f.build_id ?? ''}`}
          columns={[
            { name: t.machine.staleFile, cell: (f) => <Mono>{f.path}</Mono> },
            { name: t.machine.processes, cell: (f) => (f.program ? (f.processes > 1 ? t.machine.andMore(f.program, count(f.processes - 1)) : f.program) : count(f.processes)) },
          ]}
        />
      )}
      {of.more ? (
        <Text size="sm" c="dimmed" mt="xs">
          {t.machine.staleMore(count(of.more))}
        </Text>
      ) : null}
    </>
  );
}
