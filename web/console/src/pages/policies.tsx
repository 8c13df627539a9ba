// SPDX-License-Identifier: Apache-2.0
import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { policies } from '../api/queries';
import { count } from '../format';
import { useT } from '../i18n';
import { Dialog, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { ChoiceState, Time } from '../ui/words';
import { Fields, ready, type Text } from './policyfields';

export function Policies() {
  const t = useT();
  const may = useMay('policies');
  return (
    <Page title={t.policies.title} about={t.policies.about} actions={may && <Make />}>
      <Loaded query={useQuery(policies)} lines={6}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <Table
              caption={t.policies.title}
              rows={l.items}
              id={(p) => p.name}
              columns={[
                {
                  name: t.policy.name,
                  cell: (p) => (
                    <Link to="/policies/$name" params={{ name: p.name }} className="link">
                      {p.name}
                    </Link>
                  ),
                },
                { name: t.policy.machines, right: true, cell: (p) => count(p.machines) },
                { name: t.policy.groups, cell: (p) => (p.name === 'default' ? t.policy.allOthers : p.groups?.join(', ') || '–') },
                { name: t.policy.exclusions, right: true, cell: (p) => count(p.exclusions?.length ?? 0) },
                { name: t.policy.choices, cell: (p) => <States of={p.choices ?? []} /> },
                { name: t.policy.ending, cell: (p) => <Ending of={p.ending ?? []} /> },
                { name: t.policy.changed, cell: (p) => <Time at={p.changed} /> },
              ]}
            />
          ) : (
            <Empty title={t.policies.none} />
          )
        }
      </Loaded>
    </Page>
  );
}

function States({ of }: { of: readonly Schemas['PolicyChoice'][] }) {
  const t = useT();
  if (of.length === 0) return <>{t.policy.nothingPushed}</>;
  const counts = new Map<string, number>();
  for (const c of of) counts.set(c.state, (counts.get(c.state) ?? 0) + 1);
  return (
    <span className="marks">
      {[...counts].map(([s, n]) => (
        <span key={s}>
          <ChoiceState of={s} /> {n > 1 && `×${count(n)}`}
        </span>
      ))}
    </span>
  );
}

function Ending({ of }: { of: readonly Schemas['Ending'][] }) {
  if (of.length === 0) return <>–</>;
  const first = of[0];
  return (
    <>
      {first?.name} <Time at={first?.ends} />
      {of.length > 1 && ` +${of.length - 1}`}
    </>
  );
}

function Make() {
  const t = useT();
  const navigate = useNavigate();
  const empty: Text = { name: '' };
  const [text, setText] = useState<Text>(empty);
  return (
    <Dialog
      button={t.policies.make}
      title={t.policies.make}
      go={t.policies.make}
      done={t.policies.made}
      ready={/^[a-z0-9][a-z0-9-]{0,62}$/.test(text.name) && ready(text)}
      onOpen={() => setText(empty)}
      act={() => ask(api.PUT('/v1/policies/{name}', { params: { path: { name: text.name } }, body: text }))}
      after={(p) => navigate({ to: '/policies/$name', params: { name: p.name } })}
    >
      <Fields text={text} onChange={setText} named />
    </Dialog>
  );
}
