// SPDX-License-Identifier: Apache-2.0
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Outlet } from '@tanstack/react-router';
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
  createRoute({ getParentRoute: () => root, path: '/', component: lazyRouteComponent(() => import('./pages/overview'), 'Overview') }),
  createRoute({
    getParentRoute: () => root,
    path: '/machines',
    validateSearch: words('q', 'tier', 'group', 'protection', 'cve', 'need', 'after'),
    component: lazyRouteComponent(() => import('./pages/machines'), 'Machines'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/machines/$id',
    component: lazyRouteComponent(() => import('./pages/machine'), 'Machine'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/livepatches',
    validateSearch: words('tier', 'target', 'after'),
    component: lazyRouteComponent(() => import('./pages/livepatches'), 'LivePatches'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/livepatches/$id',
    component: lazyRouteComponent(() => import('./pages/livepatch'), 'LivePatch'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/cves/$cve',
    validateSearch: words('after'),
    component: lazyRouteComponent(() => import('./pages/cve'), 'Cve'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/jobs',
    validateSearch: words('state', 'after'),
    component: lazyRouteComponent(() => import('./pages/jobs'), 'Jobs'),
  }),
  createRoute({ getParentRoute: () => root, path: '/jobs/$id', component: lazyRouteComponent(() => import('./pages/job'), 'Job') }),
  createRoute({ getParentRoute: () => root, path: '/policies', component: lazyRouteComponent(() => import('./pages/policies'), 'Policies') }),
  createRoute({
    getParentRoute: () => root,
    path: '/policies/$name',
    component: lazyRouteComponent(() => import('./pages/policy'), 'Policy'),
  }),
  createRoute({ getParentRoute: () => root, path: '/updates', component: lazyRouteComponent(() => import('./pages/updates'), 'Updates') }),
  createRoute({ getParentRoute: () => root, path: '/tiers', component: lazyRouteComponent(() => import('./pages/tiers'), 'Tiers') }),
  createRoute({ getParentRoute: () => root, path: '/tokens', component: lazyRouteComponent(() => import('./pages/tokens'), 'Tokens') }),
  createRoute({
    getParentRoute: () => root,
    path: '/audit',
    validateSearch: words('after'),
    component: lazyRouteComponent(() => import('./pages/audit'), 'Audit'),
  }),
  createRoute({ getParentRoute: () => root, path: '/settings', component: lazyRouteComponent(() => import('./pages/settings'), 'Settings') }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(routes),
  basepath: '/console',
  defaultPreload: 'intent',
  defaultPreloadStaleTime: 0,
  scrollRestoration: true,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
