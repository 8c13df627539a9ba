// SPDX-License-Identifier: Apache-2.0
import { Group, NativeSelect, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { tiers } from '../api/queries';
import { count } from '../format';
import { useT } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { TierRollouts } from './tierrollouts';

export function Tiers() {
  const t = useT();
  const may = useMay('tiers');
  const q = useQuery(tiers);
  return (
    <Page title={t.tiers.title} about={t.tiers.about} actions={may && q.data && <Make all={q.data.items ?? []} />}>
      <Loaded query={q} lines={4}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <div className="stack">
            <Table
              caption={t.tiers.title}
              rows={l.items}
              id={(x) => x.name}
              columns={[
                { name: t.tiers.rank, right: true, cell: (x) => count(x.rank) },
                { name: t.tiers.name, cell: (x) => x.name },
                {
                  name: t.policy.machines,
                  right: true,
                  cell: (x) => (
                    <Link to="/machines" search={{ tier: x.name }} className="link">
                      {count(x.machines)}
                    </Link>
                  ),
                },
                {
                  name: t.nav.livePatches,
                  right: true,
                  cell: (x) => (
                    <Link to="/livepatches" search={{ tier: x.name }} className="link">
                      {count(x.patches)}
                    </Link>
                  ),
                },
                ...(may ? [{ name: '', right: true, cell: (x: Schemas['Tier']) => <Actions x={x} /> }] : []),
              ]}
            />
            <TierRollouts tiers={l.items} />
            </div>
          ) : (
            <Empty title={t.tiers.none} />
          )
        }
      </Loaded>
    </Page>
  );
}

function Make({ all }: { all: readonly Schemas['Tier'][] }) {
  const t = useT();
  const [name, setName] = useState('');
  const [after, setAfter] = useState('');
  return (
    <Dialog
      button={t.tiers.make}
      title={t.tiers.make}
      go={t.tiers.make}
      done={t.tiers.made}
      ready={/^[a-z][a-z0-9-]{0,31}$/.test(name)}
      onOpen={() => {
        setName('');
        setAfter(all.at(-1)?.name ?? '');
      }}
      act={() => ask(api.POST('/v1/tiers', { body: { name, ...(after ? { after } : {}) } }))}
    >
      <TextInput label={t.tiers.name} description={t.tiers.nameHelp} required value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus spellCheck={false} />
      <NativeSelect
        label={t.tiers.after}
        value={after}
        onChange={(e) => setAfter(e.currentTarget.value)}
        data={[{ value: '', label: t.tiers.first }, ...all.map((x) => x.name)]}
      />
    </Dialog>
  );
}

function Actions({ x }: { x: Schemas['Tier'] }) {
  const t = useT();
  return (
    <Group gap="xs" justify="flex-end">
      <Dialog
        button={t.tiers.rotate}
        buttonProps={{ size: 'xs', 'aria-label': `${t.tiers.rotate}: ${x.name}` }}
        title={t.tiers.rotateTitle(x.name)}
        go={t.tiers.rotate}
        done={t.tiers.rotated}
        approval={{ action: 'change-keys', object: x.name }}
        act={(approval) => ask(api.POST('/v1/tiers/{name}/key', { params: { path: { name: x.name }, ...(approval ? { query: { approval } } : {}) } }))}
      >
        <Help>{t.tiers.rotateHelp}</Help>
      </Dialog>
      {x.machines === 0 && x.patches === 0 && (
        <Dialog
          button={t.remove}
          buttonProps={{ size: 'xs', 'aria-label': `${t.remove}: ${x.name}` }}
          danger
          title={t.tiers.removeTitle(x.name)}
          go={t.remove}
          done={t.tiers.removed}
          act={() => ask(api.DELETE('/v1/tiers/{name}', { params: { path: { name: x.name } } }))}
        >
          <Help>{t.tiers.removeHelp}</Help>
        </Dialog>
      )}
    </Group>
  );
}
