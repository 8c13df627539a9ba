// SPDX-License-Identifier: Apache-2.0
import { Group, NativeSelect, useMantineColorScheme, type MantineColorScheme } from '@mantine/core';
import { languageNames, languages, setLanguage, useLanguage, useT, type Language } from '../i18n';

// Look chooses language and colours. Both are kept in this browser.
export function Look() {
  const t = useT();
  const language = useLanguage();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Group gap="xs" grow>
      <NativeSelect
        size="xs"
        aria-label={t.look.language}
        value={language}
        onChange={(e) => void setLanguage(e.currentTarget.value as Language)}
        data={languages.map((l) => ({ value: l, label: languageNames[l] }))}
      />
      <NativeSelect
        size="xs"
        aria-label={t.look.colors}
        value={colorScheme}
        onChange={(e) => setColorScheme(e.currentTarget.value as MantineColorScheme)}
        data={[
          { value: 'auto', label: t.look.auto },
          { value: 'light', label: t.look.light },
          { value: 'dark', label: t.look.dark },
        ]}
      />
    </Group>
  );
}
