// SPDX-License-Identifier: Apache-2.0
import { TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { users } from '../api/people';
import { useT } from '../i18n';
import { Dialog, Help, Secret, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Time } from '../ui/words';
import { GrantFields, type Grant } from './grantfields';
import { PeopleTabs } from './peopletabs';
import { Grants } from './peoplewords';

export function Users() {
  const t = useT();
  const may = useMay('people');
  const [link, setLink] = useState('');
  return (
    <Page title={t.users.title} about={t.users.about} actions={may && <Make onMade={(u) => setLink(u.link)} />}>
      <PeopleTabs />
      <Loaded query={useQuery(users)} lines={6}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <Table
              caption={t.users.title}
              rows={l.items}
              id={(u) => u.id}
              columns={[
                {
                  name: t.users.name,
                  cell: (u) => (
                    <>
                      <Link to="/users/$id" params={{ id: u.id }} className="link">
                        {u.name}
                      </Link>
                      {u.display && <div className="dim">{u.display}</div>}
                    </>
                  ),
                },
                { name: t.users.roles, cell: (u) => <Grants of={u.grants} /> },
                { name: t.users.state, cell: (u) => <UserState u={u} /> },
                { name: t.users.seen, cell: (u) => <Time at={u.last_seen} never={t.never} /> },
              ]}
            />
          ) : (
            <Empty title={t.users.none}>{t.users.noneHelp}</Empty>
          )
        }
      </Loaded>
      <Secret title={t.users.link} help={t.users.linkHelp} text={link} onClose={() => setLink('')} />
    </Page>
  );
}

// UserState says what keeps somebody out, or how they come in.
export function UserState({ u }: { u: Schemas['User'] }) {
  const t = useT();
  if (u.disabled) return <>{t.users.disabled}</>;
  if (u.locked_until && u.locked_until > Date.now()) {
    return (
      <>
        {t.users.locked} <Time at={u.locked_until} />
      </>
    );
  }
  const ways = [u.password && t.users.byPassword, u.totp && t.users.byTotp, u.passkeys > 0 && t.users.byPasskeys(u.passkeys)].filter(Boolean);
  return <>{ways.length > 0 ? ways.join(', ') : t.users.waiting}</>;
}

function Make({ onMade }: { onMade: (u: Schemas['UserMade']) => void }) {
  const t = useT();
  const [name, setName] = useState('');
  const [display, setDisplay] = useState('');
  const [email, setEmail] = useState('');
  const [grants, setGrants] = useState<readonly Grant[]>([]);
  return (
    <Dialog
      button={t.users.make}
      title={t.users.make}
      go={t.users.make}
      ready={name.trim() !== ''}
      onOpen={() => {
        setName('');
        setDisplay('');
        setEmail('');
        setGrants([{ role: 'viewer', groups: '' }]);
      }}
      act={() =>
        ask(
          api.POST('/v1/users', {
            body: {
              name: name.trim(),
              grants: toGrants(grants),
              ...(display.trim() ? { display: display.trim() } : {}),
              ...(email.trim() ? { email: email.trim() } : {}),
            },
          }),
        )
      }
      after={onMade}
    >
      <Help>{t.users.makeHelp}</Help>
      <TextInput label={t.users.name} description={t.users.nameHelp} required value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus maxLength={63} autoCapitalize="none" autoComplete="off" />
      <TextInput label={t.users.display} value={display} onChange={(e) => setDisplay(e.currentTarget.value)} maxLength={200} autoComplete="off" />
      <TextInput label={t.users.email} type="email" value={email} onChange={(e) => setEmail(e.currentTarget.value)} maxLength={254} autoComplete="off" />
      <GrantFields value={grants} onChange={setGrants} />
    </Dialog>
  );
}

export function toGrants(of: readonly Grant[]): Schemas['Grant'][] {
  return of.map((g) => {
    const groups = g.groups.split(/[\s,]+/).filter(Boolean);
    return { role: g.role, ...(groups.length > 0 ? { groups } : {}) };
  });
}
