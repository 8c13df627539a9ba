// SPDX-License-Identifier: Apache-2.0
import { Checkbox, NativeSelect, Switch, TextInput } from '@mantine/core';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { useT, word } from '../i18n';
import { Dialog, Help } from '../ui/act';
import { KindWord } from './notifications';

const severities = ['info', 'warning', 'urgent'] as const;
const every = ['', 'hour', 'day', 'week'] as const;

interface Fields {
  name: string;
  type: 'webhook' | 'email';
  to: string;
  kinds: readonly string[];
  least: (typeof severities)[number];
  groups: string;
  digest: (typeof every)[number];
  at: string;
  weekday: string;
  zone: string;
  paused: boolean;
}

const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';

function fieldsOf(c: Schemas['Channel'] | undefined, email: boolean): Fields {
  return {
    name: c?.name ?? '',
    type: c?.type ?? (email ? 'email' : 'webhook'),
    to: (c?.to ?? []).join(' '),
    kinds: c?.kinds ?? [],
    least: c?.least ?? 'info',
    groups: (c?.groups ?? []).join(' '),
    digest: c?.digest?.every ?? '',
    at: c?.digest?.at ?? '09:00',
    weekday: String(c?.digest?.weekday ?? 1),
    zone: c?.digest?.zone ?? zone(),
    paused: c?.paused ?? false,
  };
}

const words = (s: string) => s.split(/[\s,]+/).filter(Boolean);

// ChannelDialog makes a channel, or changes one.
export function ChannelDialog({ info, channel, onSecret }: { info: Schemas['Notifications']; channel?: Schemas['Channel']; onSecret: (s: string) => void }) {
  const t = useT();
  const [f, setF] = useState<Fields>(() => fieldsOf(channel, info.email));
  const set = (p: Partial<Fields>) => setF((old) => ({ ...old, ...p }));
  const title = channel ? t.notifications.changeTitle(channel.name) : t.notifications.make;
  const body = (): Schemas['ChannelSettings'] => ({
    name: f.name.trim(),
    type: f.type,
    to: words(f.to),
    ...(f.kinds.length > 0 ? { kinds: [...f.kinds] } : {}),
    ...(f.least === 'info' ? {} : { least: f.least }),
    ...(words(f.groups).length > 0 ? { groups: words(f.groups) } : {}),
    ...(f.digest === ''
      ? {}
      : {
          digest: {
            every: f.digest,
            ...(f.digest === 'hour' ? {} : { at: f.at, zone: f.zone }),
            ...(f.digest === 'week' ? { weekday: Number(f.weekday) } : {}),
          },
        }),
    ...(channel?.repeat ? { repeat: channel.repeat } : {}),
    ...(channel?.per_hour ? { per_hour: channel.per_hour } : {}),
    ...(f.paused ? { paused: true } : {}),
  });
  return (
    <Dialog
      button={channel ? t.notifications.change : t.notifications.make}
      buttonProps={channel ? { size: 'xs', 'aria-label': `${t.notifications.change}: ${channel.name}` } : {}}
      title={title}
      go={channel ? t.save : t.notifications.make}
      done={channel ? t.notifications.changed : t.notifications.nowMade}
      ready={f.name.trim() !== '' && words(f.to).length > 0}
      onOpen={() => setF(fieldsOf(channel, info.email))}
      act={async () => {
        if (channel) {
          await ask(api.PUT('/v1/notifications/channels/{id}', { params: { path: { id: channel.id } }, body: body() }));
          return '';
        }
        return (await ask(api.POST('/v1/notifications/channels', { body: body() }))).secret ?? '';
      }}
      after={onSecret}
    >
      <TextInput label={t.notifications.name} required value={f.name} onChange={(e) => set({ name: e.currentTarget.value })} data-autofocus maxLength={100} autoComplete="off" />
      {!channel && (
        <NativeSelect
          label={t.notifications.type}
          value={f.type}
          onChange={(e) => set({ type: e.currentTarget.value === 'email' ? 'email' : 'webhook', to: '' })}
          data={[
            { value: 'email', label: t.channelType.email, disabled: !info.email },
            { value: 'webhook', label: t.channelType.webhook },
          ]}
        />
      )}
      {f.type === 'webhook' ? (
        <TextInput label={t.notifications.url} description={t.notifications.urlHelp} type="url" required value={f.to} onChange={(e) => set({ to: e.currentTarget.value })} maxLength={2000} placeholder="https://" autoComplete="off" />
      ) : (
        <TextInput label={t.notifications.addresses} description={t.notifications.addressesHelp} required value={f.to} onChange={(e) => set({ to: e.currentTarget.value })} maxLength={2000} autoComplete="off" />
      )}
      <NativeSelect
        label={t.notifications.least}
        value={f.least}
        onChange={(e) => set({ least: severities.find((s) => s === e.currentTarget.value) ?? 'info' })}
        data={severities.map((s) => ({ value: s, label: word(t.notificationSeverity, s) }))}
      />
      <fieldset className="choices">
        <legend>{t.notifications.tells}</legend>
        <Help>{t.notifications.tellsHelp}</Help>
        <div className="columns">
          {(info.kinds ?? []).filter((k) => k.kind !== 'test').map((k) => (
            <Checkbox
              key={k.kind}
              label={<KindWord k={k} />}
              checked={f.kinds.includes(k.kind)}
              onChange={(e) => set({ kinds: e.currentTarget.checked ? [...f.kinds, k.kind] : f.kinds.filter((x) => x !== k.kind) })}
            />
          ))}
        </div>
        {f.kinds.some((k) => k.includes('*')) && <div className="dim">{f.kinds.filter((k) => k.includes('*')).join(', ')}</div>}
      </fieldset>
      <TextInput label={t.users.groups} description={t.notifications.groupsHelp} value={f.groups} onChange={(e) => set({ groups: e.currentTarget.value })} maxLength={2000} autoComplete="off" />
      <NativeSelect
        label={t.notifications.digest}
        description={t.notifications.digestHelp}
        value={f.digest}
        onChange={(e) => set({ digest: every.find((x) => x === e.currentTarget.value) ?? '' })}
        data={every.map((x) => ({ value: x, label: x === '' ? t.notifications.atOnce : word(t.digestEvery, x) }))}
      />
      {(f.digest === 'day' || f.digest === 'week') && (
        <div className="grant">
          {f.digest === 'week' && (
            <NativeSelect
              aria-label={t.notifications.weekday}
              value={f.weekday}
              onChange={(e) => set({ weekday: e.currentTarget.value })}
              data={t.weekdays.split(' ').map((d, i) => ({ value: String(i), label: d }))}
            />
          )}
          <TextInput type="time" aria-label={t.notifications.at} value={f.at} onChange={(e) => set({ at: e.currentTarget.value })} />
          <TextInput aria-label={t.notifications.zone} value={f.zone} onChange={(e) => set({ zone: e.currentTarget.value })} maxLength={64} />
        </div>
      )}
      {channel && <Switch label={t.notifications.pause} description={t.notifications.pauseHelp} checked={f.paused} onChange={(e) => set({ paused: e.currentTarget.checked })} />}
    </Dialog>
  );
}
