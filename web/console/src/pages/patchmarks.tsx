// SPDX-License-Identifier: Apache-2.0
import { Badge, Group } from '@mantine/core';
import type { Schemas } from '../api/client';
import { useT } from '../i18n';

export function PatchMarks({ p }: { p: Schemas['LivePatch'] }) {
  const t = useT();
  return (
    <Group gap={4} className="inline">
      {p.blocked ? (
        <Badge color="red" size="sm">
          {p.recall ? t.livePatch.recalled : t.livePatch.blocked}
        </Badge>
      ) : null}
      <Badge color={p.proven ? 'teal' : 'yellow'} variant="light" size="sm">
        {p.proven ? t.livePatch.proven : t.livePatch.unproven}
      </Badge>
      {p.signed && (
        <Badge color="gray" variant="light" size="sm">
          {t.livePatch.signed}
        </Badge>
      )}
    </Group>
  );
}
