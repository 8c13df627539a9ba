// SPDX-License-Identifier: Apache-2.0
import { createRootRoute, createRoute, createRouter, Outlet } from '@tanstack/react-router';
import type { ComponentType } from 'react';
import { Shell } from './ui/shell';
import { Broken, NotFound } from './ui/notfound';

// What stands behind ? in a link: words only, and none that is empty.
function words<K extends string>(...keys: K[]) {
  return (search: Record<string, unknown>): { [P in K]?: string } => {
    const out: { [P in K]?: string } = {};
    for (const k of keys) {
      const v = search[k];
      if (typeof v === 'string' && v !== '') out[k] = v;
      else if (typeof v === 'number' || typeof v === 'boolean') out[k] = String(v);
    }
    return out;
  };
}

// page is a page whose file is fetched when it is first wanted. The router's own
// way to do it reloads the tab when the file does not come, which leaves somebody
// without a network with nothing.
function page(load: () => Promise<ComponentType>) {
  let Loaded: ComponentType | undefined;
  const preload = async () => {
    Loaded ??= await load();
  };
  const Page = () => {
    if (Loaded === undefined) throw preload(); // React waits for what is thrown
    return <Loaded />;
  };
  return Object.assign(Page, { preload });
}

const root = createRootRoute({
  component: () => (
    <Shell>
      <Outlet />
    </Shell>
  ),
  notFoundComponent: NotFound,
  errorComponent: Broken,
});

const routes = [
  createRoute({ getParentRoute: () => root, path: '/', component: page(async () => (await import('./pages/overview')).Overview) }),
  createRoute({
    getParentRoute: () => root,
    path: '/machines',
    validateSearch: words('q', 'tier', 'group', 'protection', 'cve', 'need', 'stale', 'after'),
    component: page(async () => (await import('./pages/machines')).Machines),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/machines/$id',
    component: page(async () => (await import('./pages/machine')).Machine),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/livepatches',
    validateSearch: words('tier', 'target', 'after'),
    component: page(async () => (await import('./pages/livepatches')).LivePatches),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/livepatches/$id',
    validateSearch: words('kind', 'after'),
    component: page(async () => (await import('./pages/livepatch')).LivePatch),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/cves',
    validateSearch: words('q', 'policy', 'target', 'state', 'severity', 'open', 'exploited', 'after'),
    component: page(async () => (await import('./pages/matrix')).Matrix),
  }),
  createRoute({ getParentRoute: () => root, path: '/targets', component: page(async () => (await import('./pages/targets')).Targets) }),
  createRoute({ getParentRoute: () => root, path: '/system', component: page(async () => (await import('./pages/health')).Health) }),
  createRoute({
    getParentRoute: () => root,
    path: '/cves/$cve',
    validateSearch: words('policy', 'after'),
    component: page(async () => (await import('./pages/cve')).Cve),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/jobs',
    validateSearch: words('state', 'after'),
    component: page(async () => (await import('./pages/jobs')).Jobs),
  }),
  createRoute({ getParentRoute: () => root, path: '/jobs/$id', component: page(async () => (await import('./pages/job')).Job) }),
  createRoute({ getParentRoute: () => root, path: '/policies', component: page(async () => (await import('./pages/policies')).Policies) }),
  createRoute({
    getParentRoute: () => root,
    path: '/policies/$name',
    component: page(async () => (await import('./pages/policy')).Policy),
  }),
  createRoute({ getParentRoute: () => root, path: '/updates', component: page(async () => (await import('./pages/updates')).Updates) }),
  createRoute({ getParentRoute: () => root, path: '/tiers', component: page(async () => (await import('./pages/tiers')).Tiers) }),
  createRoute({ getParentRoute: () => root, path: '/tokens', component: page(async () => (await import('./pages/tokens')).Tokens) }),
  createRoute({
    getParentRoute: () => root,
    path: '/audit',
    validateSearch: words('actor', 'action', 'object', 'after'),
    component: page(async () => (await import('./pages/audit')).Audit),
  }),
  createRoute({ getParentRoute: () => root, path: '/account', component: page(async () => (await import('./pages/account')).Account) }),
  createRoute({ getParentRoute: () => root, path: '/users', component: page(async () => (await import('./pages/users')).Users) }),
  createRoute({ getParentRoute: () => root, path: '/users/$id', component: page(async () => (await import('./pages/user')).User) }),
  createRoute({ getParentRoute: () => root, path: '/sessions', component: page(async () => (await import('./pages/sessions')).Sessions) }),
  createRoute({ getParentRoute: () => root, path: '/keys', component: page(async () => (await import('./pages/keys')).Keys) }),
  createRoute({
    getParentRoute: () => root,
    path: '/approvals',
    validateSearch: words('all', 'after'),
    component: page(async () => (await import('./pages/approvals')).Approvals),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/notifications',
    validateSearch: words('stage', 'after'),
    component: page(async () => (await import('./pages/notifications')).Notifications),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/rollouts',
    validateSearch: words('open', 'after'),
    component: page(async () => (await import('./pages/rollouts')).Rollouts),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/rollouts/$id',
    validateSearch: words('step', 'status', 'after'),
    component: page(async () => (await import('./pages/rollout')).Rollout),
  }),
  createRoute({ getParentRoute: () => root, path: '/settings', component: page(async () => (await import('./pages/settings')).Settings) }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(routes),
  basepath: '/console',
  defaultErrorComponent: Broken, // in the place of the page: the way to others stays
  // Another machine is another page: what was opened or turned to on the one before is not of it.
  defaultRemountDeps: ({ params }) => params,
  defaultPreload: 'intent',
  defaultPreloadStaleTime: 0,
  scrollRestoration: true,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
