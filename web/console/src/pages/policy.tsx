// SPDX-License-Identifier: Apache-2.0
import { Alert, Group, NativeSelect, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import type { Schemas } from '../api/client';
import { policies, policy } from '../api/queries';
import { verdictOf } from '../cve';
import { count } from '../format';
import { useT, word } from '../i18n';
import { Help, useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded, Problem } from '../ui/states';
import { Table } from '../ui/table';
import { ChoiceState, Severity, Time } from '../ui/words';
import { Left } from './left';
import { ExcludeDialog, IncludeDialog, PolicyActions } from './policyacts';
import { textOf } from './policyfields';
import { Preview } from './preview';

const here = getRouteApi('/policies/$name');

export function Policy() {
  const t = useT();
  const { name } = here.useParams();
  const q = useQuery(policy(name));
  const may = useMay('policies');
  return (
    <Page
      title={name}
      up={
        <Link to="/policies" className="link">
          {t.nav.policies}
        </Link>
      }
      about={q.data?.description}
      actions={may && q.data && <PolicyActions p={q.data} />}
    >
      <Loaded query={q} lines={8}>
        {(p) => (
          <div className="stack">
            {(p.ending ?? []).length > 0 && (
              <Alert color="yellow" title={t.policy.endingSoon}>
                {p.ending?.map((e) => (
                  <Text size="sm" key={e.name}>
                    <b>{e.name}</b> <Time at={e.ends} />: {e.reason}
                  </Text>
                ))}
              </Alert>
            )}
            <Section title={t.policy.choices}>
              <Choices p={p} />
            </Section>
            <Section title={t.policy.exclusions} actions={may && <ExcludeDialog p={p} />}>
              <Exclusions p={p} may={may} />
            </Section>
            <Section title={t.policy.openTitle}>
              <Open x={p.open} />
            </Section>
            <Section title={t.policy.compare}>
              <Compare name={p.name} />
            </Section>
            <Section title={t.policy.text}>
              <Facts
                of={[
                  [t.policy.machines, count(p.machines)],
                  [t.policy.groups, p.name === 'default' ? t.policy.allOthers : p.groups?.join(', ') || '–'],
                  [t.policy.minSeverity, p.min_severity ? word(t.severity, p.min_severity) : t.policy.anySeverity],
                  [t.policy.scope, word(t.policy.scopes, p.scope ?? 'security')],
                  [t.policy.extra, p.extra?.join(', ')],
                  [t.policy.swap, p.swap_unused ? t.yes : t.no],
                  [t.policy.changed, p.changed ? <><Time at={p.changed} /> {p.changed_by}</> : undefined],
                ]}
              />
            </Section>
          </div>
        )}
      </Loaded>
    </Page>
  );
}

function Choices({ p }: { p: Schemas['PolicyInfo'] }) {
  const t = useT();
  const choices = p.choices ?? [];
  if (choices.length === 0) return <Empty title={t.policy.nothingPushed}>{t.policy.nothingPushedHelp}</Empty>;
  return (
    <div className="stack">
      <Table
        caption={t.policy.choices}
        rows={choices}
        id={(c) => c.target}
        columns={[
          { name: t.job.target, cell: (c) => c.target },
          { name: t.policy.state, cell: (c) => <ChoiceState of={c.state} /> },
          { name: t.policy.chosen, right: true, cell: (c) => t.policy.fixesOf(count(c.fixes), count(c.cves)) },
          {
            name: t.machine.patch,
            cell: (c) =>
              c.patch ? (
                <Link to="/livepatches/$id" params={{ id: c.patch }} className="link">
                  {c.patch}
                </Link>
              ) : c.job ? (
                <Link to="/jobs/$id" params={{ id: c.job }} className="link">
                  {t.policy.itsJob}
                </Link>
              ) : (
                '–'
              ),
          },
          { name: t.livePatch.tiers, cell: (c) => c.tiers?.join(', ') || '–' },
          { name: t.policy.machines, right: true, cell: (c) => count(c.machines) },
          { name: t.policy.left, cell: (c) => leftWords(c, t.leftKind) },
        ]}
      />
      {choices.map((c) => (
        <ChoiceMore key={c.target} c={c} />
      ))}
    </div>
  );
}

// Compare asks what this policy would choose with the text of another one: what
// goes is only in this one, what comes only in the other.
function Compare({ name }: { name: string }) {
  const t = useT();
  const [with_, setWith] = useState('');
  const others = (useQuery(policies).data?.items ?? []).filter((p) => p.name !== name);
  const other = others.find((p) => p.name === with_);
  if (others.length === 0) return <Empty title={t.policy.noOther} />;
  return (
    <div className="stack">
      <NativeSelect
        label={t.policy.compareWith}
        maw={320}
        value={other ? with_ : ''}
        onChange={(e) => setWith(e.currentTarget.value)}
        data={[{ value: '', label: '–' }, ...others.map((p) => p.name)]}
      />
      {other && <Help>{t.policy.compareHelp(name, other.name)}</Help>}
      <Preview name={name} question={other ? { policy: { ...textOf(other), name } } : undefined} />
    </div>
  );
}

function leftWords(c: Schemas['PolicyChoice'], words: Readonly<Record<string, string>>): string {
  return (
    Object.entries(c.left ?? {})
      .map(([k, n]) => `${word(words, verdictOf(k, c.target))} ${count(n)}`)
      .join(', ') || '–'
  );
}

function ChoiceMore({ c }: { c: Schemas['PolicyChoice'] }) {
  const t = useT();
  return (
    <>
      {c.problem && <Problem problem={c.problem} />}
      {c.keeps && (
        <Alert color="yellow">
          {t.policy.keeps(c.target)}{' '}
          <Link to="/livepatches/$id" params={{ id: c.keeps }} className="link">
            {c.keeps}
          </Link>
          {c.keeps_excluded && <>. {t.policy.keepsExcluded(c.keeps_excluded)}</>}
        </Alert>
      )}
      {c.omitted && c.omitted.length > 0 && (
        <details>
          <summary>{t.policy.omitted(c.target, count(c.omitted.length))}</summary>
          <Left target={c.target} of={c.omitted} caption={t.job.omitted} />
        </details>
      )}
    </>
  );
}

function Exclusions({ p, may }: { p: Schemas['PolicyInfo']; may: boolean }) {
  const t = useT();
  const rows = p.exclusions ?? [];
  if (rows.length === 0) return <Empty title={t.policy.noExclusions}>{t.policy.noExclusionsHelp}</Empty>;
  const nameOf = (x: Schemas['Exclusion']) => x.cve || x.fix || '';
  return (
    <Table
      caption={t.policy.exclusions}
      rows={rows}
      id={nameOf}
      columns={[
        {
          name: t.policy.excluded,
          cell: (x) =>
            x.cve ? (
              <Link to="/cves/$cve" params={{ cve: x.cve }} className="link">
                {x.cve}
              </Link>
            ) : (
              x.fix
            ),
        },
        { name: t.reason, cell: (x) => <span className="wrap">{x.reason}</span> },
        { name: t.policy.owner, cell: (x) => x.owner },
        {
          name: t.policy.until,
          cell: (x) => (x.expires && x.expires < Date.now() ? t.policy.over : <Time at={x.expires} never={t.policy.forever} />),
        },
        ...(may ? [{ name: '', right: true, cell: (x: Schemas['Exclusion']) => <IncludeDialog p={p} name={nameOf(x)} /> }] : []),
      ]}
    />
  );
}

function Open({ x }: { x: Schemas['Exposure'] | undefined }) {
  const t = useT();
  const needs = Object.entries(x?.needs ?? {});
  if (!x || needs.length === 0) return <Empty title={t.overview.noneOpen}>{t.overview.noneOpenHelp}</Empty>;
  return (
    <>
      <Text mb="xs">{t.policy.openMachines(count(x.machines))}</Text>
      <Facts of={needs.map(([n, k]) => [word(t.need, n), <span title={word(t.needHelp, n)}>{t.policy.openOn(count(k))}</span>] as const)} />
      <Group gap="xs" mt="sm">
        {Object.entries(x.worst ?? {}).map(([s, n]) => (
          <span key={s}>
            <Severity of={s} /> {count(n)}
          </span>
        ))}
      </Group>
    </>
  );
}
