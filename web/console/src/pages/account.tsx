// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, Group, PasswordInput, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { canPasskey, makePasskey } from '../api/passkey';
import { account, ownSessions, passkeys, signInMethods } from '../api/people';
import { session } from '../api/session';
import { useT } from '../i18n';
import { Dialog, Help } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { proven } from '../ui/proof';
import { Empty, Failure, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Time } from '../ui/words';
import { Authenticator } from './authenticator';
import { OwnKeys } from './ownkeys';
import { Grants } from './peoplewords';
import { SessionTable } from './sessions';

export function Account() {
  const t = useT();
  if (session.credential !== '') {
    return (
      <Page title={t.account.title}>
        <Empty title={t.account.key}>{t.account.keyHelp}</Empty>
      </Page>
    );
  }
  return <Own />;
}

function Own() {
  const t = useT();
  const q = useQuery(account);
  return (
    <Page title={t.account.title} about={q.data?.name}>
      <Loaded query={q} lines={10}>
        {(a) => (
          <div className="stack">
            <Section title={t.account.you} actions={<Change a={a} />}>
              <Facts
                of={[
                  [t.users.name, a.name],
                  [t.users.display, a.display],
                  [t.users.email, a.email],
                  [t.users.roles, <Grants of={a.grants} />],
                ]}
              />
            </Section>
            <Section title={t.account.password} actions={<Password a={a} />}>
              <Text size="sm">{a.password ? t.account.passwordThere : t.account.passwordNone}</Text>
            </Section>
            <Authenticator a={a} />
            <Passkeys />
            <Identities a={a} />
            <Section title={t.account.keys}>
              <OwnKeys may={a.permissions ?? []} />
            </Section>
            <Section title={t.account.sessions}>
              <Sessions />
            </Section>
          </div>
        )}
      </Loaded>
    </Page>
  );
}

function Change({ a }: { a: Schemas['Account'] }) {
  const t = useT();
  const [display, setDisplay] = useState('');
  return (
    <Dialog
      button={t.account.change}
      title={t.account.you}
      go={t.save}
      done={t.account.changed}
      onOpen={() => setDisplay(a.display ?? '')}
      act={() => ask(api.PATCH('/v1/account', { body: { display: display.trim() } }))}
    >
      <TextInput label={t.users.display} value={display} onChange={(e) => setDisplay(e.currentTarget.value)} data-autofocus maxLength={200} autoComplete="name" />
    </Dialog>
  );
}

function Password({ a }: { a: Schemas['Account'] }) {
  const t = useT();
  const [first, setFirst] = useState('');
  const [again, setAgain] = useState('');
  const show = { 'aria-label': t.login.show };
  return (
    <Dialog
      button={a.password ? t.account.changePassword : t.account.setPassword}
      title={a.password ? t.account.changePassword : t.account.setPassword}
      go={t.save}
      done={t.account.passwordChanged}
      ready={first !== '' && first === again}
      onOpen={() => {
        setFirst('');
        setAgain('');
      }}
      act={() => ask(api.PUT('/v1/account/password', { body: { password: first } }))}
    >
      <Help>{t.account.passwordHelp}</Help>
      <input type="text" className="hidden" autoComplete="username" value={a.name} readOnly tabIndex={-1} aria-hidden />
      <PasswordInput
        label={t.login.newPassword}
        description={t.login.passwordHelp}
        autoComplete="new-password"
        value={first}
        onChange={(e) => setFirst(e.currentTarget.value)}
        visibilityToggleButtonProps={show}
        data-autofocus
        required
      />
      <PasswordInput
        label={t.login.again}
        autoComplete="new-password"
        value={again}
        onChange={(e) => setAgain(e.currentTarget.value)}
        visibilityToggleButtonProps={show}
        error={again !== '' && again !== first ? t.login.differs : undefined}
        required
      />
    </Dialog>
  );
}

