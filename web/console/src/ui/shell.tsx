// SPDX-License-Identifier: Apache-2.0
import { ActionIcon, AppShell, Burger, Button, Divider, Group, Kbd, NavLink, type NavLinkProps, Stack, Text, UnstyledButton } from '@mantine/core';
import { useDisclosure, useHotkeys } from '@mantine/hooks';
import {
  IconBandage, IconGauge, IconHammer, IconHistory, IconKey, IconLogout, IconPackages, IconSearch, IconServer2, IconSettings, IconShieldHalf,
  IconStairs, type Icon,
} from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { createLink, Link, useRouterState } from '@tanstack/react-router';
import { lazy, Suspense, useEffect, type ComponentProps, type ReactNode } from 'react';
import { whoami } from '../api/queries';
import { session } from '../api/session';
import { useT, type Dict } from '../i18n';
import { Look } from './look';

const Search = lazy(async () => ({ default: (await import('./search')).Search }));

export interface Place {
  to: '/' | '/machines' | '/livepatches' | '/jobs' | '/policies' | '/updates' | '/tiers' | '/tokens' | '/audit' | '/settings';
  name: (t: Dict) => string;
  icon: Icon;
}

export const places: readonly Place[] = [
  { to: '/', name: (t) => t.nav.overview, icon: IconGauge },
  { to: '/machines', name: (t) => t.nav.machines, icon: IconServer2 },
  { to: '/livepatches', name: (t) => t.nav.livePatches, icon: IconBandage },
  { to: '/policies', name: (t) => t.nav.policies, icon: IconShieldHalf },
  { to: '/updates', name: (t) => t.nav.updates, icon: IconPackages },
  { to: '/jobs', name: (t) => t.nav.jobs, icon: IconHammer },
  { to: '/tiers', name: (t) => t.nav.tiers, icon: IconStairs },
  { to: '/tokens', name: (t) => t.nav.tokens, icon: IconKey },
  { to: '/audit', name: (t) => t.nav.audit, icon: IconHistory },
  { to: '/settings', name: (t) => t.nav.settings, icon: IconSettings },
];

const RoutedNavLink = createLink((p: NavLinkProps & Omit<ComponentProps<'a'>, keyof NavLinkProps>) => <NavLink component="a" {...p} />);

export function Shell({ children }: { children: ReactNode }) {
  const t = useT();
  const [nav, { toggle, close }] = useDisclosure(false);
  const [searching, search] = useDisclosure(false);
  const who = useQuery(whoami).data;
  const path = useRouterState({ select: (s) => s.location.pathname });
  useEffect(close, [path, close]);
  useHotkeys([
    ['mod+K', search.open],
    ['/', search.open],
  ]);
  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 232, breakpoint: 'sm', collapsed: { mobile: !nav } }}
      padding="md"
      withBorder
    >
      <a href="#main" className="skip">
        {t.nav.skip}
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap" gap="sm">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={nav} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t.nav.menu} aria-expanded={nav} aria-controls="nav" />
            <Link to="/" className="brand">
              <img src={`${import.meta.env.BASE_URL}icon.svg`} alt="" width={26} height={26} />
              <span>{t.product}</span>
            </Link>
          </Group>
          <UnstyledButton className="search-button" onClick={search.open} aria-keyshortcuts="Control+K /">
            <IconSearch size={16} aria-hidden />
            <span className="search-words">{t.search.button}</span>
            <Kbd visibleFrom="sm" aria-hidden>
              Ctrl K
            </Kbd>
          </UnstyledButton>
          <Group gap="xs" wrap="nowrap" visibleFrom="sm" className="who">
            {who && (
              <Text size="sm" className="ellipsis">
                {who.name} <Text span c="dimmed">{who.role}</Text>
              </Text>
            )}
            <ActionIcon variant="subtle" color="gray" aria-label={t.nav.logout} title={t.nav.logout} onClick={() => session.end()}>
              <IconLogout size={18} aria-hidden />
            </ActionIcon>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" id="nav" aria-label={t.nav.label}>
        <AppShell.Section grow className="scroll">
          {places.map((p) => (
            <RoutedNavLink
              key={p.to}
              to={p.to}
              activeOptions={{ exact: p.to === '/', includeSearch: false }}
              label={p.name(t)}
              leftSection={<p.icon size={18} stroke={1.6} aria-hidden />}
            />
          ))}
        </AppShell.Section>
        <AppShell.Section>
          <Divider my="xs" />
          <Stack gap="xs">
            <Look />
            <Button hiddenFrom="sm" variant="default" size="xs" onClick={() => session.end()}>
              {t.nav.logout}
              {who && ` (${who.name})`}
            </Button>
            {who && (
              <Text size="xs" c="dimmed">
                tsugi-server {who.version}
              </Text>
            )}
          </Stack>
        </AppShell.Section>
      </AppShell.Navbar>
      <AppShell.Main id="main">{children}</AppShell.Main>
      <Suspense>{searching && <Search onClose={search.close} />}</Suspense>
    </AppShell>
  );
}
