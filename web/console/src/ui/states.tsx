// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, Code, Skeleton, Stack, Text } from '@mantine/core';
import { IconAlertTriangle, IconInfoCircle, IconPlugConnectedX } from '@tabler/icons-react';
import type { UseQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { Fault, type Schemas } from '../api/client';
import { noPasskey } from '../api/passkey';
import { useT, type Dict } from '../i18n';

// Problem shows what a person may have to act on, as the server words it.
export function Problem({ problem, color = 'red' }: { problem: Schemas['Problem']; color?: string }) {
  const t = useT();
  return (
    <Alert color={color} variant="light" icon={<IconAlertTriangle aria-hidden />} className="problem">
      <Text size="sm" lang="en" className="wrap">
        {problem.code && <Code>{problem.code}</Code>} <b>{problem.what}</b>
        {problem.where && <> ({problem.where})</>}
        {problem.why && <>: {problem.why}</>}
      </Text>
      {problem.fix && (
        <Text size="sm" mt={4} className="wrap">
          <b>{t.problem.fix}</b> <span lang="en">{problem.fix}</span>
        </Text>
      )}
    </Alert>
  );
}

function titleOf(status: number, t: Dict): string {
  if (status < 0) return t.problem.here;
  if (status === 403) return t.problem.forbidden;
  if (status === 404) return t.problem.notFound;
  return status >= 500 ? t.problem.failed : t.problem.title;
}

export function Failure({ error, retry }: { error: unknown; retry?: (() => void) | undefined }) {
  const t = useT();
  const f = error instanceof Fault ? error : new Fault(-1, { title: error instanceof Error ? error.message : String(error) });
  const again = retry && (
    <Button size="xs" mt="sm" variant="default" onClick={retry}>
      {t.problem.retry}
    </Button>
  );
  if (f.status === 0) {
    return (
      <Alert color="red" variant="light" icon={<IconPlugConnectedX aria-hidden />} title={t.problem.unreachable} role="alert">
        <Text size="sm">{t.problem.unreachableHelp}</Text>
        {again}
      </Alert>
    );
  }
  const title = titleOf(f.status, t);
  if (f.what === noPasskey) {
    return (
      <Alert color="yellow" variant="light" icon={<IconInfoCircle aria-hidden />} role="alert">
        {t.problem.passkey}
      </Alert>
    );
  }
  return (
    <Alert color="red" variant="light" icon={<IconAlertTriangle aria-hidden />} title={title} role="alert">
      <Text size="sm" lang="en" className="wrap">
        {f.code && <Code>{f.code}</Code>} {f.what}
        {f.where && <> ({f.where})</>}
        {f.why && <>: {f.why}</>}
      </Text>
      {f.fix && (
        <Text size="sm" mt={4} className="wrap">
          <b>{t.problem.fix}</b> <span lang="en">{f.fix}</span>
        </Text>
      )}
      {again}
    </Alert>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <IconInfoCircle aria-hidden stroke={1.5} />
      <Text fw={600}>{title}</Text>
      {children && (
        <Text size="sm" c="dimmed" component="div">
          {children}
        </Text>
      )}
    </div>
  );
}

export function Waiting({ lines = 4 }: { lines?: number }) {
  const t = useT();
  return (
    <Stack gap="sm" role="status" aria-label={t.loading}>
      {Array.from({ length: lines }, (_, i) => (
        <Skeleton key={i} h={28} />
      ))}
    </Stack>
  );
}

// Loaded shows a query's data, or what there is instead of it. Data that could
// not be renewed stays, with the reason above it.
export function Loaded<T>({ query, lines, children }: { query: UseQueryResult<T>; lines?: number; children: (data: T) => ReactNode }) {
  const retry = () => void query.refetch();
  return (
    <>
      {query.isError && <Failure error={query.error} retry={retry} />}
      {query.data !== undefined ? children(query.data) : query.isError ? null : <Waiting {...(lines ? { lines } : {})} />}
    </>
  );
}
