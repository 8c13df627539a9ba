// SPDX-License-Identifier: Apache-2.0
import { Button, Group, Modal, PasswordInput, Stack, Text } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState, useSyncExternalStore } from 'react';
import { api, ask, Fault } from '../api/client';
import { canPasskey, withPasskey } from '../api/passkey';
import { account, signInMethods } from '../api/people';
import { useT } from '../i18n';
import { CodeField, Providers, wantsCode } from './login';
import { Failure } from './states';

// Some things are only done for who proved a moment ago who they are: a
// session that somebody finds open must not be enough for them.

interface Wanted {
  done: (proven: boolean) => void;
}

let wanted: Wanted | undefined;
const listeners = new Set<() => void>();

function set(w: Wanted | undefined) {
  wanted = w;
  listeners.forEach((l) => l());
}

function subscribe(l: () => void) {
  listeners.add(l);
  return () => {
    listeners.delete(l);
  };
}

// proven does something and, if the server wants a proof first, asks for it and
// does it once more.
export async function proven<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (e) {
    if (!(e instanceof Fault) || e.code !== 'TS8206') throw e;
    const ok = await new Promise<boolean>((done) => {
      wanted?.done(false);
      set({ done });
    });
    set(undefined);
    if (!ok) throw e;
    return act();
  }
}

// Proof is the dialog that asks for it.
export function Proof() {
  const now = useSyncExternalStore(subscribe, () => wanted);
  return now ? <Asked key="proof" done={now.done} /> : null;
}

function Asked({ done }: Wanted) {
  const t = useT();
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  const [coded, setCoded] = useState(false);
  const methods = useQuery(signInMethods).data;
  const hasPassword = useQuery(account).data?.password !== false;
  const byPassword = useMutation({
    mutationFn: () => ask(api.POST('/v1/account/confirm', { body: { password, ...(code.trim() ? { code: code.trim() } : {}) } })),
    onSuccess: () => done(true),
    onError: (e) => {
      if (wantsCode(e)) setCoded(true);
      setCode('');
    },
  });
  const byPasskey = useMutation({
    mutationFn: async () => {
      const body = await withPasskey(() => ask(api.POST('/v1/sign-in/passkey')));
      await ask(api.POST('/v1/account/confirm-passkey', { body }));
    },
    onSuccess: () => done(true),
  });
  const error = byPasskey.error ?? byPassword.error;
  return (
    <Modal opened onClose={() => done(false)} title={t.login.proof} closeButtonProps={{ 'aria-label': t.close }}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          byPasskey.reset();
          if (password !== '') byPassword.mutate();
        }}
      >
        <Stack>
          <Text size="sm">{t.login.proofHelp}</Text>
          {hasPassword && (
            <PasswordInput
              label={t.login.password}
              autoComplete="current-password"
              value={password}
              onChange={(e) => setPassword(e.currentTarget.value)}
              visibilityToggleButtonProps={{ 'aria-label': t.login.show }}
              data-autofocus
              required
              withAsterisk={false}
            />
          )}
          {hasPassword && coded && <CodeField value={code} onChange={setCode} />}
          {error && !(error instanceof Fault && error.code === 'TS8210') && <Failure error={error} />}
          <Group justify="flex-end" gap="xs">
            {methods?.passkeys && canPasskey() && (
              <Button variant="default" loading={byPasskey.isPending} onClick={() => byPasskey.mutate()}>
                {t.login.passkey}
              </Button>
            )}
            {!hasPassword && <Providers of={methods?.providers ?? []} />}
            {hasPassword && (
              <Button type="submit" loading={byPassword.isPending} disabled={password === ''}>
                {t.login.prove}
              </Button>
            )}
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
