// SPDX-License-Identifier: Apache-2.0
import { Checkbox, NativeSelect, Switch, Text } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { livePatches, tiers } from '../api/queries';
import { rolloutPreview } from '../api/rollouts';
import { count, duration } from '../format';
import { useT, word } from '../i18n';
import { Dialog } from '../ui/act';
import { Failure } from '../ui/states';
import { PlanFields, planOfChoice, usualPlan, wrongLimit, type PlanChoice } from './planfields';
import { Waves } from './waves';

type Plan = Schemas['RolloutPlan'];

interface Fields extends PlanChoice {
  livepatch: string;
  tier: string;
  own: boolean;
}

function planOf(f: Fields): Plan | undefined {
  if (f.own) return planOfChoice(f);
  return f.emergency || f.revert ? { ...(f.emergency ? { emergency: true } : {}), ...(f.revert ? { revert: true } : {}) } : undefined;
}

// NewRollout takes a live patch through a tier: with what that would mean,
// while it is being decided.
export function NewRollout({ livepatch }: { livepatch?: Schemas['LivePatch'] }) {
  const t = useT();
  const navigate = useNavigate();
  const [open, setOpen] = useState(false);
  const allTiers = useQuery({ ...tiers, enabled: open }).data?.items ?? [];
  const patches = useQuery({ ...livePatches({ limit: 200 }), enabled: open && !livepatch }).data?.items ?? [];
  const fresh = (): Fields => ({
    livepatch: livepatch?.id ?? '', tier: livepatch?.tiers?.at(-1) ?? '', own: false, ...usualPlan(),
  });
  const [f, setF] = useState<Fields>(fresh);
  const set = (p: Partial<Fields>) => setF((old) => ({ ...old, ...p }));
  const choices = patches.filter((p) => !p.blocked);
  const chosen = livepatch ?? choices.find((p) => p.id === f.livepatch) ?? choices[0];
  const tier = f.tier || chosen?.tiers?.at(-1) || allTiers[0]?.name || '';
  const plan = planOf(f);
  const body: Schemas['NewRollout'] = { livepatch: chosen?.id ?? '', tier, ...(plan ? { plan } : {}) };
  const [asked] = useDebouncedValue(JSON.stringify(body), 300);
  const now = JSON.stringify(body);
  const question = JSON.parse(asked) as Schemas['NewRollout']; // a moment behind body
  const preview = useQuery({ ...rolloutPreview(question), enabled: open && question.livepatch !== '' && question.tier !== '' });
  const shown = asked === now && preview.data !== undefined && !preview.isPlaceholderData && !preview.isError; // what is begun was seen
  return (
    <Dialog
      button={livepatch ? t.rollouts.rollOut : t.rollouts.make}
      buttonProps={{ variant: 'filled' }}
      title={livepatch ? t.rollouts.makeTitle(livepatch.id) : t.rollouts.make}
      size="xl"
      go={t.rollouts.go}
      done={t.rollouts.made}
      ready={shown && !preview.data?.running && (!f.own || wrongLimit(f) === '')}
      onOpen={() => {
        setOpen(true);
        setF(fresh());
      }}
      onClose={() => setOpen(false)}
      approval={{ action: 'promote-stable', object: body.livepatch, tier }}
      act={(approval) => ask(api.POST('/v1/rollouts', { params: approval ? { query: { approval } } : {}, body }))}
      after={(r) => navigate({ to: '/rollouts/$id', params: { id: r.id } })}
    >
      {!livepatch && (
        <NativeSelect
          label={t.rollouts.livePatch}
          value={chosen?.id ?? ''}
          onChange={(e) => set({ livepatch: e.currentTarget.value, tier: '' })}
          data={choices.map((p) => ({ value: p.id, label: `${p.id} (${(p.tiers ?? []).join(', ')})` }))}
        />
      )}
      <NativeSelect
        label={t.machine.tier}
        description={t.rollouts.tierHelp}
        value={tier}
        onChange={(e) => set({ tier: e.currentTarget.value })}
        data={allTiers.map((x) => ({ value: x.name, label: `${x.name} (${t.livePatch.tierMachines(count(x.machines))})` }))}
      />
      <Switch label={t.rollouts.ownPlan} description={t.rollouts.ownPlanHelp} checked={f.own} onChange={(e) => set({ own: e.currentTarget.checked })} />
      {f.own && <PlanFields f={f} set={set} />}
      <Checkbox label={t.rollouts.revertHelp} checked={f.revert} onChange={(e) => set({ revert: e.currentTarget.checked })} />
      <Checkbox label={t.rollouts.emergencyHelp} checked={f.emergency} onChange={(e) => set({ emergency: e.currentTarget.checked })} />
      <section className="preview" aria-label={t.rollouts.preview} aria-live="polite" aria-busy={!shown}>
        <Text fw={600} size="sm">
          {t.rollouts.preview}
        </Text>
        {preview.isError && <Failure error={preview.error} />}
        {preview.data && !preview.isError && (
          <div style={shown ? undefined : { opacity: 0.55 }}>
            <Preview p={preview.data} />
          </div>
        )}
      </section>
    </Dialog>
  );
}

function Preview({ p }: { p: Schemas['RolloutPreview'] }) {
  const t = useT();
  const bars = Object.entries(p.bars).filter(([, n]) => n > 0);
  return (
    <>
      {p.running && (
        <Text size="sm" c="red">
          {t.rollouts.alreadyRuns}
        </Text>
      )}
      <Text size="sm">
        {t.rollouts.needIt(count(p.machines))} {t.rollouts.haveIt(count(p.have))} {p.soaks > 0 && t.rollouts.takes(duration(p.soaks))} {p.promotes && t.rollouts.promotes}
      </Text>
      {bars.length > 0 && (
        <Text size="sm" c="dimmed">
          {t.rollouts.barred} {bars.map(([k, n]) => `${word(t.bar, k)} ${count(n)}`).join(' · ')}
        </Text>
      )}
      <Waves waves={p.waves ?? []} />
    </>
  );
}
