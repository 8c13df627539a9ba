// SPDX-License-Identifier: Apache-2.0
import { Group, NativeSelect, useMantineColorScheme, type MantineColorScheme } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { api, ask } from '../api/client';
import { account } from '../api/people';
import { session } from '../api/session';
import { currentLanguage, languageNames, languages, setLanguage, useLanguage, useT, type Language } from '../i18n';
import { say } from './toast';

interface Props {
  value: { language: Language; theme: MantineColorScheme };
  onChange: (to: { language?: Language; theme?: MantineColorScheme }) => void;
}

function Choices({ value, onChange }: Props) {
  const t = useT();
  return (
    <Group gap="xs" grow>
      <NativeSelect
        size="xs"
        aria-label={t.look.language}
        value={value.language}
        onChange={(e) => onChange({ language: e.currentTarget.value as Language })}
        data={languages.map((l) => ({ value: l, label: languageNames[l] }))}
      />
      <NativeSelect
        size="xs"
        aria-label={t.look.colors}
        value={value.theme}
        onChange={(e) => onChange({ theme: e.currentTarget.value as MantineColorScheme })}
        data={[
          { value: 'auto', label: t.look.auto },
          { value: 'light', label: t.look.light },
          { value: 'dark', label: t.look.dark },
        ]}
      />
    </Group>
  );
}

// Look chooses language and colours, and keeps both in this browser: at the
// entrance, where nobody is known yet.
export function Look() {
  const language = useLanguage();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Choices
      value={{ language, theme: colorScheme }}
      onChange={(to) => {
        if (to.language) void setLanguage(to.language);
        if (to.theme) setColorScheme(to.theme);
      }}
    />
  );
}

// OwnLook is Look of who is signed in: their account keeps it as well, and
// brings it to the other browsers that they use.
export function OwnLook() {
  const language = useLanguage();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const client = useQueryClient();
  const person = session.credential === '';
  const kept = useQuery({ ...account, enabled: person, staleTime: 60_000 }).data?.settings;
  useEffect(() => {
    if (kept?.language && kept.language !== currentLanguage()) void setLanguage(kept.language);
  }, [kept?.language]);
  useEffect(() => {
    if (kept?.theme) setColorScheme(kept.theme);
  }, [kept?.theme, setColorScheme]);
  const change: Props['onChange'] = (to) => {
    if (to.language) void setLanguage(to.language);
    if (to.theme) setColorScheme(to.theme);
    if (!person) return;
    const settings = { language, theme: colorScheme, ...to };
    void (async () => {
      await client.cancelQueries({ queryKey: account.queryKey }); // what is under way still has what was before
      client.setQueryData(account.queryKey, (a) => a && { ...a, settings });
      await ask(api.PATCH('/v1/account', { body: { settings } }));
    })().catch((e: unknown) => say(e instanceof Error ? e.message : String(e)));
  };
  return <Choices value={{ language, theme: colorScheme }} onChange={change} />;
}
