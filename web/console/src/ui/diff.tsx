// SPDX-License-Identifier: Apache-2.0
import { Text } from '@mantine/core';
import { useMemo } from 'react';
import { useT } from '../i18n';

function kind(line: string): string {
  if (line.startsWith('+++') || line.startsWith('---') || line.startsWith('diff ') || line.startsWith('index ')) return 'file';
  if (line.startsWith('@@')) return 'hunk';
  if (line.startsWith('+')) return 'add';
  if (line.startsWith('-')) return 'del';
  return '';
}

// Diff shows a source diff. What was added and removed is told by its sign, as
// in the text; the colour only helps.
export function Diff({ text, cut, label }: { text: string; cut?: boolean | undefined; label: string }) {
  const t = useT();
  const lines = useMemo(() => text.replace(/\n$/, '').split('\n'), [text]);
  return (
    <>
      <pre className="diff" lang="en" tabIndex={0} role="region" aria-label={label}>
        {lines.map((l, i) => (
          <span key={i} data-kind={kind(l) || undefined}>
            {l}
            {'\n'}
          </span>
        ))}
      </pre>
      {cut && (
        <Text size="sm" c="dimmed">
          {t.matrix.cut}
        </Text>
      )}
    </>
  );
}
