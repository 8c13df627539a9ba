// SPDX-License-Identifier: Apache-2.0
import { NativeSelect, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { tiers, tokens } from '../api/queries';
import { count } from '../format';
import { useT } from '../i18n';
import { Dialog, Help, NumberField, Secret, useMaySome } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Time } from '../ui/words';

export function Tokens() {
  const t = useT();
  const may = useMaySome('enroll');
  const [made, setMade] = useState('');
  return (
    <Page title={t.tokens.title} about={t.tokens.about} actions={may && <Make onMade={(x) => setMade(`tsugi enroll ${x.enroll}`)} />}>
      <Loaded query={useQuery(tokens)} lines={6}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <Table
              caption={t.tokens.title}
              rows={l.items}
              id={(x) => x.id}
              columns={[
                { name: t.tokens.name, cell: (x) => x.name },
                { name: t.machine.tier, cell: (x) => x.tier },
                { name: t.machine.group, cell: (x) => x.group || '–' },
                { name: t.tokens.uses, right: true, cell: (x) => (x.limit ? t.tokens.of(count(x.uses), count(x.limit)) : count(x.uses)) },
                { name: t.tokens.lastUsed, cell: (x) => <Time at={x.last_used} never={t.never} /> },
                {
                  name: t.tokens.expires,
                  cell: (x) =>
                    x.revoked ? (
                      <>
                        {t.tokens.revoked} <Time at={x.revoked} />
                      </>
                    ) : x.expires && x.expires < Date.now() ? (
                      t.tokens.expired
                    ) : (
                      <Time at={x.expires} never={t.never} />
                    ),
                },
                ...(may ? [{ name: '', right: true, cell: (x: Schemas['Token']) => !x.revoked && <Revoke x={x} /> }] : []),
              ]}
            />
          ) : (
            <Empty title={t.tokens.none}>{t.tokens.noneHelp}</Empty>
          )
        }
      </Loaded>
      <Secret title={t.tokens.made} help={t.tokens.madeHelp} text={made} onClose={() => setMade('')} />
    </Page>
  );
}

const days = ['', '1', '7', '30', '365'] as const;

function Make({ onMade }: { onMade: (x: Schemas['TokenMade']) => void }) {
  const t = useT();
  const all = useQuery(tiers).data?.items ?? [];
  const [name, setName] = useState('');
  const [tier, setTier] = useState('');
  const [group, setGroup] = useState('');
  const [limit, setLimit] = useState<number | ''>('');
  const [end, setEnd] = useState<string>('30');
  const chosen = tier || (all.at(-1)?.name ?? ''); // what the field shows, also when the tiers came after it was opened
  return (
    <Dialog
      button={t.tokens.make}
      title={t.tokens.make}
      go={t.tokens.make}
      ready={name.trim() !== ''}
      onOpen={() => {
        setName('');
        setTier('');
        setGroup('');
        setLimit('');
        setEnd('30');
      }}
      act={() =>
        ask(
          api.POST('/v1/tokens', {
            body: {
              name: name.trim(),
              ...(chosen ? { tier: chosen } : {}),
              ...(group.trim() ? { group: group.trim() } : {}),
              ...(limit ? { limit: Number(limit) } : {}),
              ...(end ? { expires: Date.now() + Number(end) * 86_400_000 } : {}),
            },
          }),
        )
      }
      after={onMade}
    >
      <TextInput label={t.tokens.name} required value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus maxLength={100} />
      <NativeSelect label={t.machine.tier} value={chosen} onChange={(e) => setTier(e.currentTarget.value)} data={all.map((x) => x.name)} />
      <TextInput label={t.machine.group} description={t.tokens.groupHelp} value={group} onChange={(e) => setGroup(e.currentTarget.value)} maxLength={100} />
      <NumberField label={t.tokens.limit} description={t.tokens.limitHelp} min={0} value={limit} onChange={setLimit} />
      <NativeSelect
        label={t.tokens.expires}
        value={end}
        onChange={(e) => setEnd(e.currentTarget.value)}
        data={days.map((d) => ({ value: d, label: d === '' ? t.never : t.policy.inDays(Number(d)) }))}
      />
    </Dialog>
  );
}

function Revoke({ x }: { x: Schemas['Token'] }) {
  const t = useT();
  return (
    <Dialog
      button={t.tokens.revoke}
      buttonProps={{ size: 'xs', 'aria-label': `${t.tokens.revoke}: ${x.name}` }}
      danger
      title={t.tokens.revokeTitle(x.name)}
      go={t.tokens.revoke}
      done={t.tokens.revokedNow}
      act={() => ask(api.DELETE('/v1/tokens/{id}', { params: { path: { id: x.id } } }))}
    >
      <Help>{t.tokens.revokeHelp}</Help>
    </Dialog>
  );
}
