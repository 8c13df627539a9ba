// SPDX-License-Identifier: Apache-2.0

// Who is looking. People sign in, and the browser keeps their session in a
// cookie that no script can read. An API key that is given instead lives as
// long as the tab: it is never written to the disk of the browser's profile.
const key = 'tsugi.credential';

export type Standing = 'asking' | 'in' | 'out';

type Listener = () => void;
const listeners = new Set<Listener>();
let standing: Standing = 'asking';
let ended = false;
let epoch = 0; // of who is signed in: an answer to who was before ends nothing

function tell() {
  listeners.forEach((l) => l());
}

export const session = {
  get standing(): Standing {
    return standing;
  },
  get epoch(): number {
    return epoch;
  },
  // The API key of this tab; '' with a session.
  get credential(): string {
    return sessionStorage.getItem(key) ?? '';
  },
  // Whether it ended without anybody having asked for it.
  get ended(): boolean {
    return ended;
  },
  start(credential = '') {
    ended = false;
    epoch++;
    if (credential === '') sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, credential);
    standing = 'in';
    tell();
  },
  end(unasked = false) {
    if (standing === 'out') return;
    ended = unasked && standing === 'in';
    epoch++;
    sessionStorage.removeItem(key);
    standing = 'out';
    tell();
  },
  subscribe(l: Listener) {
    listeners.add(l);
    return () => {
      listeners.delete(l);
    };
  },
};
