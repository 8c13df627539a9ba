// SPDX-License-Identifier: Apache-2.0
import { ActionIcon, Button, TextInput } from '@mantine/core';
import { IconX } from '@tabler/icons-react';
import type { Schemas } from '../api/client';
import { count } from '../format';
import { useT } from '../i18n';
import { Help } from '../ui/act';

type Plan = Schemas['RolloutPlan'];

// PlanChoice is a plan as it is typed.
export interface PlanChoice {
  waves: readonly { upto: string; soak: string }[];
  inFlight: string;
  settle: string;
  crashes: readonly [string, string]; // count, percent
  failures: readonly [string, string];
  windows: string;
  timezone: string;
  revert: boolean;
  emergency: boolean;
}

export const hereZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';

// usualPlan is what the server does without a plan.
export const usualPlan = (): PlanChoice => ({
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
  windows: '',
  timezone: hereZone(),
  revert: false,
  emergency: false,
});

// choiceOfPlan is a plan in the fields; what it leaves out is as usual.
export function choiceOfPlan(p: Plan): PlanChoice {
  const usual = usualPlan();
  const limit = (l: Schemas['RolloutLimit'] | undefined, or: readonly [string, string]) => (l ? ([String(l.count), String(l.percent ?? 0)] as const) : or);
  return {
    waves: p.waves?.map((w) => ({ upto: w.upto, soak: w.soak ?? '' })) ?? usual.waves,
    inFlight: p.max_in_flight ?? usual.inFlight,
    settle: p.settle ?? usual.settle,
    crashes: limit(p.budget?.crashes, usual.crashes),
    failures: limit(p.budget?.failures, usual.failures),
    windows: p.windows?.join(', ') ?? '',
    timezone: p.timezone ?? usual.timezone,
    revert: p.revert ?? false,
    emergency: p.emergency ?? false,
  };
}

export const windowsOf = (text: string) => text.split(/[,;\n]/).map((w) => w.trim()).filter(Boolean);

// planOfChoice is what was typed; of an old plan it keeps what has no field.
export function planOfChoice(f: PlanChoice, old: Plan = {}): Plan {
  const limit = ([n, p]: readonly [string, string]) => ({ count: Math.max(0, Math.trunc(Number(n) || 0)), percent: Math.max(0, Number(p) || 0) });
  const { max_in_flight: _i, settle: _s, windows: _w, timezone: _t, revert: _r, emergency: _e, ...rest } = old;
  const windows = windowsOf(f.windows);
  const zoned = windows.length > 0 || (rest.freezes?.length ?? 0) > 0;
  return {
    ...rest,
    waves: f.waves.filter((w) => w.upto.trim() !== '').map((w) => ({ upto: w.upto.trim(), ...(w.soak.trim() ? { soak: w.soak.trim() } : {}) })),
    ...(f.inFlight.trim() ? { max_in_flight: f.inFlight.trim() } : {}),
    ...(f.settle.trim() ? { settle: f.settle.trim() } : {}),
    budget: { crashes: limit(f.crashes), failures: limit(f.failures) },
    ...(windows.length > 0 ? { windows } : {}),
    ...(zoned && f.timezone.trim() ? { timezone: f.timezone.trim() } : {}),
    ...(f.revert ? { revert: true } : {}),
    ...(f.emergency ? { emergency: true } : {}),
  };
}

// wrongLimit is the limit of the budget that is no number: one that somebody
// mistyped must not be taken for none. '': all are.
export function wrongLimit(f: PlanChoice): string {
  for (const key of ['crashes', 'failures'] as const) {
    const [n, share] = f[key];
    if (!/^\d*$/.test(n.trim())) return `${key} count`;
    if (!/^(\d+(\.\d+)?)?$/.test(share.trim())) return `${key} percent`;
  }
  return '';
}

// PlanFields are the fields of a plan: waves, budget, and when.
export function PlanFields({ f, set }: { f: PlanChoice; set: (p: Partial<PlanChoice>) => void }) {
  const t = useT();
  const wave = (i: number, p: Partial<PlanChoice['waves'][number]>) => set({ waves: f.waves.map((w, j) => (j === i ? { ...w, ...p } : w)) });
  const wrong = wrongLimit(f);
  const pair = (name: string, key: 'crashes' | 'failures') => (
    <div className="grant">
      <span className="grow">{name}</span>
      <TextInput w={90} aria-label={`${name}: ${t.rollouts.countOf}`} inputMode="numeric" value={f[key][0]} error={wrong === `${key} count`} onChange={(e) => set({ [key]: [e.currentTarget.value, f[key][1]] })} rightSection={<span className="dim">#</span>} />
      <TextInput w={110} aria-label={`${name}: ${t.rollouts.percentOf}`} inputMode="decimal" value={f[key][1]} error={wrong === `${key} percent`} onChange={(e) => set({ [key]: [f[key][0], e.currentTarget.value] })} rightSection={<span className="dim">%</span>} />
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
