// SPDX-License-Identifier: Apache-2.0
import { ActionIcon, Button, Group, TextInput } from '@mantine/core';
import { useLocalStorage } from '@mantine/hooks';
import { IconBookmark, IconX } from '@tabler/icons-react';
import { useState } from 'react';
import { useT } from '../i18n';
import { Dialog } from '../ui/act';

type Search = Record<string, string | undefined>;

interface View {
  name: string;
  search: Record<string, string>;
}

function isViews(v: unknown): v is View[] {
  return Array.isArray(v) && v.every((x) => typeof x?.name === 'string' && typeof x?.search === 'object' && x.search !== null);
}

// Views are filters that somebody gave a name. They are kept in this browser.
export function Views({ search, onOpen }: { search: Search; onOpen: (s: Record<string, string>) => void }) {
  const t = useT();
  const [name, setName] = useState('');
  const [views, setViews] = useLocalStorage<View[]>({
    key: 'tsugi.views.machines',
    defaultValue: [],
    getInitialValueInEffect: false,
    deserialize: (s) => {
      try {
        const v: unknown = JSON.parse(s ?? '[]');
        return isViews(v) ? v : [];
      } catch {
        return [];
      }
    },
  });
  const now = Object.fromEntries(Object.entries(search).filter((e): e is [string, string] => Boolean(e[1])));
  const some = Object.keys(now).length > 0;
  if (views.length === 0 && !some) return null;
  return (
    <Group gap="xs" mb="md" role="group" aria-label={t.views.title}>
      {views.map((v) => (
        <Group gap={0} key={v.name} wrap="nowrap">
          <Button size="compact-sm" variant="light" leftSection={<IconBookmark size={14} aria-hidden />} onClick={() => onOpen(v.search)}>
            {v.name}
          </Button>
          <ActionIcon
            size="sm"
            variant="subtle"
            color="gray"
            aria-label={t.views.remove(v.name)}
            onClick={() => setViews(views.filter((x) => x.name !== v.name))}
          >
            <IconX size={14} aria-hidden />
          </ActionIcon>
        </Group>
      ))}
      {some && (
        <Dialog
          button={t.views.keep}
          buttonProps={{ size: 'compact-sm', variant: 'subtle' }}
          title={t.views.keep}
          go={t.save}
          ready={name.trim() !== ''}
          act={() => {
            setViews([...views.filter((v) => v.name !== name.trim()), { name: name.trim(), search: now }]);
            return Promise.resolve();
          }}
          after={() => setName('')}
        >
          <TextInput label={t.views.name} description={t.views.help} value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus />
        </Dialog>
      )}
    </Group>
  );
}
