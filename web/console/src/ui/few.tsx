// SPDX-License-Identifier: Apache-2.0
import { Button } from '@mantine/core';
import { useState, type ReactNode } from 'react';
import { count } from '../format';
import { useT } from '../i18n';

// Few shows the first of a long list, until somebody wants all.
export function Few<T>({ of, most, children }: { of: readonly T[]; most: number; children: (shown: readonly T[]) => ReactNode }) {
  const t = useT();
  const [all, setAll] = useState(false);
  return (
    <>
      {children(all ? of : of.slice(0, most))}
      {of.length > most && !all && (
        <Button variant="default" size="xs" mt="xs" onClick={() => setAll(true)}>
          {t.table.all(count(of.length))}
        </Button>
      )}
    </>
  );
}
