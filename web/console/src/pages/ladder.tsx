// SPDX-License-Identifier: Apache-2.0
import { ActionIcon, Button, Switch, TextInput } from '@mantine/core';
import { IconX } from '@tabler/icons-react';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { count, localInput } from '../format';
import { useT } from '../i18n';
import { Dialog, Help, NumberField } from '../ui/act';
import { choiceOfPlan, hereZone, PlanFields, planOfChoice, usualPlan, windowsOf, wrongLimit, type PlanChoice } from './planfields';

type Settings = Schemas['RolloutSettings'];
type Plan = Schemas['RolloutPlan'];

interface Row {
  name: string;
  only: boolean;
  auto: boolean;
  soak: string;
  well: number | '';
  plan: PlanChoice | undefined; // undefined: the usual one
  before: Plan | undefined;
}

interface Freeze {
  from: string; // as datetime-local has it, of this browser's zone
  to: string;
  reason: string;
}

const whole = (f: Freeze) => f.from !== '' && f.to !== '' && f.reason.trim() !== '';
const iso = (local: string) => new Date(local).toISOString();

// ChangeLadder is how live patches come to the machines of tiers and climb to
// the next, in one dialog: the server takes it as one.
export function ChangeLadder({ tiers, s }: { tiers: readonly Schemas['Tier'][]; s: Settings }) {
  const t = useT();
  const [rows, setRows] = useState<readonly Row[]>([]);
  const [windows, setWindows] = useState('');
  const [timezone, setTimezone] = useState('');
  const [freezes, setFreezes] = useState<readonly Freeze[]>([]);
  const set = (name: string, p: Partial<Row>) => setRows((all) => all.map((r) => (r.name === name ? { ...r, ...p } : r)));
  const freeze = (i: number, p: Partial<Freeze>) => setFreezes((all) => all.map((f, j) => (j === i ? { ...f, ...p } : f)));

  const open = () => {
    setRows(
      tiers.map((x) => {
        const rung = s.ladder.rungs?.find((r) => r.from === x.name);
        const before = s.tiers[x.name]?.plan;
        return {
          name: x.name, only: s.tiers[x.name]?.only ?? false, auto: rung?.auto ?? false, soak: rung?.soak ?? '', well: rung?.well ?? '',
          before, plan: before && choiceOfPlan(before),
        };
      }),
    );
    setWindows(s.ladder.windows?.join(', ') ?? '');
    setTimezone(s.ladder.timezone || hereZone());
    setFreezes((s.ladder.freezes ?? []).map((f) => ({ from: localInput(Date.parse(f.from)), to: localInput(Date.parse(f.to)), reason: f.reason })));
  };

  const body = (): Settings => {
    const { windows: _w, freezes: _f, timezone: _t, ...rest } = s.ladder;
    const when = windowsOf(windows);
    return {
      tiers: Object.fromEntries(rows.map((r) => [r.name, { only: r.only, ...(r.plan ? { plan: planOfChoice(r.plan, r.before) } : {}) }])),
      ladder: {
        ...rest,
        // A rung that was never set and is not wanted now is left out.
        rungs: rows.slice(0, -1).flatMap((r, i) => {
          const old = s.ladder.rungs?.find((x) => x.from === r.name);
          if (!old && !r.auto) return [];
          const { soak: _soak, well: _well, ...kept } = old ?? {};
          return [{ ...kept, from: r.name, to: old?.to ?? rows[i + 1]?.name ?? '', auto: r.auto, ...(r.soak.trim() ? { soak: r.soak.trim() } : {}), ...(r.well === '' ? {} : { well: r.well }) }];
        }),
        ...(when.length > 0 ? { windows: when } : {}),
        ...(timezone.trim() && (when.length > 0 || s.ladder.timezone) ? { timezone: timezone.trim() } : {}),
        ...(freezes.length > 0 ? { freezes: freezes.map((f) => ({ from: iso(f.from), to: iso(f.to), reason: f.reason.trim() })) } : {}),
      },
    };
  };

  return (
    <Dialog
      button={t.rollouts.change}
      title={t.rollouts.ladderTitle}
      size="xl"
      go={t.save}
      done={t.rollouts.changed}
      ready={freezes.every(whole) && rows.every((r) => !r.plan || wrongLimit(r.plan) === '')}
      onOpen={open}
      act={() => ask(api.PUT('/v1/rollout-settings', { body: body() }))}
    >
      <Help>{t.rollouts.onlyByHelp}</Help>
      {rows.map((r, i) => {
        const next = rows[i + 1]?.name;
        const plan = r.plan;
        return (
          <fieldset key={r.name} className="choices">
            <legend>{r.name}</legend>
            <Switch label={t.rollouts.onlyBy} checked={r.only} onChange={(e) => set(r.name, { only: e.currentTarget.checked })} />
            <Switch
              label={t.rollouts.tierPlan}
              description={t.rollouts.tierPlanHelp}
              checked={plan !== undefined}
              onChange={(e) => set(r.name, { plan: e.currentTarget.checked ? (r.before ? choiceOfPlan(r.before) : usualPlan()) : undefined })}
            />
            {plan && <PlanFields f={plan} set={(p) => set(r.name, { plan: { ...plan, ...p } })} />}
            {next && (
              <>
                <Switch label={`${t.rollouts.rung(r.name, next)}: ${t.rollouts.auto}`} checked={r.auto} onChange={(e) => set(r.name, { auto: e.currentTarget.checked })} />
                {r.auto && (
                  <div className="columns">
                    <TextInput label={t.rollouts.soakOf} placeholder="1d" value={r.soak} onChange={(e) => set(r.name, { soak: e.currentTarget.value })} maxLength={20} />
                    <NumberField label={t.rollouts.wellOfRung} min={0} value={r.well} onChange={(well) => set(r.name, { well })} />
                  </div>
                )}
              </>
            )}
          </fieldset>
        );
      })}
      <fieldset className="choices">
        <legend>{t.rollouts.climbWhen}</legend>
        <div className="columns">
          <TextInput label={t.rollouts.climbWindows} description={t.rollouts.climbWindowsHelp} value={windows} onChange={(e) => setWindows(e.currentTarget.value)} placeholder="Mon-Fri 09:00-16:00" maxLength={500} />
          <TextInput label={t.rollouts.timezone} description={t.rollouts.timezoneHelp} value={timezone} onChange={(e) => setTimezone(e.currentTarget.value)} maxLength={64} />
        </div>
        {freezes.map((f, i) => {
          const name = t.rollouts.freezeName(count(i + 1));
          return (
            <div key={i} className="grant" role="group" aria-label={name}>
              <TextInput type="datetime-local" label={t.rollouts.from} value={f.from} onChange={(e) => freeze(i, { from: e.currentTarget.value })} required />
              <TextInput type="datetime-local" label={t.rollouts.to} value={f.to} onChange={(e) => freeze(i, { to: e.currentTarget.value })} required />
              <TextInput className="grow" label={t.rollouts.freezeReason} value={f.reason} onChange={(e) => freeze(i, { reason: e.currentTarget.value })} required maxLength={1000} />
              <ActionIcon variant="subtle" color="gray" size="lg" className="at-field" aria-label={`${t.remove}: ${name}`} onClick={() => setFreezes(freezes.filter((_, j) => j !== i))}>
                <IconX size={16} aria-hidden />
              </ActionIcon>
            </div>
          );
        })}
        <Button size="xs" variant="default" className="own-size" onClick={() => setFreezes([...freezes, { from: '', to: '', reason: '' }])}>
          {t.rollouts.addFreeze}
        </Button>
      </fieldset>
    </Dialog>
  );
}
