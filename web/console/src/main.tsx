// SPDX-License-Identifier: Apache-2.0
import './styles';
import './app.css';
import { localStorageColorSchemeManager, MantineProvider } from '@mantine/core';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode, useEffect, useSyncExternalStore } from 'react';
import { createRoot } from 'react-dom/client';
import { Fault } from './api/client';
import { session } from './api/session';
import { startLanguage } from './i18n';
import { router } from './router';
import { theme } from './theme';
import { Login } from './ui/login';
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

function App() {
  const credential = useSyncExternalStore(session.subscribe, () => session.credential);
  useEffect(() => {
    if (credential === '') client.clear(); // the next person sees nothing of this one
  }, [credential]);
  return credential === '' ? <Login /> : <RouterProvider router={router} />;
}

await startLanguage();
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
        <Toasts />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
