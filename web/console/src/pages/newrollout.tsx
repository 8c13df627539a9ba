// SPDX-License-Identifier: Apache-2.0
import { ActionIcon, Button, Checkbox, NativeSelect, Switch, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { IconX } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { livePatches, tiers } from '../api/queries';
import { rolloutPreview } from '../api/rollouts';
import { count, duration } from '../format';
import { useT, word } from '../i18n';
import { Dialog, Help } from '../ui/act';
import { Failure } from '../ui/states';
import { Waves } from './waves';

type Plan = Schemas['RolloutPlan'];

interface Fields {
  livepatch: string;
  tier: string;
  own: boolean;
  waves: readonly { upto: string; soak: string }[];
  inFlight: string;
  settle: string;
  crashes: [string, string]; // count, percent
  failures: [string, string];
  windows: string;
  timezone: string;
  revert: boolean;
  emergency: boolean;
}

const usual: Pick<Fields, 'waves' | 'inFlight' | 'settle' | 'crashes' | 'failures'> = {
  waves: [
    { upto: '5', soak: '1h' },
    { upto: '1%', soak: '4h' },
    { upto: '10%', soak: '1d' },
    { upto: '50%', soak: '1d' },
    { upto: '100%', soak: '' },
  ],
  inFlight: '5%',
  settle: '15m',
  crashes: ['0', '0.05'],
  failures: ['2', '2'],
};

function planOf(f: Fields): Plan | undefined {
  const limit = ([n, p]: [string, string]) => ({ count: Math.max(0, Math.trunc(Number(n) || 0)), percent: Math.max(0, Number(p) || 0) });
  if (!f.own) return f.emergency || f.revert ? { ...(f.emergency ? { emergency: true } : {}), ...(f.revert ? { revert: true } : {}) } : undefined;
  const windows = f.windows.split(/[,;\n]/).map((w) => w.trim()).filter(Boolean);
  return {
    waves: f.waves.filter((w) => w.upto.trim() !== '').map((w) => ({ upto: w.upto.trim(), ...(w.soak.trim() ? { soak: w.soak.trim() } : {}) })),
    ...(f.inFlight.trim() ? { max_in_flight: f.inFlight.trim() } : {}),
    ...(f.settle.trim() ? { settle: f.settle.trim() } : {}),
    budget: { crashes: limit(f.crashes), failures: limit(f.failures) },
    ...(windows.length > 0 ? { windows, ...(f.timezone.trim() ? { timezone: f.timezone.trim() } : {}) } : {}),
    ...(f.revert ? { revert: true } : {}),
    ...(f.emergency ? { emergency: true } : {}),
  };
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
    livepatch: livepatch?.id ?? '', tier: livepatch?.tiers?.at(-1) ?? '', own: false, windows: '', revert: false, emergency: false,
    timezone: Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC', ...usual,
  });
  const [f, setF] = useState<Fields>(fresh);
  const set = (p: Partial<Fields>) => setF((old) => ({ ...old, ...p }));
  const choices = patches.filter((p) => !p.blocked);
  const chosen = livepatch ?? choices.find((p) => p.id === f.livepatch) ?? choices[0];
  const tier = f.tier || chosen?.tiers?.at(-1) || allTiers[0]?.name || '';
  const plan = planOf(f);
  const body: Schemas['NewRollout'] = { livepatch: chosen?.id ?? '', tier, ...(plan ? { plan } : {}) };
  const [asked] = useDebouncedValue(JSON.stringify(body), 300);
  const question = JSON.parse(asked) as Schemas['NewRollout']; // a moment behind body
  const preview = useQuery({ ...rolloutPreview(question), enabled: open && question.livepatch !== '' && question.tier !== '' });
  return (
    <Dialog
      button={livepatch ? t.rollouts.rollOut : t.rollouts.make}
      buttonProps={{ variant: 'filled' }}
      title={livepatch ? t.rollouts.makeTitle(livepatch.id) : t.rollouts.make}
      size="xl"
      go={t.rollouts.go}
      done={t.rollouts.made}
      ready={body.livepatch !== '' && tier !== '' && !preview.isError && preview.data !== undefined && !preview.data.running}
      onOpen={() => {
        setOpen(true);
        setF(fresh());
      }}
      approval={{ action: 'promote-stable', object: body.livepatch, tier }}
      act={(approval) => ask(api.POST('/v1/rollouts', { params: approval ? { query: { approval } } : {}, body }))}
      after={(r) => void navigate({ to: '/rollouts/$id', params: { id: r.id } })}
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
      <section className="preview" aria-label={t.rollouts.preview} aria-live="polite">
        <Text fw={600} size="sm">
          {t.rollouts.preview}
        </Text>
        {preview.isError && <Failure error={preview.error} />}
        {preview.data && !preview.isError && <Preview p={preview.data} />}
      </section>
    </Dialog>
  );
}

