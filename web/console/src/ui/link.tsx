// SPDX-License-Identifier: Apache-2.0
import { Button, PasswordInput, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, ask, Fault } from '../api/client';
import { useT } from '../i18n';
import { ago } from '../format';
import { CodeField, enter, Entrance } from './login';
import { Failure, Waiting } from './states';

// secret takes the secret of a link out of the address, so that it is not kept
// in the browser's history. What stands behind # is never sent to a server.
function secretOf(): string {
  const s = window.location.hash.slice(1);
  if (s !== '') window.history.replaceState(null, '', `${import.meta.env.BASE_URL}link`);
  return s;
}

// OneTimeLink is where a link leads that somebody was given to come in with.
export function OneTimeLink() {
  const t = useT();
  const [secret] = useState(secretOf);
  const q = useQuery({
    queryKey: ['link'],
    queryFn: () => ask(api.POST('/v1/links/look', { body: { secret } })),
    enabled: secret !== '',
    staleTime: Infinity,
    gcTime: 0,
  });
  if (secret === '' || q.isError) {
    return (
      <Entrance title={t.login.linkTitle}>
        {q.isError ? <Failure error={q.error} /> : <Text>{t.login.linkNone}</Text>}
        <Button component="a" href={import.meta.env.BASE_URL} variant="default">
          {t.login.toLogin}
        </Button>
      </Entrance>
    );
  }
  if (!q.data) {
    return (
      <Entrance title={t.login.linkTitle}>
        <Waiting lines={3} />
      </Entrance>
    );
  }
  return <Redeem secret={secret} name={q.data.name} password={q.data.password} totp={q.data.totp} expires={q.data.expires} />;
}

function Redeem({ secret, name, password, totp, expires }: { secret: string; name: string; password: boolean; totp: boolean; expires: number }) {
  const t = useT();
  const [first, setFirst] = useState('');
  const [again, setAgain] = useState('');
  const [code, setCode] = useState('');
  const m = useMutation({
    mutationFn: () => ask(api.POST('/v1/links/redeem', { body: { secret, ...(password ? { password: first } : {}), ...(code.trim() ? { code: code.trim() } : {}) } })),
    onSuccess: enter,
  });
  const coded = totp || (m.error instanceof Fault && m.error.code === 'TS8210');
  const differs = password && again !== '' && again !== first;
  const ready = (!password || (first !== '' && first === again)) && (!coded || code.trim() !== '');
  return (
    <Entrance title={t.login.welcome(name)} about={password ? t.login.setPassword : t.login.linkOnce}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          if (ready) m.mutate();
        }}
      >
        <Stack>
          <TextInput label={t.login.name} value={name} readOnly autoComplete="username" />
          {password && (
            <>
              <PasswordInput
                label={t.login.newPassword}
                description={t.login.passwordHelp}
                autoComplete="new-password"
                value={first}
                onChange={(e) => setFirst(e.currentTarget.value)}
                visibilityToggleButtonProps={{ 'aria-label': t.login.show }}
                autoFocus
                required
                withAsterisk={false}
              />
              <PasswordInput
                label={t.login.again}
                autoComplete="new-password"
                value={again}
                onChange={(e) => setAgain(e.currentTarget.value)}
                visibilityToggleButtonProps={{ 'aria-label': t.login.show }}
                error={differs ? t.login.differs : undefined}
                required
                withAsterisk={false}
              />
            </>
          )}
          {coded && <CodeField value={code} onChange={setCode} />}
          {m.error && !(m.error instanceof Fault && m.error.code === 'TS8210') && <Failure error={m.error} />}
          <Button type="submit" loading={m.isPending} disabled={!ready}>
            {t.login.go}
          </Button>
          <Text size="xs" c="dimmed">
            {t.login.linkEnds(ago(expires))}
          </Text>
        </Stack>
      </form>
    </Entrance>
  );
}
