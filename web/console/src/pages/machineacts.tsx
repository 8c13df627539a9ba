// SPDX-License-Identifier: Apache-2.0
import { Group, NativeSelect, Switch, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { tiers } from '../api/queries';
import { useT } from '../i18n';
import { Dialog, Help } from '../ui/act';

// MachineActions are what can be done to a machine.
export function MachineActions({ m }: { m: Schemas['Machine'] }) {
  const t = useT();
  const navigate = useNavigate();
  const [tier, setTier] = useState(m.tier);
  const [group, setGroup] = useState(m.group ?? '');
  const [hold, setHold] = useState(m.hold ?? false);
  const known = useQuery(tiers).data?.items ?? [];
  return (
    <Group gap="xs">
      <Dialog
        button={t.machine.change}
        title={t.machine.changeTitle(m.hostname)}
        go={t.save}
        done={t.machine.changed}
        ready={tier !== m.tier || group.trim() !== (m.group ?? '') || hold !== (m.hold ?? false)}
        onOpen={() => {
          setTier(m.tier);
          setGroup(m.group ?? '');
          setHold(m.hold ?? false);
        }}
        act={() =>
          ask(
            api.PATCH('/v1/machines/{id}', {
              params: { path: { id: m.id } },
              body: {
                ...(tier !== m.tier ? { tier } : {}),
                ...(group.trim() !== (m.group ?? '') ? { group: group.trim() } : {}),
                ...(hold !== (m.hold ?? false) ? { hold } : {}),
              },
            }),
          )
        }
      >
        <NativeSelect
          label={t.machine.tier}
          description={t.machine.tierHelp}
          value={tier}
          onChange={(e) => setTier(e.currentTarget.value)}
          data={known.map((x) => x.name)}
        />
        <TextInput label={t.machine.group} description={t.machine.groupHelp} value={group} onChange={(e) => setGroup(e.currentTarget.value)} />
        <Switch label={t.machine.hold} description={t.machine.holdHelp} checked={hold} onChange={(e) => setHold(e.currentTarget.checked)} />
      </Dialog>
      <Dialog
        button={t.machine.remove}
        danger
        title={t.machine.removeTitle(m.hostname)}
        go={t.machine.remove}
        done={t.machine.removed}
        act={() => ask(api.DELETE('/v1/machines/{id}', { params: { path: { id: m.id } } }))}
        after={() => navigate({ to: '/machines' })}
      >
        <Help>{t.machine.removeHelp}</Help>
      </Dialog>
    </Group>
  );
}
