// SPDX-License-Identifier: Apache-2.0
import { Notification } from '@mantine/core';
import { useSyncExternalStore } from 'react';
import { useT } from '../i18n';

interface Toast {
  id: number;
  text: string;
}

let toasts: readonly Toast[] = [];
let last = 0;
const listeners = new Set<() => void>();

function set(next: readonly Toast[]) {
  toasts = next;
  listeners.forEach((l) => l());
}

const close = (id: number) => set(toasts.filter((t) => t.id !== id));

// say tells that something was done. What went wrong is shown where it was asked for.
export function say(text: string) {
  const id = ++last;
  set([...toasts.slice(-2), { id, text }]);
  setTimeout(() => close(id), 6000);
}

function subscribe(l: () => void) {
  listeners.add(l);
  return () => {
    listeners.delete(l);
  };
}

export function Toasts() {
  const t = useT();
  const shown = useSyncExternalStore(subscribe, () => toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map((n) => (
        <Notification key={n.id} color="pine" withBorder closeButtonProps={{ 'aria-label': t.close }} onClose={() => close(n.id)}>
          {n.text}
        </Notification>
      ))}
    </div>
  );
}
