// SPDX-License-Identifier: Apache-2.0
import { useSyncExternalStore } from 'react';
import { en } from './en';

// A word of the dictionary is a string, or a function of what stands in it.
// Another language has every key with the same parameters, or does not compile.
export type Words<T> = { [K in keyof T]: T[K] extends string ? string : T[K] extends (...a: infer A) => string ? (...a: A) => string : Words<T[K]> };
export type Dict = Words<typeof en>;

export const languages = ['en', 'ja'] as const;
export type Language = (typeof languages)[number];
export const languageNames: Record<Language, string> = { en: 'English', ja: '日本語' };

const key = 'tsugi.language';
const listeners = new Set<() => void>();
let language: Language = 'en';
let dict: Dict = en;

function preferred(): Language {
  const asked = [localStorage.getItem(key) ?? '', ...navigator.languages];
  for (const a of asked) {
    const found = languages.find((l) => a === l || a.startsWith(`${l}-`));
    if (found) return found;
  }
  return 'en';
}

async function load(l: Language): Promise<Dict> {
  return l === 'ja' ? (await import('./ja')).ja : en;
}

export async function setLanguage(l: Language, keep = true) {
  const d = await load(l);
  language = l;
  dict = d;
  document.documentElement.lang = l;
  if (keep) localStorage.setItem(key, l);
  listeners.forEach((f) => f());
}

export const startLanguage = () => setLanguage(preferred(), false).catch(() => setLanguage('en', false));

export const currentLanguage = () => language;

function subscribe(f: () => void) {
  listeners.add(f);
  return () => {
    listeners.delete(f);
  };
}

export function useT(): Dict {
  return useSyncExternalStore(subscribe, () => dict);
}

export function useLanguage(): Language {
  return useSyncExternalStore(subscribe, currentLanguage);
}

// word looks a word of the API up; one that is newer than this console is
// shown as it came.
export function word(of: Readonly<Record<string, string>>, w: string | undefined): string {
  if (!w) return '';
  return Object.hasOwn(of, w) ? (of[w] ?? w) : w;
}