function Passkeys() {
  const t = useT();
  const methods = useQuery(signInMethods).data;
  const q = useQuery(passkeys);
  const [name, setName] = useState('');
  if (methods && !methods.passkeys) {
    return (
      <Section title={t.account.passkeys}>
        <Text size="sm" c="dimmed">
          {t.account.passkeysNone}
        </Text>
      </Section>
    );
  }
  return (
    <Section
      title={t.account.passkeys}
      actions={
        canPasskey() && (
          <Dialog
            button={t.account.addPasskey}
            title={t.account.addPasskey}
            go={t.account.addPasskey}
            done={t.account.passkeyAdded}
            ready={name.trim() !== ''}
            onOpen={() => setName('')}
            act={async () => {
              const body = await makePasskey(() => ask(api.POST('/v1/account/passkeys/begin')), name.trim());
              return ask(api.POST('/v1/account/passkeys', { body }));
            }}
          >
            <Help>{t.account.passkeyHelp}</Help>
            <TextInput label={t.account.passkeyName} value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus required maxLength={100} />
          </Dialog>
        )
      }
    >
      <Loaded query={q} lines={1}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <Table
              caption={t.account.passkeys}
              rows={l.items}
              id={(p) => p.id}
              columns={[
                { name: t.account.passkeyName, cell: (p) => p.name },
                { name: t.account.made, cell: (p) => <Time at={p.created} /> },
                { name: t.account.lastUsed, cell: (p) => <Time at={p.last_used} never={t.never} /> },
                {
                  name: '',
                  right: true,
                  cell: (p) => (
                    <Dialog
                      button={t.remove}
                      buttonProps={{ size: 'xs', 'aria-label': `${t.remove}: ${p.name}` }}
                      danger
                      title={t.account.removePasskey(p.name)}
                      go={t.remove}
                      done={t.account.passkeyRemoved}
                      act={() => ask(api.DELETE('/v1/account/passkeys/{id}', { params: { path: { id: p.id } } }))}
                    >
                      <Help>{t.account.removePasskeyHelp}</Help>
                    </Dialog>
                  ),
                },
              ]}
            />
          ) : (
            <Text size="sm">{t.account.noPasskeys}</Text>
          )
        }
      </Loaded>
    </Section>
  );
}

function Identities({ a }: { a: Schemas['Account'] }) {
  const t = useT();
  const providers = useQuery(signInMethods).data?.providers ?? [];
  const m = useMutation({
    mutationFn: (provider: string) => proven(() => ask(api.POST('/v1/account/identities/{provider}', { params: { path: { provider } } }))),
    onSuccess: (to) => window.location.assign(to.url),
  });
  if (providers.length === 0 && (a.identities?.length ?? 0) === 0) return null;
  return (
    <Section
      title={t.account.identities}
      actions={providers.map((p) => (
        <Button key={p.id} size="sm" variant="default" loading={m.isPending} onClick={() => m.mutate(p.id)}>
          {t.account.connect(p.name)}
        </Button>
      ))}
    >
      {m.isError && <Failure error={m.error} />}
      {a.identities && a.identities.length > 0 ? (
        <Table
          caption={t.account.identities}
          rows={a.identities}
          id={(i) => `${i.issuer} ${i.subject}`}
          columns={[
            { name: t.account.issuer, cell: (i) => <span className="wrap">{i.issuer}</span> },
            { name: t.account.subject, cell: (i) => <span className="wrap">{i.subject}</span> },
            { name: t.account.connected, cell: (i) => <Time at={i.created} /> },
          ]}
        />
      ) : (
        <Text size="sm">{t.account.noIdentities}</Text>
      )}
    </Section>
  );
}

const endOwn = (id: string) => ask(api.DELETE('/v1/account/sessions/{id}', { params: { path: { id } } }));

function Sessions() {
  const t = useT();
  return (
    <Loaded query={useQuery(ownSessions)} lines={2}>
      {(l) => <SessionTable rows={l.items ?? []} end={endOwn} caption={t.account.sessions} />}
    </Loaded>
  );
}

// Codes are recovery codes, which are told once.
export function Codes({ of }: { of: readonly string[] }) {
  const t = useT();
  return (
    <>
      <Alert color="yellow" variant="light">
        {t.account.codesHelp}
      </Alert>
      <Group gap="xs" className="codes">
        {of.map((c) => (
          <code key={c}>{c}</code>
        ))}
      </Group>
    </>
  );
}