function PlanFields({ f, set }: { f: Fields; set: (p: Partial<Fields>) => void }) {
  const t = useT();
  const wave = (i: number, p: Partial<Fields['waves'][number]>) => set({ waves: f.waves.map((w, j) => (j === i ? { ...w, ...p } : w)) });
  const pair = (name: string, key: 'crashes' | 'failures') => (
    <div className="grant">
      <span className="grow">{name}</span>
      <TextInput w={90} aria-label={`${name}: ${t.rollouts.countOf}`} inputMode="numeric" value={f[key][0]} onChange={(e) => set({ [key]: [e.currentTarget.value, f[key][1]] })} rightSection={<span className="dim">#</span>} />
      <TextInput w={110} aria-label={`${name}: ${t.rollouts.percentOf}`} inputMode="decimal" value={f[key][1]} onChange={(e) => set({ [key]: [f[key][0], e.currentTarget.value] })} rightSection={<span className="dim">%</span>} />
    </div>
  );
  return (
    <>
      <fieldset className="choices">
        <legend>{t.rollouts.waves}</legend>
        <Help>{t.rollouts.wavesHelp}</Help>
        {f.waves.map((w, i) => (
          <div key={i} className="grant">
            <span className="wave-number">{t.rollouts.waveName(count(i + 1))}</span>
            <TextInput w={110} aria-label={`${t.rollouts.uptoLabel} ${i + 1}`} value={w.upto} onChange={(e) => wave(i, { upto: e.currentTarget.value })} placeholder="10%" maxLength={20} />
            <TextInput w={110} aria-label={`${t.rollouts.soakLabel} ${i + 1}`} value={w.soak} onChange={(e) => wave(i, { soak: e.currentTarget.value })} placeholder="4h" maxLength={20} />
            <ActionIcon variant="subtle" color="gray" size="lg" aria-label={`${t.remove}: ${t.rollouts.waveName(count(i + 1))}`} disabled={f.waves.length < 2} onClick={() => set({ waves: f.waves.filter((_, j) => j !== i) })}>
              <IconX size={16} aria-hidden />
            </ActionIcon>
          </div>
        ))}
        <Button size="xs" variant="default" onClick={() => set({ waves: [...f.waves, { upto: '100%', soak: '' }] })}>
          {t.rollouts.addWave}
        </Button>
      </fieldset>
      <fieldset className="choices">
        <legend>{t.rollouts.budget}</legend>
        <Help>{t.rollouts.budgetHelp}</Help>
        {pair(t.rollouts.mayCrash, 'crashes')}
        {pair(t.rollouts.mayFail, 'failures')}
      </fieldset>
      <div className="columns">
        <TextInput label={t.rollouts.maxInFlight} description={t.rollouts.maxInFlightHelp} value={f.inFlight} onChange={(e) => set({ inFlight: e.currentTarget.value })} maxLength={20} />
        <TextInput label={t.rollouts.settle} description={t.rollouts.settleHelp} value={f.settle} onChange={(e) => set({ settle: e.currentTarget.value })} maxLength={20} />
        <TextInput label={t.rollouts.windows} description={t.rollouts.windowsHelp} value={f.windows} onChange={(e) => set({ windows: e.currentTarget.value })} placeholder="Mon-Fri 22:00-04:00" maxLength={500} />
        <TextInput label={t.rollouts.timezone} value={f.timezone} onChange={(e) => set({ timezone: e.currentTarget.value })} maxLength={64} />
      </div>
    </>
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
