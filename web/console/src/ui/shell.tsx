// SPDX-License-Identifier: Apache-2.0
import { ActionIcon, AppShell, Badge, Burger, Button, Divider, Group, Kbd, NavLink, type NavLinkProps, Stack, Text, UnstyledButton } from '@mantine/core';
import { useDisclosure, useHotkeys } from '@mantine/hooks';
import {
  IconBandage, IconBell, IconBug, IconCpu, IconGauge, IconHammer, IconHeartbeat, IconHistory, IconKey, IconLogout, IconPackages, IconSearch, IconServer2, IconSettings, IconShieldHalf,
  IconStairs, IconUserCheck, IconUserCircle, IconUsers, IconWaveSawTool, type Icon,
} from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { createLink, Link, useRouterState } from '@tanstack/react-router';
import { lazy, Suspense, useEffect, useSyncExternalStore, type ComponentProps, type ReactNode } from 'react';
import { api, ask } from '../api/client';
import { stream } from '../api/events';
import { approvals } from '../api/people';
import { whoami } from '../api/queries';
import { session } from '../api/session';
import { useT, type Dict } from '../i18n';
import type { Permission } from './act';
import { OwnLook } from './look';
import { say } from './toast';

const Search = lazy(async () => ({ default: (await import('./search')).Search }));

export interface Place {
  to:
    | '/' | '/cves' | '/targets' | '/system' | '/machines' | '/livepatches' | '/rollouts' | '/approvals' | '/jobs' | '/policies' | '/updates' | '/tiers' | '/tokens' | '/notifications'
    | '/users' | '/audit' | '/settings' | '/account';
  name: (t: Dict) => string;
  icon: Icon;
  part: keyof Dict['navPart'] | ''; // '': found by the search alone
  needs?: Permission; // who has it nowhere is not shown the way
}

export const places: readonly Place[] = [
  { to: '/', name: (t) => t.nav.overview, icon: IconGauge, part: 'fleet' },
  { to: '/machines', name: (t) => t.nav.machines, icon: IconServer2, part: 'fleet' },
  { to: '/cves', name: (t) => t.matrix.nav, icon: IconBug, part: 'fleet' },
  { to: '/livepatches', name: (t) => t.nav.livePatches, icon: IconBandage, part: 'patching' },
  { to: '/rollouts', name: (t) => t.nav.rollouts, icon: IconWaveSawTool, part: 'patching' },
  { to: '/approvals', name: (t) => t.nav.approvals, icon: IconUserCheck, part: 'patching', needs: 'approve' },
  { to: '/policies', name: (t) => t.nav.policies, icon: IconShieldHalf, part: 'patching' },
  { to: '/updates', name: (t) => t.nav.updates, icon: IconPackages, part: 'patching' },
  { to: '/jobs', name: (t) => t.nav.jobs, icon: IconHammer, part: 'patching' },
  { to: '/targets', name: (t) => t.coverage.nav, icon: IconCpu, part: 'setup' },
  { to: '/tiers', name: (t) => t.nav.tiers, icon: IconStairs, part: 'setup' },
  { to: '/tokens', name: (t) => t.nav.tokens, icon: IconKey, part: 'setup' },
  { to: '/notifications', name: (t) => t.nav.notifications, icon: IconBell, part: 'setup' },
  { to: '/users', name: (t) => t.nav.users, icon: IconUsers, part: 'administration', needs: 'people' },
  { to: '/audit', name: (t) => t.nav.audit, icon: IconHistory, part: 'administration' },
  { to: '/system', name: (t) => t.health.nav, icon: IconHeartbeat, part: 'administration' },
  { to: '/settings', name: (t) => t.nav.settings, icon: IconSettings, part: 'administration' },
  { to: '/account', name: (t) => t.nav.account, icon: IconUserCircle, part: '' },
];

const parts = ['fleet', 'patching', 'setup', 'administration'] as const;

const RoutedNavLink = createLink((p: NavLinkProps & Omit<ComponentProps<'a'>, keyof NavLinkProps>) => <NavLink component="a" {...p} />);

// signOut ends the session at the server: only what it takes back is ended.
async function signOut() {
  try {
    if (session.credential === '') await ask(api.POST('/v1/sign-out'));
    session.end();
  } catch (e) {
    say(e instanceof Error ? e.message : String(e));
  }
}

// Waiting is how much waits for a second person.
function Waiting() {
  const n = useQuery(approvals({})).data?.items?.length ?? 0;
  return n > 0 ? (
    <Badge size="sm" variant="light" color="orange">
      {n}
    </Badge>
  ) : null;
}

export function Shell({ children }: { children: ReactNode }) {
  const t = useT();
  const [nav, { toggle, close }] = useDisclosure(false);
  const [searching, search] = useDisclosure(false);
  const who = useQuery(whoami).data;
  const told = useSyncExternalStore(stream.subscribe, () => stream.on);
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
              <Link to="/account" className="account" title={t.nav.account}>
                <IconUserCircle size={20} stroke={1.5} aria-hidden />
                <span className="ellipsis">{who.name}</span>
              </Link>
            )}
            <ActionIcon variant="subtle" color="gray" aria-label={t.nav.logout} title={t.nav.logout} onClick={() => void signOut()}>
              <IconLogout size={18} aria-hidden />
            </ActionIcon>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" id="nav" aria-label={t.nav.label}>
        <AppShell.Section grow className="scroll">
          {parts.map((part) => (
            <div key={part} className="nav-part" role="group" aria-labelledby={`nav-${part}`}>
              <div id={`nav-${part}`} className="nav-head">
                {t.navPart[part]}
              </div>
              {places
                .filter((p) => p.part === part && (p.needs === undefined || who?.may[p.needs] !== undefined))
                .map((p) => (
                  <RoutedNavLink
                    key={p.to}
                    to={p.to}
                    activeOptions={{ exact: p.to === '/', includeSearch: false }}
                    label={p.name(t)}
                    leftSection={<p.icon size={18} stroke={1.6} aria-hidden />}
                    rightSection={p.to === '/approvals' ? <Waiting /> : undefined}
                  />
                ))}
            </div>
          ))}
        </AppShell.Section>
        <AppShell.Section>
          <Divider my="xs" />
          <Stack gap="xs">
            <OwnLook />
            {who && (
              <Group hiddenFrom="sm" gap="xs" justify="space-between" wrap="nowrap">
                <Link to="/account" className="account">
                  <IconUserCircle size={20} stroke={1.5} aria-hidden />
                  <span className="ellipsis">{who.name}</span>
                </Link>
                <Button variant="default" size="xs" onClick={() => void signOut()}>
                  {t.nav.logout}
                </Button>
              </Group>
            )}
            {who && (
              <Text size="xs" c="dimmed">
                <span className="live" data-on={told || undefined} title={told ? t.nav.live : t.nav.polling}>
                  <span className="hidden">{told ? t.nav.live : t.nav.polling}</span>
                </span>{' '}
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
