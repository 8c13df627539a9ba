// SPDX-License-Identifier: Apache-2.0
import { NativeSelect, Switch, Textarea, TextInput } from '@mantine/core';
import { useState } from 'react';
import type { Schemas } from '../api/client';
import { useT, word } from '../i18n';

export type Text = Schemas['Policy'];

const severities = ['low', 'medium', 'high', 'critical'] as const;
const scopes = ['security', 'all'] as const;

export const ready = (p: Text) => (p.extra ?? []).every((x) => /^[a-z0-9][a-z0-9._-]*$/.test(x));

// textOf is what of a policy is its text, without what the server says of it.
export function textOf(p: Schemas['PolicyInfo']): Text {
  const { name, description, exclusions, extra, min_severity, scope, swap_unused } = p;
  return { name, description, exclusions, extra, min_severity, scope, swap_unused };
}

export function Fields({ text, onChange, named }: { text: Text; onChange: (p: Text) => void; named?: boolean }) {
  const t = useT();
  const [extra, setExtra] = useState((text.extra ?? []).join(' '));
  return (
    <>
      {named && (
        <TextInput
          label={t.policy.name}
          description={t.policy.nameHelp}
          required
          value={text.name}
          onChange={(e) => onChange({ ...text, name: e.currentTarget.value })}
          data-autofocus
          spellCheck={false}
        />
      )}
      <Textarea label={t.policy.description} value={text.description ?? ''} onChange={(e) => onChange({ ...text, description: e.currentTarget.value })} maxLength={1000} />
      <NativeSelect
        label={t.policy.minSeverity}
        description={t.policy.minSeverityHelp}
        value={text.min_severity ?? ''}
        onChange={(e) => onChange({ ...text, min_severity: severities.find((s) => s === e.currentTarget.value) })}
        data={[{ value: '', label: t.policy.anySeverity }, ...severities.map((s) => ({ value: s, label: word(t.severity, s) }))]}
      />
      <NativeSelect
        label={t.policy.scope}
        value={text.scope ?? 'security'}
        onChange={(e) => onChange({ ...text, scope: scopes.find((s) => s === e.currentTarget.value) })}
        data={scopes.map((s) => ({ value: s, label: word(t.policy.scopes, s) }))}
      />
      <TextInput
        label={t.policy.extra}
        description={t.policy.extraHelp}
        value={extra}
        onChange={(e) => {
          setExtra(e.currentTarget.value);
          onChange({ ...text, extra: e.currentTarget.value.split(/[\s,]+/).filter(Boolean) });
        }}
        spellCheck={false}
      />
      <Switch
        label={t.policy.swap}
        description={t.policy.swapHelp}
        checked={text.swap_unused ?? false}
        onChange={(e) => onChange({ ...text, swap_unused: e.currentTarget.checked })}
      />
    </>
  );
}
