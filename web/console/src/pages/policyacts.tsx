// SPDX-License-Identifier: Apache-2.0
import { Group, NativeSelect, Textarea, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { whoami } from '../api/queries';
import { cveOf } from '../cve';
import { useT } from '../i18n';
import { Dialog, Help } from '../ui/act';
import { Fields, ready, textOf, type Text as PolicyText } from './policyfields';
import { Preview } from './preview';

// PolicyActions are what can be done to the policy as a whole.
export function PolicyActions({ p }: { p: Schemas['PolicyInfo'] }) {
  const t = useT();
  const navigate = useNavigate();
  const [text, setText] = useState<PolicyText>(textOf(p));
  const [groups, setGroups] = useState('');
  const [target, setTarget] = useState('');
  const params = { path: { name: p.name } };
  const names = groups.split(/[\s,]+/).filter(Boolean);
  return (
    <Group gap="xs">
      <Dialog
        button={t.policy.edit}
        title={t.policy.editTitle(p.name)}
        size="xl"
        go={t.save}
        done={t.policy.changedNow}
        ready={ready(text)}
        onOpen={() => setText(textOf(p))}
        act={() => ask(api.PUT('/v1/policies/{name}', { params, body: text }))}
      >
        <Fields text={text} onChange={setText} />
        <Preview name={p.name} question={ready(text) ? { policy: text } : undefined} />
      </Dialog>
      <Dialog
        button={t.policy.giveGroups}
        title={t.policy.giveGroupsTitle(p.name)}
        size="xl"
        go={t.save}
        done={t.policy.changedNow}
        ready={names.length > 0}
        onOpen={() => setGroups('')}
        act={() => ask(api.POST('/v1/policies/{name}/groups', { params, body: { groups: names } }))}
      >
        <TextInput label={t.policy.groups} description={t.policy.giveGroupsHelp} required value={groups} onChange={(e) => setGroups(e.currentTarget.value)} data-autofocus />
        <Preview name={p.name} question={names.length > 0 ? { groups: names } : undefined} />
      </Dialog>
      <Dialog
        button={t.policy.rebuild}
        title={t.policy.rebuildTitle(p.name)}
        go={t.policy.rebuild}
        done={t.policy.rebuilt}
        onOpen={() => setTarget('')}
        act={() => ask(api.POST('/v1/policies/{name}/rebuild', { params, body: target ? { target } : {} }))}
      >
        <Help>{t.policy.rebuildHelp}</Help>
        <NativeSelect
          label={t.job.target}
          value={target}
          onChange={(e) => setTarget(e.currentTarget.value)}
          data={[{ value: '', label: t.machines.all }, ...(p.choices ?? []).map((c) => c.target)]}
        />
      </Dialog>
      {p.name !== 'default' && (
        <Dialog
          button={t.remove}
          danger
          title={t.policy.removeTitle(p.name)}
          go={t.remove}
          done={t.policy.removed}
          act={() => ask(api.DELETE('/v1/policies/{name}', { params }))}
          after={() => navigate({ to: '/policies' })}
        >
          <Help>{t.policy.removeHelp}</Help>
        </Dialog>
      )}
    </Group>
  );
}

const days = ['', '7', '14', '30', '90', '365'] as const;

// ExcludeDialog leaves a fix out, and shows what goes with it while it is typed.
export function ExcludeDialog({ p }: { p: Schemas['PolicyInfo'] }) {
  const t = useT();
  const me = useQuery(whoami).data?.name ?? '';
  const [what, setWhat] = useState('');
  const [reason, setReason] = useState('');
  const [owner, setOwner] = useState('');
  const [end, setEnd] = useState<string>('30');
  const name = what.trim();
  const cve = cveOf(name);
  const exclusion = (): Schemas['Exclusion'] => ({
    ...(cve ? { cve } : { fix: name }),
    reason: reason.trim() || '–',
    owner: owner.trim() || me,
    ...(end ? { expires: Date.now() + Number(end) * 86_400_000 } : {}),
  });
  return (
    <Dialog
      button={t.policy.exclude}
      title={t.policy.excludeTitle(p.name)}
      size="xl"
      go={t.policy.exclude}
      done={t.policy.changedNow}
      ready={name !== '' && reason.trim() !== '' && (owner.trim() || me) !== ''}
      onOpen={() => {
        setWhat('');
        setReason('');
        setOwner(me);
        setEnd('30');
      }}
      act={() => ask(api.POST('/v1/policies/{name}/exclude', { params: { path: { name: p.name } }, body: { exclusions: [exclusion()] } }))}
    >
      <Help>{t.policy.excludeHelp}</Help>
      <TextInput label={t.policy.what} placeholder="CVE-2026-31431" required value={what} onChange={(e) => setWhat(e.currentTarget.value)} data-autofocus spellCheck={false} />
      <Textarea label={t.reason} required value={reason} onChange={(e) => setReason(e.currentTarget.value)} maxLength={1000} />
      <Group grow align="flex-start">
        <TextInput label={t.policy.owner} value={owner} onChange={(e) => setOwner(e.currentTarget.value)} />
        <NativeSelect
          label={t.policy.until}
          value={end}
          onChange={(e) => setEnd(e.currentTarget.value)}
          data={days.map((d) => ({ value: d, label: d === '' ? t.policy.forever : t.policy.inDays(Number(d)) }))}
        />
      </Group>
      <Preview name={p.name} question={name === '' ? undefined : { exclude: [{ ...(cve ? { cve } : { fix: name }), reason: '–', owner: me || '–' }] }} />
    </Dialog>
  );
}

// IncludeDialog takes back what was excluded.
export function IncludeDialog({ p, name }: { p: Schemas['PolicyInfo']; name: string }) {
  const t = useT();
  return (
    <Dialog
      button={t.policy.include}
      buttonProps={{ size: 'xs', 'aria-label': `${t.policy.include}: ${name}` }}
      title={t.policy.includeTitle(name, p.name)}
      size="xl"
      go={t.policy.include}
      done={t.policy.changedNow}
      act={() => ask(api.POST('/v1/policies/{name}/include', { params: { path: { name: p.name } }, body: { names: [name] } }))}
    >
      <Preview name={p.name} question={{ include: [name] }} />
    </Dialog>
  );
}
