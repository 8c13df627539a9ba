// SPDX-License-Identifier: Apache-2.0
import { Button, Group, Text } from '@mantine/core';
import { IconArrowLeft, IconArrowRight } from '@tabler/icons-react';
import { useState, type ReactNode } from 'react';
import { useT } from '../i18n';
import { behind } from '../trail';

export interface Column<T> {
  name: string; // "": of buttons
  cell: (row: T) => ReactNode;
  right?: boolean;
}

interface TableProps<T> {
  caption: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  id: (row: T) => string;
  stale?: boolean;
}

// Table is a table on a wide screen and a list of cards on a phone: the same
// markup, with the roles said, since display: block takes them away.
export function Table<T>({ caption, columns, rows, id, stale }: TableProps<T>) {
  const t = useT();
  return (
    <div className="table-wrap">
      <table className="table" role="table" aria-label={caption} data-stale={stale || undefined}>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((c, i) => (
              <th key={i} role="columnheader" scope="col" data-right={c.right || undefined}>
                {c.name === '' ? <span className="hidden">{t.table.actions}</span> : c.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr role="row" key={id(row)}>
              {columns.map((c, i) => (
                <td key={i} role="cell" data-label={c.name} data-right={c.right || undefined}>
                  <div>{c.cell(row)}</div>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

// usePages walks the pages of a list whose pages are named by where they begin.
// The names of the pages before are known only if one came along them.
export function usePages(after: string | undefined, go: (after: string | undefined) => void) {
  const [trail, setTrail] = useState<readonly (string | undefined)[]>([]);
  const before = behind(trail, after);
  return {
    first: after === undefined || after === '',
    next: (to: string) => {
      setTrail([...before, after]);
      go(to);
    },
    back: () => {
      go(before.at(-1));
      setTrail(before.slice(0, -1));
    },
    reset: () => setTrail([]),
  };
}

// changing changes what a list is asked for, from its first page on: what becomes ""
// is asked about no more. go takes it to where the page is.
export function changing<K extends string>(pages: ReturnType<typeof usePages>, go: (c: Partial<Record<K, string | undefined>>, replace: boolean) => void) {
  return (c: Partial<Record<K, string>>, replace = false) => {
    pages.reset();
    go(Object.fromEntries(Object.entries<string | undefined>(c).map(([k, v]) => [k, v || undefined])) as Partial<Record<K, string | undefined>>, replace);
  };
}

export function Pager({ pages, next, shown }: { pages: ReturnType<typeof usePages>; next?: string | undefined; shown: number }) {
  const t = useT();
  if (pages.first && !next) return null;
  return (
    <Group justify="space-between" mt="sm" component="nav" aria-label={t.table.pages}>
      <Button variant="default" size="xs" disabled={pages.first} onClick={pages.back} leftSection={<IconArrowLeft size={16} aria-hidden />}>
        {t.table.previous}
      </Button>
      <Text size="sm" c="dimmed">
        {t.table.shown(shown)}
      </Text>
      <Button
        variant="default"
        size="xs"
        disabled={!next}
        onClick={() => next && pages.next(next)}
        rightSection={<IconArrowRight size={16} aria-hidden />}
      >
        {t.table.next}
      </Button>
    </Group>
  );
}
