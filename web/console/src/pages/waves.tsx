// SPDX-License-Identifier: Apache-2.0
import { Text } from '@mantine/core';
import type { Schemas } from '../api/client';
import { count, percent } from '../format';
import { useLanguage, useT, word } from '../i18n';
import { Time } from '../ui/words';

type Rollout = Schemas['Rollout'];

// Progress is how far a rollout is, in one line.
export function Progress({ r }: { r: Rollout }) {
  const t = useT();
  const h = r.health;
  const failed = Object.values(h.failed).reduce((a, b) => a + b, 0);
  return (
    <div className="progress">
      <div className="bar" aria-hidden>
        <Part n={h.well} color="teal" />
        <Part n={h.begun} color="blue" />
        <Part n={h.offered} color="grape" />
        <Part n={failed} color="red" />
        <Part n={Math.max(0, h.machines - h.well - h.begun - h.offered - failed)} color="" />
      </div>
      <div className="dim">
        {t.rollouts.wellOf(count(h.well), count(h.machines))}
        {failed > 0 && <>, {t.rollouts.failedN(count(failed))}</>}
      </div>
    </div>
  );
}

const Part = ({ n, color }: { n: number; color: string }) => (n > 0 ? <span data-color={color || undefined} style={{ flexGrow: n }} /> : null);

const counted = [
  ['well', 'teal'],
  ['begun', 'blue'],
  ['offered', 'grape'],
  ['failed', 'red'],
  ['late', 'yellow'],
] as const;

// Waves are the waves of a rollout, or of a plan, each with where it stands.
export function Waves({ waves, r }: { waves: readonly Schemas['RolloutProgress'][]; r?: Rollout }) {
  const t = useT();
  useLanguage();
  return (
    <ol className="waves">
      {waves.map((w) => {
        const rest = Math.max(0, w.places - counted.reduce((sum, [k]) => sum + w[k], 0));
        const here = r !== undefined && w.wave === r.wave && (w.state === 'runs' || w.state === 'soaks');
        return (
          <li key={w.wave} data-state={w.state} aria-current={here ? 'step' : undefined}>
            <div className="wave-head">
              <b>{t.rollouts.waveName(count(w.wave))}</b>
              <span>{t.rollouts.upto(w.upto)}</span>
              <span className="dim">
                {t.rollouts.machines(count(w.places))}
                {w.soak && w.soak !== '0s' && <>, {t.rollouts.soaks(w.soak)}</>}
              </span>
              {r && (
                <span className="wave-state">
                  {here && r.phase !== 'running' ? word(t.phase, r.phase) : word(t.waveState, w.state)}
                  {here && r.phase === 'running' && w.state === 'soaks' && r.soak_ends ? (
                    <>
                      {' '}
                      <Time at={r.soak_ends} />
                    </>
                  ) : null}
                </span>
              )}
            </div>
            {r && (
              <>
                <div className="bar" aria-hidden>
                  {counted.map(([k, color]) => (
                    <Part key={k} n={w[k]} color={color} />
                  ))}
                  <Part n={rest} color="" />
                </div>
                <div className="dim">
                  {counted
                    .filter(([k]) => w[k] > 0)
                    .map(([k]) => `${word(t.machineStatus, k)} ${count(w[k])}`)
                    .join(' · ') || t.rollouts.nobodyYet}
                </div>
              </>
            )}
          </li>
        );
      })}
    </ol>
  );
}

// Budget is what went wrong against what may.
export function Budget({ r }: { r: Rollout }) {
  const t = useT();
  const h = r.health;
  const rows = [
    [t.rollouts.crashes, h.crashes, h.may_crash],
    [t.rollouts.failures, h.failures, h.may_fail],
  ] as const;
  const kinds = Object.entries(h.failed).filter(([, n]) => n > 0);
  return (
    <div className="stack">
      {rows.map(([name, is, may]) => (
        <div key={name}>
          <div className="wave-head">
            <b>{name}</b>
            <span>{t.rollouts.ofBudget(amount(is), amount(may))}</span>
            {is > may && <span className="over">{t.rollouts.over}</span>}
          </div>
          <div className="bar" aria-hidden>
            <Part n={is} color={is > may ? 'red' : is > may / 2 ? 'yellow' : 'teal'} />
            <Part n={is === 0 ? 1 : Math.max(0, may - is)} color="" />
          </div>
        </div>
      ))}
      {h.over && (
        <Text size="sm" lang="en" className="wrap">
          {h.over}
        </Text>
      )}
      {kinds.length > 0 && (
        <Text size="sm">
          {kinds.map(([k, n]) => `${word(t.failure, k)} ${count(n)}`).join(' · ')}
          {h.forgiven > 0 && <> · {t.rollouts.forgiven(count(h.forgiven))}</>}
        </Text>
      )}
      <Text size="sm" c="dimmed">
        {t.rollouts.hadOf(count(h.had), count(h.machines), percent(h.had, h.machines))} {h.offered + h.begun > 0 && t.rollouts.flight(count(h.offered + h.begun))}{' '}
        {h.within && t.rollouts.usual(count(h.events), h.within, amount(h.usual))}
      </Text>
    </div>
  );
}

function amount(n: number): string {
  return n >= 100 || Number.isInteger(n) ? count(Math.round(n)) : n.toFixed(n < 1 ? 2 : 1);
}
