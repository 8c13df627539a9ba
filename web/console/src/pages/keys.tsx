// SPDX-License-Identifier: Apache-2.0
import { NativeSelect, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { keys } from '../api/people';
import { useT, word } from '../i18n';
import { Dialog, Help, Secret, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table, type Column } from '../ui/table';
import { Time } from '../ui/words';
import { PeopleTabs } from './peopletabs';
import { KeyEnd, Scopes } from './peoplewords';
import { UserLink } from './sessions';

// Keys are those of people and of programs. People make their own in their account.
export function Keys() {
  const t = useT();
  const may = useMay('people');
  const [made, setMade] = useState('');
  return (
    <Page
      title={t.keys.title}
      about={
        <>
          {t.keys.about}{' '}
          <Link to="/account" className="link underlined">
            {t.keys.yours}
          </Link>
        </>
      }
      actions={may && <MakeProgram onMade={(o) => setMade(o.secret)} />}
    >
      <PeopleTabs />
      <Loaded query={useQuery(keys)} lines={6}>
        {(l) => (l.items && l.items.length > 0 ? <KeyTable rows={l.items} {...(may ? { revoke: revokeAny } : {})} named /> : <Empty title={t.keys.none} />)}
      </Loaded>
      <Secret title={t.keys.made} help={t.keys.madeHelp} text={made} onClose={() => setMade('')} />
    </Page>
  );
}

export const revokeAny = (id: string) => ask(api.DELETE('/v1/keys/{id}', { params: { path: { id } } }));

interface KeyTableProps {
  rows: readonly Schemas['Key'][];
  revoke?: (id: string) => Promise<unknown>; // who may not has none
  named?: boolean;
  caption?: string;
}

export function KeyTable({ rows, revoke, named, caption }: KeyTableProps) {
  const t = useT();
  const who: Column<Schemas['Key']>[] = named ? [{ name: t.keys.owner, cell: (k) => (k.user ? <UserLink id={k.user} /> : t.keys.program) }] : [];
  const end: Column<Schemas['Key']>[] = revoke ? [{ name: '', right: true, cell: (k) => !k.revoked && <Revoke k={k} act={revoke} /> }] : [];
  return (
    <Table
      caption={caption ?? t.keys.title}
      rows={rows}
      id={(k) => k.id}
      columns={[
        { name: t.keys.name, cell: (k) => k.name },
        ...who,
        { name: t.keys.may, cell: (k) => (k.role ? word(t.role, k.role) : <Scopes of={k.scopes} />) },
        { name: t.account.made, cell: (k) => <Time at={k.created} /> },
        { name: t.account.lastUsed, cell: (k) => <Time at={k.last_used} never={t.never} /> },
        { name: t.keys.ends, cell: (k) => <KeyEnd k={k} /> },
        ...end,
      ]}
    />
  );
}

const roles = ['admin', 'reader', 'worker'] as const;

function MakeProgram({ onMade }: { onMade: (o: Schemas['OperatorMade']) => void }) {
  const t = useT();
  const [name, setName] = useState('');
  const [role, setRole] = useState<(typeof roles)[number]>('reader');
  return (
    <Dialog
      button={t.keys.makeProgram}
      title={t.keys.makeProgram}
      go={t.keys.makeProgram}
      ready={name.trim() !== ''}
      onOpen={() => {
        setName('');
        setRole('reader');
      }}
      act={() => ask(api.POST('/v1/operators', { body: { name: name.trim(), role } }))}
      after={onMade}
    >
      <Help>{t.keys.programHelp}</Help>
      <TextInput label={t.keys.name} required value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus maxLength={100} autoComplete="off" />
      <NativeSelect
        label={t.users.role}
        value={role}
        onChange={(e) => setRole(roles.find((r) => r === e.currentTarget.value) ?? 'reader')}
        data={roles.map((r) => ({ value: r, label: word(t.role, r) }))}
      />
    </Dialog>
  );
}

function Revoke({ k, act }: { k: Schemas['Key']; act: (id: string) => Promise<unknown> }) {
  const t = useT();
  return (
    <Dialog
      button={t.keys.revoke}
      buttonProps={{ size: 'xs', 'aria-label': `${t.keys.revoke}: ${k.name}` }}
      danger
      title={t.keys.revokeTitle(k.name)}
      go={t.keys.revoke}
      done={t.keys.revoked}
      act={() => act(k.id)}
    >
      <Help>{t.keys.revokeHelp}</Help>
    </Dialog>
  );
}
