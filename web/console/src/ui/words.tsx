// SPDX-License-Identifier: Apache-2.0
import { Badge, Code, Group } from '@mantine/core';
import {
  IconAlertOctagon, IconArrowBackUp, IconCircleCheck, IconCircleDashed, IconCircleX, IconClock, IconHandStop, IconLoader2, IconPlugOff, IconShieldCheck, IconShieldX, IconUserX,
  type Icon,
} from '@tabler/icons-react';
import type { ReactNode } from 'react';
import { ago, dateTime } from '../format';
import { useLanguage, useT, word } from '../i18n';

// What a state is, is said by a word and a mark; the colour only helps.
const looks: Record<string, [string, Icon]> = {
  protected: ['teal', IconShieldCheck],
  outdated: ['yellow', IconClock],
  unprotected: ['orange', IconShieldX],
  'not-covered': ['gray', IconCircleDashed],
  failing: ['red', IconAlertOctagon],
  silent: ['grape', IconPlugOff],
  gone: ['gray', IconUserX],
  queued: ['gray', IconClock],
  running: ['blue', IconLoader2],
  done: ['teal', IconCircleCheck],
  failed: ['red', IconCircleX],
  cancelled: ['gray', IconCircleDashed],
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
export const JobState = ({ of }: { of: string }) => <Mark state={of} text={word(useT().jobState, of)} />;
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

export function Time({ at, never }: { at?: number | undefined; never?: string }) {
  useLanguage(); // written anew when it changes
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
