// SPDX-License-Identifier: Apache-2.0
import { Text } from '@mantine/core';
import {
  IconCircleCheck, IconCircleDashed, IconCircleOff, IconHammer, IconHelpCircle, IconPuzzle, IconRefreshAlert, type Icon,
} from '@tabler/icons-react';
import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { verdictOf } from '../cve';
import { date } from '../format';
import { useT, word } from '../i18n';

const looks: Record<string, [string, Icon]> = {
  reboot: ['red', IconRefreshAlert],
  restart: ['red', IconRefreshAlert],
  anew: ['red', IconRefreshAlert],
  build: ['orange', IconHammer],
  excluded: ['grape', IconCircleOff],
  possible: ['yellow', IconHelpCircle],
  module: ['blue', IconPuzzle],
  live: ['teal', IconCircleCheck],
  'not-affected': ['gray', IconCircleDashed],
};

// Cover is how a vulnerability stands, in a word and a mark.
export function Cover({ of }: { of: string }) {
  const t = useT();
  const [color, Sign] = looks[of] ?? ['gray', IconHelpCircle];
  return (
    <span className="mark" data-color={color}>
      <Sign size={16} aria-hidden />
      {word(t.coverState, of)}
    </span>
  );
}

// Leaves says who leaves it out, and until when.
export function Leaves({ of }: { of: readonly Schemas['Leaves'][] | null | undefined }) {
  const t = useT();
  return (
    <>
      {(of ?? []).map((x, i) => (
        <Text key={i} size="xs" c="dimmed" component="div">
          <Link to="/policies/$name" params={{ name: x.policy }} className="link underlined">
            {t.matrix.byExclusion(x.policy, x.owner)}
          </Link>
          , {x.expires ? `${t.matrix.until} ${date(x.expires)}` : t.matrix.forever}: {x.reason}
        </Text>
      ))}
    </>
  );
}

// CoverCell is a cell of the matrix: the standing, and of what is not done why.
export function CoverCell({ of: c, all }: { of: Schemas['TargetCVE']; all?: boolean }) {
  const t = useT();
  const state = verdictOf(c.state, c.target);
  const told = c.state === 'reboot' || (c.state === 'excluded' && !c.excluded?.length) || (all && c.state !== 'live');
  return (
    <div className="cover">
      {c.patch && (c.state === 'live' || c.state === 'module' || c.state === 'possible') ? (
        <Link to="/livepatches/$id" params={{ id: c.patch }} className="plain-link" title={`${t.cveDetail.patch}: ${c.patch}`}>
          <Cover of={state} />
        </Link>
      ) : (
        <Cover of={state} />
      )}
      {told && c.why && (
        <Text size="xs" c="dimmed" lang="en" className={all ? 'wrap' : 'clamp'} title={c.why}>
          {c.code && <span>{c.code} </span>}
          {c.why}
        </Text>
      )}
      <Leaves of={c.excluded} />
    </div>
  );
}
