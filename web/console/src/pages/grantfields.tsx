// SPDX-License-Identifier: Apache-2.0
import { ActionIcon, Button, NativeSelect, TextInput } from '@mantine/core';
import { IconX } from '@tabler/icons-react';
import { useT, word } from '../i18n';
import { Help } from '../ui/act';

export const roles = ['viewer', 'operator', 'author', 'release-manager', 'admin'] as const;
export interface Grant {
  role: (typeof roles)[number];
  groups: string; // as typed
}

// GrantFields are the fields for somebody's roles.
export function GrantFields({ value, onChange }: { value: readonly Grant[]; onChange: (v: readonly Grant[]) => void }) {
  const t = useT();
  const set = (i: number, g: Partial<Grant>) => onChange(value.map((x, j) => (j === i ? { ...x, ...g } : x)));
  return (
    <fieldset className="choices">
      <legend>{t.users.roles}</legend>
      {value.map((g, i) => (
        <div key={i} className="grant">
          <NativeSelect
            aria-label={t.users.role}
            value={g.role}
            onChange={(e) => set(i, { role: roles.find((r) => r === e.currentTarget.value) ?? 'viewer' })}
            data={roles.map((r) => ({ value: r, label: word(t.role, r) }))}
          />
          <TextInput aria-label={t.users.groups} placeholder={t.users.allGroups} value={g.groups} onChange={(e) => set(i, { groups: e.currentTarget.value })} className="grow" />
          <ActionIcon variant="subtle" color="gray" size="lg" aria-label={`${t.remove}: ${word(t.role, g.role)}`} onClick={() => onChange(value.filter((_, j) => j !== i))}>
            <IconX size={16} aria-hidden />
          </ActionIcon>
          <div className="grant-help">{word(t.roleHelp, g.role)}</div>
        </div>
      ))}
      <Button size="xs" variant="default" disabled={value.length >= 20} onClick={() => onChange([...value, { role: 'viewer', groups: '' }])}>
        {t.users.addRole}
      </Button>
      <Help>{t.users.rolesHelp}</Help>
    </fieldset>
  );
}
