// SPDX-License-Identifier: Apache-2.0
import { Checkbox, Group, NativeSelect, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { ownKeys } from '../api/people';
import { useT, word } from '../i18n';
import { Dialog, Help, Secret } from '../ui/act';
import { Loaded } from '../ui/states';
import { KeyTable } from './keys';

const revokeOwn = (id: string) => ask(api.DELETE('/v1/account/keys/{id}', { params: { path: { id } } }));

// OwnKeys are the API keys of who is signed in.
export function OwnKeys({ may }: { may: readonly string[] }) {
  const t = useT();
  const [made, setMade] = useState('');
  return (
    <>
      <Group justify="space-between" mb="sm" align="flex-start">
        <Text size="sm" c="dimmed" className="grow">
          {t.account.keysHelp}
        </Text>
        <Make may={may} onMade={(k) => setMade(k.secret)} />
      </Group>
      <Loaded query={useQuery(ownKeys)} lines={2}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <KeyTable rows={l.items} revoke={revokeOwn} caption={t.account.keys} />
          ) : (
            <Text size="sm">{t.account.noKeys}</Text>
          )
        }
      </Loaded>
      <Secret title={t.keys.made} help={t.keys.madeHelp} text={made} onClose={() => setMade('')} />
    </>
  );
}

const days = ['7', '30', '90', '365'] as const;

function Make({ may, onMade }: { may: readonly string[]; onMade: (k: Schemas['KeyMade']) => void }) {
  const t = useT();
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState<readonly string[]>([]);
  const [end, setEnd] = useState('90');
  return (
    <Dialog
      button={t.keys.make}
      title={t.keys.make}
      go={t.keys.make}
      ready={name.trim() !== ''}
      onOpen={() => {
        setName('');
        setScopes([]);
        setEnd('90');
      }}
      act={() =>
        ask(api.POST('/v1/account/keys', { body: { name: name.trim(), ...(scopes.length > 0 ? { scopes: [...scopes] } : {}), expires: Date.now() + Number(end) * 86_400_000 } }))
      }
      after={onMade}
    >
      <TextInput label={t.keys.name} required value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus maxLength={36} />
      <fieldset className="choices">
        <legend>{t.keys.scopes}</legend>
        <Help>{t.keys.scopesHelp}</Help>
        {may.filter((p) => p !== 'own').map((p) => (
          <Checkbox
            key={p}
            label={word(t.permission, p)}
            checked={scopes.includes(p)}
            onChange={(e) => setScopes(e.currentTarget.checked ? [...scopes, p] : scopes.filter((s) => s !== p))}
          />
        ))}
      </fieldset>
      <NativeSelect label={t.keys.ends} value={end} onChange={(e) => setEnd(e.currentTarget.value)} data={days.map((d) => ({ value: d, label: t.policy.inDays(Number(d)) }))} />
    </Dialog>
  );
}
