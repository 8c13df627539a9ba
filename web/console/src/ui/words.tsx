// SPDX-License-Identifier: Apache-2.0
import { Badge, Code, Group } from '@mantine/core';
import {
  IconAlertOctagon, IconArrowBackUp, IconCircleCheck, IconCircleDashed, IconCircleX, IconClock, IconHandStop, IconLoader2, IconPlugOff, IconShieldCheck, IconShieldX, IconUserX,
  type Icon,
} from '@tabler/icons-react';
import { useEffect, useState, useSyncExternalStore, type ReactNode } from 'react';
import type { Schemas } from '../api/client';
import { ago, dateTime, duration } from '../format';
import { useLanguage, useT, word } from '../i18n';

// What a state is, is said by a word and a mark; the colour only helps.
const looks: Record<string, [string, Icon]> = {
  protected: ['teal', IconShieldCheck],
  outdated: ['yellow', IconClock],
  unprotected: ['orange', IconShieldX],
  'not-covered': ['gray', IconCircleDashed],
  partly: ['yellow', IconClock],
  failing: ['red', IconAlertOctagon],
  silent: ['grape', IconPlugOff],
  gone: ['gray', IconUserX],
  queued: ['gray', IconClock],
  running: ['blue', IconLoader2],
  done: ['teal', IconCircleCheck],
  failed: ['red', IconCircleX],
  cancelled: ['gray', IconCircleDashed],
  cancelling: ['yellow', IconClock],
  published: ['teal', IconCircleCheck],
  building: ['blue', IconLoader2],
  blocked: ['red', IconAlertOctagon],
  empty: ['gray', IconCircleDashed],
  pending: ['gray', IconClock],
  healthy: ['teal', IconCircleCheck],
  applied: ['teal', IconCircleCheck],
  quarantined: ['red', IconAlertOctagon],
  reverted: ['orange', IconCircleX],
  crash: ['red', IconAlertOctagon],
  halted: ['red', IconHandStop],
  aborted: ['gray', IconCircleX],
  reverting: ['orange', IconArrowBackUp],
  well: ['teal', IconCircleCheck],
  begun: ['blue', IconLoader2],
  offered: ['grape', IconClock],
  withdrawn: ['gray', IconArrowBackUp],
  late: ['yellow', IconClock],
  left: ['gray', IconCircleDashed],
};

export function colorOf(state: string): string {
  return looks[state]?.[0] ?? 'gray';
}

function Mark({ state, text }: { state: string; text: string }) {
  const [color, Sign] = looks[state] ?? ['gray', undefined];
  return (
    <span className="mark" data-color={color}>
      {Sign && <Sign size={16} aria-hidden />}
      {text}
    </span>
  );
}

export const Protection = ({ of }: { of: string }) => <Mark state={of} text={word(useT().protection, of)} />;
// A build that is cancelled runs on until its worker hears of it.
export const JobState = ({ of }: { of: Pick<Schemas['Job'], 'state' | 'cancelling'> }) => {
  const state = of.cancelling ? 'cancelling' : of.state;
  return <Mark state={state} text={word(useT().jobState, state)} />;
};
export const ChoiceState = ({ of }: { of: string }) => <Mark state={of} text={word(useT().choiceState, of)} />;
export const PatchState = ({ of }: { of: string }) => <Mark state={of} text={word(useT().patchState, of)} />;
export const Phase = ({ of }: { of: string }) => <Mark state={of} text={word(useT().phase, of)} />;
export const MachineStatus = ({ of }: { of: string }) => <Mark state={of} text={word(useT().machineStatus, of)} />;
export const ReportKind = ({ of }: { of: string }) => <Mark state={of} text={word(useT().reportKind, of)} />;

const severities: Record<string, string> = { exploited: 'red', critical: 'red', high: 'orange', medium: 'yellow', low: 'blue' };

export function Severity({ of, exploited }: { of?: string | undefined; exploited?: boolean | undefined }) {
  const t = useT();
  const s = of || 'unknown';
  return (
    <Group gap={4} wrap="nowrap" className="inline">
      <Badge color={severities[s] ?? 'gray'} variant="light" size="sm" className="severity">
        {word(t.severity, s)}
      </Badge>
      {exploited && (
        <Badge color="red" variant="filled" size="sm">
          {t.severity.exploited}
        </Badge>
      )}
    </Group>
  );
}

export const Need = ({ of }: { of: string }) => {
  const t = useT();
  return <span title={word(t.needHelp, of)}>{word(t.need, of)}</span>;
};

// One clock for all times of a page: what was a minute ago is so for a minute only,
// whether or not something else changes.
const ticking = new Set<() => void>();
let ticks = 0;
let clock: ReturnType<typeof setInterval> | undefined;

function tick(l: () => void) {
  ticking.add(l);
  clock ??= setInterval(() => {
    ticks++;
    ticking.forEach((f) => f());
  }, 15_000);
  return () => {
    ticking.delete(l);
    if (ticking.size > 0) return;
    clearInterval(clock);
    clock = undefined;
  };
}

export function Time({ at, never }: { at?: number | undefined; never?: string }) {
  useLanguage(); // written anew when it changes
  useSyncExternalStore(tick, () => ticks);
  if (!at) return <>{never ?? '–'}</>;
  return (
    <time dateTime={new Date(at).toISOString()} title={dateTime(at)}>
      {ago(at)}
    </time>
  );
}

export const Mono = ({ children }: { children: ReactNode }) => <Code className="mono">{children}</Code>;
export const Yes = ({ when }: { when: boolean | undefined }) => {
  const t = useT();
  return <>{when ? t.yes : t.no}</>;
};

// Took is how long something took, or has taken so far.
export function Took({ from, to }: { from: number; to?: number | undefined }) {
  useLanguage();
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (to) return undefined;
    const i = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(i);
  }, [to]);
  return <>{duration((to || now) - from)}</>;
}
