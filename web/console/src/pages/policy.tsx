// SPDX-License-Identifier: Apache-2.0
import { Alert, Group, NativeSelect, Text, Textarea, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { policies, policy, whoami } from '../api/queries';
import { cveOf } from '../cve';
import { count } from '../format';
import { useT, word } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded, Problem } from '../ui/states';
import { Table } from '../ui/table';
import { ChoiceState, Severity, Time } from '../ui/words';
import { Left } from './left';
import { Fields, ready, textOf, type Text as PolicyText } from './policyfields';
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
      actions={may && q.data && <Actions p={q.data} />}
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
          { name: t.policy.left, cell: (c) => leftWords(c.left, t.leftKind) },
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

function leftWords(left: Record<string, number> | undefined, words: Readonly<Record<string, string>>): string {
  return (
    Object.entries(left ?? {})
      .map(([k, n]) => `${word(words, k)} ${count(n)}`)
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
          <Left of={c.omitted} caption={t.job.omitted} />
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

function IncludeDialog({ p, name }: { p: Schemas['PolicyInfo']; name: string }) {
  const t = useT();
  const [open, setOpen] = useState(false);
  return (
    <Dialog
      button={t.policy.include}
      buttonProps={{ size: 'xs', 'aria-label': `${t.policy.include}: ${name}` }}
      title={t.policy.includeTitle(name, p.name)}
      size="xl"
      go={t.policy.include}
      done={t.policy.changedNow}
      onOpen={() => setOpen(true)}
      act={() => ask(api.POST('/v1/policies/{name}/include', { params: { path: { name: p.name } }, body: { names: [name] } }))}
    >
      <Preview name={p.name} question={open ? { include: [name] } : undefined} />
    </Dialog>
  );
}

const days = ['', '7', '14', '30', '90', '365'] as const;

function ExcludeDialog({ p }: { p: Schemas['PolicyInfo'] }) {
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

function Actions({ p }: { p: Schemas['PolicyInfo'] }) {
  const t = useT();
  const navigate = useNavigate();
  const [text, setText] = useState<PolicyText>(textOf(p));
  const [groups, setGroups] = useState('');
  const [target, setTarget] = useState('');
  const [previewing, setPreviewing] = useState(false);
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
        onOpen={() => {
          setText(textOf(p));
          setPreviewing(true);
        }}
        act={() => ask(api.PUT('/v1/policies/{name}', { params, body: text }))}
      >
        <Fields text={text} onChange={setText} />
        <Preview name={p.name} question={previewing && ready(text) ? { policy: text } : undefined} />
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
          after={() => void navigate({ to: '/policies' })}
        >
          <Help>{t.policy.removeHelp}</Help>
        </Dialog>
      )}
    </Group>
  );
}
