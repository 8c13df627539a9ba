// SPDX-License-Identifier: Apache-2.0

// The credential of who is looking. It lives as long as the tab: an operator's
// token is never written to the disk of the browser's profile.
const key = 'tsugi.credential';

type Listener = () => void;
const listeners = new Set<Listener>();
let ended = false;

export const session = {
  get credential(): string {
    return sessionStorage.getItem(key) ?? '';
  },
  // Whether the server refused a credential that it had taken before.
  get ended(): boolean {
    return ended;
  },
  start(credential: string) {
    ended = false;
    sessionStorage.setItem(key, credential);
    listeners.forEach((l) => l());
  },
  end(refused = false) {
    if (session.credential === '') return;
    ended = refused;
    sessionStorage.removeItem(key);
    listeners.forEach((l) => l());
  },
  subscribe(l: Listener) {
    listeners.add(l);
    return () => {
      listeners.delete(l);
    };
  },
};
