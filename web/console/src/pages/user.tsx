// SPDX-License-Identifier: Apache-2.0
import { Switch, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { keys, sessions, user } from '../api/people';
import { useT } from '../i18n';
import { Dialog, Help, Secret, useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Time, Yes } from '../ui/words';
import { GrantFields, roles, type Grant } from './grantfields';
import { KeyTable, revokeAny } from './keys';
import { Grants } from './peoplewords';
import { endAny, SessionTable } from './sessions';
import { toGrants, UserState } from './users';

const here = getRouteApi('/users/$id');

export function User() {
  const t = useT();
  const { id } = here.useParams();
  const q = useQuery(user(id));
  const may = useMay('people');
  const [link, setLink] = useState('');
  const all = useQuery(sessions);
  const allKeys = useQuery(keys);
  return (
    <Page
      title={q.data?.display || q.data?.name || id}
      about={q.data?.display ? q.data.name : undefined}
      up={
        <Link to="/users" className="link">
          {t.nav.users}
        </Link>
      }
      actions={may && q.data && <Actions u={q.data} onLink={setLink} />}
    >
      <Loaded query={q} lines={8}>
        {(u) => (
          <div className="stack">
            <Section title={t.users.standing}>
              <Facts
                of={[
                  [t.users.state, <UserState u={u} />],
                  [t.users.roles, <Grants of={u.grants} />],
                  [t.users.email, u.email],
                  [t.users.byTotp, <Yes when={u.totp} />],
                  [t.users.recovery, u.totp ? String(u.recovery_codes) : ''],
                  [t.account.passkeys, String(u.passkeys)],
                  [t.users.seen, <Time at={u.last_seen} never={t.never} />],
                  [t.account.made, <>{<Time at={u.created} />} {u.created_by && t.users.by(u.created_by)}</>],
                ]}
              />
            </Section>
            <Section title={t.sessions.title}>
              <Loaded query={all} lines={2}>
                {(l) => {
                  const rows = (l.items ?? []).filter((s) => s.user === u.id);
                  return rows.length > 0 ? <SessionTable rows={rows} {...(may ? { end: endAny } : {})} /> : <Empty title={t.sessions.none} />;
                }}
              </Loaded>
            </Section>
            <Section title={t.keys.title}>
              <Loaded query={allKeys} lines={2}>
                {(l) => {
                  const rows = (l.items ?? []).filter((k) => k.user === u.id);
                  return rows.length > 0 ? <KeyTable rows={rows} {...(may ? { revoke: revokeAny } : {})} /> : <Empty title={t.keys.none} />;
                }}
              </Loaded>
            </Section>
          </div>
        )}
      </Loaded>
      <Secret title={t.users.link} help={t.users.linkHelp} text={link} onClose={() => setLink('')} />
    </Page>
  );
}

function Actions({ u, onLink }: { u: Schemas['User']; onLink: (link: string) => void }) {
  const t = useT();
  const path = { path: { id: u.id } };
  return (
    <>
      <Change u={u} />
      <Dialog
        button={t.users.makeLink}
        title={t.users.makeLinkTitle(u.name)}
        go={t.users.makeLink}
        act={() => ask(api.POST('/v1/users/{id}/link', { params: path, body: { purpose: u.password ? 'sign-in' : 'welcome' } }))}
        after={(l) => onLink(l.link)}
      >
        <Help>{u.password ? t.users.makeLinkSignIn : t.users.makeLinkWelcome}</Help>
      </Dialog>
      {!!u.locked_until && u.locked_until > Date.now() && (
        <Dialog
          button={t.users.unlock}
          title={t.users.unlockTitle(u.name)}
          go={t.users.unlock}
          done={t.users.unlocked}
          act={() => ask(api.POST('/v1/users/{id}/unlock', { params: path }))}
        >
          <Help>{t.users.unlockHelp}</Help>
        </Dialog>
      )}
      <Dialog
        button={t.users.reset}
        danger
        title={t.users.resetTitle(u.name)}
        go={t.users.reset}
        act={() => ask(api.POST('/v1/users/{id}/reset', { params: path }))}
        after={(l) => onLink(l.link)}
      >
        <Help>{t.users.resetHelp}</Help>
      </Dialog>
    </>
  );
}

function Change({ u }: { u: Schemas['User'] }) {
  const t = useT();
  const [display, setDisplay] = useState('');
  const [email, setEmail] = useState('');
  const [disabled, setDisabled] = useState(false);
  const [grants, setGrants] = useState<readonly Grant[]>([]);
  return (
    <Dialog
      button={t.users.change}
      title={t.users.changeTitle(u.name)}
      go={t.save}
      done={t.users.changed}
      onOpen={() => {
        setDisplay(u.display ?? '');
        setEmail(u.email ?? '');
        setDisabled(!!u.disabled);
        setGrants((u.grants ?? []).map((g) => ({ role: roles.find((r) => r === g.role) ?? 'viewer', groups: (g.groups ?? []).join(' ') })));
      }}
      act={() => ask(api.PATCH('/v1/users/{id}', { params: { path: { id: u.id } }, body: { display: display.trim(), email: email.trim(), disabled, grants: toGrants(grants) } }))}
    >
      <TextInput label={t.users.display} value={display} onChange={(e) => setDisplay(e.currentTarget.value)} data-autofocus maxLength={200} autoComplete="off" />
      <TextInput label={t.users.email} type="email" value={email} onChange={(e) => setEmail(e.currentTarget.value)} maxLength={254} autoComplete="off" />
      <GrantFields value={grants} onChange={setGrants} />
      <Switch label={t.users.disable} description={t.users.disableHelp} checked={disabled} onChange={(e) => setDisabled(e.currentTarget.checked)} />
    </Dialog>
  );
}
