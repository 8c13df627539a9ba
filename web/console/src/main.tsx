// SPDX-License-Identifier: Apache-2.0
import './styles';
import './app.css';
import { localStorageColorSchemeManager, MantineProvider } from '@mantine/core';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode, useEffect, useSyncExternalStore } from 'react';
import { createRoot } from 'react-dom/client';
import { Fault } from './api/client';
import { listen } from './api/events';
import { whoami } from './api/queries';
import { session } from './api/session';
import { startLanguage } from './i18n';
import { router } from './router';
import { theme } from './theme';
import { OneTimeLink } from './ui/link';
import { Login } from './ui/login';
import { Proof } from './ui/proof';
import { Toasts } from './ui/toast';

// The server gives each page a nonce; style sheets that are written here carry it.
const nonce = document.querySelector<HTMLMetaElement>('meta[name=style-nonce]')?.nonce ?? '';
(globalThis as { __webpack_nonce__?: string }).__webpack_nonce__ = nonce; // where react-remove-scroll looks

const client = new QueryClient({
  defaultOptions: {
    mutations: { networkMode: 'always' },
    queries: {
      networkMode: 'always', // what fails is shown, also where the browser thinks that there is no network
      staleTime: 2_000,
      // What the server refused stays refused; what did not arrive may.
      retry: (n, e) => n < 2 && (!(e instanceof Fault) || e.status === 0 || e.status >= 500),
      retryDelay: (n) => 500 * 2 ** n,
    },
  },
});

// boot finds out whether somebody is signed in already.
async function boot() {
  const epoch = session.epoch;
  try {
    const who = await client.fetchQuery({ ...whoami, retry: false });
    if (session.epoch !== epoch) return;
    client.setQueryData(whoami.queryKey, who);
    session.start(session.credential);
  } catch (e) {
    if (session.epoch !== epoch) return; // somebody signed in while it was asked, or was found to be out
    // A server that does not answer has signed nobody out: the pages say so.
    if (e instanceof Fault && (e.status === 0 || e.status >= 500)) session.start(session.credential);
    else session.end();
  }
}

// The next person sees nothing of this one. It is forgotten before React hears
// of the change: later, what the next pages have begun to ask would be taken
// from under them, and they would wait for ever.
let epoch = session.epoch;
session.subscribe(() => {
  if (session.epoch === epoch) return;
  if (epoch > 0) client.clear();
  epoch = session.epoch;
});

function App() {
  const standing = useSyncExternalStore(session.subscribe, () => session.standing);
  const epoch = useSyncExternalStore(session.subscribe, () => session.epoch);
  useEffect(() => (standing === 'in' ? listen(client) : undefined), [standing, epoch]);
  if (window.location.pathname === '/console/link') return <OneTimeLink />;
  if (standing === 'asking') return null;
  return standing === 'in' ? <RouterProvider router={router} /> : <Login />;
}

await startLanguage();
void boot();
createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <MantineProvider
      theme={theme}
      defaultColorScheme="auto"
      colorSchemeManager={localStorageColorSchemeManager({ key: 'tsugi.colors' })}
      getStyleNonce={() => nonce}
    >
      <QueryClientProvider client={client}>
        <App />
        <Proof />
        <Toasts />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
