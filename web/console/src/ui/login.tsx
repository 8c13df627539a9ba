// SPDX-License-Identifier: Apache-2.0
import { Alert, Anchor, Button, Code, Divider, Paper, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useEffect, useState, type ReactNode } from 'react';
import { api, ask, Fault, type Schemas } from '../api/client';
import { canPasskey, withPasskey } from '../api/passkey';
import { signInMethods } from '../api/people';
import { session } from '../api/session';
import { useT } from '../i18n';
import { Look } from './look';
import { Failure } from './states';

// Entrance is the frame of what is shown before somebody is signed in.
export function Entrance({ title, about, children }: { title: string; about?: ReactNode; children: ReactNode }) {
  const t = useT();
  useEffect(() => {
    document.title = `${title} · ${t.product}`;
  }, [title, t]);
  return (
    <main className="login">
      <Paper withBorder p="xl" className="login-card">
        <Stack>
          <div>
            <Title order={1} size="h3">
              {title}
            </Title>
            {about && (
              <Text size="sm" c="dimmed" component="div">
                {about}
              </Text>
            )}
          </div>
          {children}
        </Stack>
      </Paper>
      <Look />
    </main>
  );
}

const unsigned = /^\/console\/(sign-in|link)\b/; // pages for who is not signed in

// enter opens the page that was asked for, or the first.
export function enter() {
  if (unsigned.test(window.location.pathname)) window.history.replaceState(null, '', import.meta.env.BASE_URL);
  session.start();
}

// Login asks who is there.
export function Login() {
  const t = useT();
  const [withKey, setWithKey] = useState(false);
  const asked = new URLSearchParams(window.location.search);
  const elsewhere = window.location.pathname === '/console/sign-in' ? asked.get('error') : null;
  return (
    <Entrance title={t.login.title} about={t.login.about}>
      {session.ended && <Alert color="yellow">{t.login.ended}</Alert>}
      {elsewhere && (
        <Alert color="red" role="alert" title={t.login.elsewhere}>
          {/^TS\d{4}$/.test(elsewhere) && <Code>{elsewhere}</Code>} <span lang="en">{asked.get('why')?.slice(0, 300)}</span>
        </Alert>
      )}
      {withKey ? <ByKey /> : <ByPassword />}
      <Anchor component="button" type="button" size="sm" onClick={() => setWithKey(!withKey)}>
        {withKey ? t.login.usePassword : t.login.useKey}
      </Anchor>
    </Entrance>
  );
}

export const wantsCode = (e: unknown) => e instanceof Fault && (e.code === 'TS8210' || e.code === 'TS8211');

function ByPassword() {
  const t = useT();
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  const [coded, setCoded] = useState(false);
  const methods = useQuery({ ...signInMethods, retry: false }).data;
  const byPassword = useMutation({
    mutationFn: () => ask(api.POST('/v1/sign-in', { body: { name: name.trim(), password, ...(coded && code.trim() ? { code: code.trim() } : {}) } })),
    onSuccess: enter,
    onError: (e) => {
      if (wantsCode(e)) setCoded(true);
      setCode('');
    },
  });
  const byPasskey = useMutation({
    mutationFn: async () => {
      const body = await withPasskey(() => ask(api.POST('/v1/sign-in/passkey')));
      return ask(api.POST('/v1/sign-in/passkey/finish', { body }));
    },
    onSuccess: enter,
  });
  const error = byPasskey.error ?? byPassword.error;
  const passkeys = methods?.passkeys && canPasskey();
  const providers = methods?.providers ?? [];
  return (
    <>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          byPasskey.reset();
          if (name.trim() !== '' && password !== '') byPassword.mutate();
        }}
      >
        <Stack>
          <TextInput
            label={t.login.name}
            autoComplete="username"
            autoCapitalize="none"
            spellCheck={false}
            value={name}
            onChange={(e) => {
              setName(e.currentTarget.value);
              setCoded(false);
            }}
            autoFocus
            required
            withAsterisk={false}
          />
          <PasswordInput
            label={t.login.password}
            autoComplete="current-password"
            value={password}
            onChange={(e) => setPassword(e.currentTarget.value)}
            visibilityToggleButtonProps={{ 'aria-label': t.login.show }}
            required
            withAsterisk={false}
          />
          {coded && <CodeField value={code} onChange={setCode} />}
          {error && !(error instanceof Fault && error.code === 'TS8210') && <Failure error={error} />}
          <Button type="submit" loading={byPassword.isPending}>
            {t.login.go}
          </Button>
        </Stack>
      </form>
      {(passkeys || providers.length > 0) && <Divider label={t.login.or} />}
      {passkeys && (
        <Button variant="default" loading={byPasskey.isPending} onClick={() => byPasskey.mutate()}>
          {t.login.passkey}
        </Button>
      )}
      <Providers of={providers} />
    </>
  );
}

// Providers lead to who else can say who somebody is, and from there back here.
export function Providers({ of }: { of: readonly Schemas['SignInProvider'][] }) {
  const t = useT();
  const { pathname, search } = window.location;
  const back = unsigned.test(pathname) ? import.meta.env.BASE_URL : pathname + search;
  return of.map((p) => (
    <Button key={p.id} variant="default" component="a" href={`/v1/sign-in/oidc/${encodeURIComponent(p.id)}?return_to=${encodeURIComponent(back)}`}>
      {t.login.with(p.name)}
    </Button>
  ));
}

// CodeField takes the code of a second factor, or a recovery code.
export function CodeField({ value, onChange }: { value: string; onChange: (code: string) => void }) {
  const t = useT();
  return (
    <TextInput
      label={t.login.code}
      description={t.login.codeHelp}
      autoComplete="one-time-code"
      autoCapitalize="none"
      spellCheck={false}
      value={value}
      onChange={(e) => onChange(e.currentTarget.value)}
      autoFocus
    />
  );
}

// ByKey is for who has an API key, or the token of a program, and no account.
function ByKey() {
  const t = useT();
  const [key, setKey] = useState('');
  const m = useMutation({
    mutationFn: async () => {
      const credential = key.trim();
      await ask(api.GET('/v1/whoami', { headers: { Authorization: `Bearer ${credential}` } }));
      return credential;
    },
    onSuccess: (credential) => session.start(credential),
  });
  return (
    <form
      onSubmit={(e) => {
        e.preventDefault();
        if (key.trim() !== '') m.mutate();
      }}
    >
      <Stack>
        <PasswordInput
          label={t.login.key}
          description={t.login.keyHelp}
          placeholder="tso_…"
          autoComplete="off"
          spellCheck={false}
          value={key}
          onChange={(e) => setKey(e.currentTarget.value)}
          visibilityToggleButtonProps={{ 'aria-label': t.login.show }}
          autoFocus
          required
          withAsterisk={false}
        />
        {m.isError && <Failure error={m.error} />}
        <Button type="submit" loading={m.isPending}>
          {t.login.go}
        </Button>
        <Text size="xs" c="dimmed">
          {t.login.none} <Code>tsugi-server user link NAME</Code>
        </Text>
      </Stack>
    </form>
  );
}
