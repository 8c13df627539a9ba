// SPDX-License-Identifier: Apache-2.0
import { Group, Paper, Text, Title } from '@mantine/core';
import { useEffect, useRef, type ReactNode } from 'react';
import { useT } from '../i18n';

interface PageProps {
  title: string;
  about?: ReactNode;
  up?: ReactNode; // link to the list that this is one of
  actions?: ReactNode;
  children: ReactNode;
}

// Page is one page: its heading takes the focus when it opens, so that who
// doesn't see the page hears where it went.
export function Page({ title, about, up, actions, children }: PageProps) {
  const t = useT();
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · ${t.product}`;
  }, [title, t]);
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <div className="page">
      {up && (
        <nav className="up" aria-label={t.nav.breadcrumbs}>
          <span aria-hidden>←</span> {up}
        </nav>
      )}
      <Group justify="space-between" align="flex-start" mb="md" gap="sm">
        <div className="grow">
          <Title order={1} size="h2" ref={heading} tabIndex={-1} className="heading wrap">
            {title}
          </Title>
          {about && (
            <Text c="dimmed" size="sm" component="div" className="wrap">
              {about}
            </Text>
          )}
        </div>
        {actions && <Group gap="xs">{actions}</Group>}
      </Group>
      {children}
    </div>
  );
}

export function Section({ title, actions, children }: { title: string; actions?: ReactNode; children: ReactNode }) {
  return (
    <Paper withBorder p="md" component="section" className="section">
      <Group justify="space-between" mb="sm" gap="xs">
        <Title order={2} size="h4">
          {title}
        </Title>
        {actions && <Group gap="xs">{actions}</Group>}
      </Group>
      {children}
    </Paper>
  );
}

// Facts is a list of names and values; a value that there is not is left out.
export function Facts({ of }: { of: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className="facts">
      {of.map(([name, value]) =>
        value === undefined || value === null || value === '' || value === false ? null : (
          <div key={name}>
            <dt>{name}</dt>
            <dd className="wrap">{value}</dd>
          </div>
        ),
      )}
    </dl>
  );
}
