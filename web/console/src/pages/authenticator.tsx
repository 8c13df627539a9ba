// SPDX-License-Identifier: Apache-2.0
import { Button, Code, CopyButton, Group, Modal, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { encode } from 'uqr';
import { api, ask, type Schemas } from '../api/client';
import { useT } from '../i18n';
import { Dialog, Help } from '../ui/act';
import { Section } from '../ui/page';
import { proven } from '../ui/proof';
import { Failure } from '../ui/states';
import { Codes } from './account';

// Authenticator adds and removes the second factor beside a password.
export function Authenticator({ a }: { a: Schemas['Account'] }) {
  const t = useT();
  return (
    <Section
      title={t.account.totp}
      actions={
        a.totp ? (
          <Dialog
            button={t.account.removeTotp}
            danger
            title={t.account.removeTotp}
            go={t.account.removeTotp}
            done={t.account.totpRemoved}
            act={() => ask(api.DELETE('/v1/account/totp'))}
          >
            <Help>{t.account.removeTotpHelp}</Help>
          </Dialog>
        ) : (
          <Add />
        )
      }
    >
      <Text size="sm">{a.totp ? t.account.totpThere(a.recovery_codes) : t.account.totpNone}</Text>
    </Section>
  );
}

function Add() {
  const t = useT();
  const client = useQueryClient();
  const [code, setCode] = useState('');
  const begin = useMutation({ mutationFn: () => proven(() => ask(api.POST('/v1/account/totp'))) });
  const confirm = useMutation({
    mutationFn: () => proven(() => ask(api.POST('/v1/account/totp/confirm', { body: { ceremony: begin.data?.ceremony ?? '', code: code.trim() } }))),
    onError: () => setCode(''),
  });
  const close = () => {
    begin.reset();
    confirm.reset();
    void client.invalidateQueries();
  };
  return (
    <>
      <Button
        size="sm"
        variant="default"
        loading={begin.isPending}
        onClick={() => {
          setCode('');
          begin.mutate();
        }}
      >
        {t.account.addTotp}
      </Button>
      {begin.isError && <Failure error={begin.error} />}
      <Modal opened={begin.data !== undefined} onClose={close} title={t.account.addTotp} size="lg" closeOnClickOutside={false} closeButtonProps={{ 'aria-label': t.close }}>
        {confirm.data ? (
          <Stack>
            <Codes of={confirm.data.codes ?? []} />
            <Group justify="flex-end" gap="xs">
              <CopyButton value={(confirm.data.codes ?? []).join('\n')}>
                {({ copied, copy }) => (
                  <Button variant="default" onClick={copy}>
                    {copied ? t.copied : t.copy}
                  </Button>
                )}
              </CopyButton>
              <Button onClick={close}>{t.account.codesKept}</Button>
            </Group>
          </Stack>
        ) : (
          <form
            onSubmit={(e) => {
              e.preventDefault();
              confirm.mutate();
            }}
          >
            <Stack>
              <Help>{t.account.scan}</Help>
              {begin.data && <Picture of={begin.data.uri} />}
              <Text size="sm">
                {t.account.type} <Code className="break">{begin.data?.secret}</Code>
              </Text>
              <TextInput
                label={t.account.firstCode}
                autoComplete="one-time-code"
                inputMode="numeric"
                value={code}
                onChange={(e) => setCode(e.currentTarget.value)}
                data-autofocus
                required
                maxLength={40}
              />
              {confirm.isError && <Failure error={confirm.error} />}
              <Group justify="flex-end" gap="xs">
                <Button variant="default" onClick={close}>
                  {t.cancel}
                </Button>
                <Button type="submit" loading={confirm.isPending} disabled={code.trim().length < 6}>
                  {t.account.addTotp}
                </Button>
              </Group>
            </Stack>
          </form>
        )}
      </Modal>
    </>
  );
}

// Picture is the QR code that an authenticator reads: dark on light in both
// colour schemes, since not all read the other way round.
function Picture({ of }: { of: string }) {
  const t = useT();
  const { size, path } = useMemo(() => {
    const q = encode(of, { ecc: 'M', border: 4 });
    let p = '';
    q.data.forEach((row, y) => row.forEach((dark, x) => dark && (p += `M${x} ${y}h1v1h-1z`)));
    return { size: q.size, path: p };
  }, [of]);
  return (
    <svg viewBox={`0 0 ${size} ${size}`} className="qr" role="img" aria-label={t.account.qr} shapeRendering="crispEdges">
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  );
}
