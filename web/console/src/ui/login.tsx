// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, Code, Paper, PasswordInput, Stack, Text, Title } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { api, ask, Fault } from '../api/client';
import { session } from '../api/session';
import { useT } from '../i18n';
import { Look } from './look';
import { Failure } from './states';

// Login asks for an operator's token. The page that was asked for opens after it.
export function Login() {
  const t = useT();
  const [token, setToken] = useState('');
  const m = useMutation({
    mutationFn: async () => {
      const credential = token.trim();
      await ask(api.GET('/v1/whoami', { headers: { Authorization: `Bearer ${credential}` } }));
      return credential;
    },
    onSuccess: (credential) => session.start(credential),
  });
  useEffect(() => {
    document.title = `${t.login.title} · ${t.product}`;
  }, [t]);
  return (
    <main className="login">
      <Paper withBorder p="xl" className="login-card">
        <form
          onSubmit={(e) => {
            e.preventDefault();
            if (token.trim() !== '') m.mutate();
          }}
        >
          <Stack>
            <div>
              <Title order={1} size="h3">
                {t.login.title}
              </Title>
              <Text size="sm" c="dimmed">
                {t.login.about}
              </Text>
            </div>
            {session.ended && !m.isError && <Alert color="yellow">{t.login.ended}</Alert>}
            <PasswordInput
              label={t.login.token}
              description={t.login.tokenHelp}
              placeholder="tso_…"
              autoComplete="current-password"
              spellCheck={false}
              value={token}
              onChange={(e) => setToken(e.currentTarget.value)}
              visibilityToggleButtonProps={{ 'aria-label': t.login.show }}
              autoFocus
              required
              withAsterisk={false}
            />
            {m.isError &&
              (m.error instanceof Fault && m.error.status === 401 ? (
                <Alert color="red" role="alert">
                  {t.login.refused}
                </Alert>
              ) : (
                <Failure error={m.error} />
              ))}
            <Button type="submit" loading={m.isPending}>
              {t.login.go}
            </Button>
            <Text size="xs" c="dimmed">
              {t.login.none} <Code>tsugi-server operator new NAME</Code>
            </Text>
          </Stack>
        </form>
      </Paper>
      <Look />
    </main>
  );
}
