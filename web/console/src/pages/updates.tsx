// SPDX-License-Identifier: Apache-2.0
import { Code } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { api, ask, type Schemas } from '../api/client';
import { updates } from '../api/queries';
import { bytes, count } from '../format';
import { useT } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Time } from '../ui/words';

export function Updates() {
  const t = useT();
  const may = useMay('build');
  return (
    <Page title={t.updates.title} about={t.updates.about}>
      <Loaded query={useQuery(updates)} lines={6}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <Table
              caption={t.updates.title}
              rows={l.items}
              id={(u) => `${u.target} ${u.name}`}
              columns={[
                { name: t.job.target, cell: (u) => u.target },
                { name: t.updates.name, cell: (u) => (u.extra ? `${u.name} (${t.updates.extra})` : u.name) },
                { name: t.updates.versions, cell: (u) => (u.from || u.to ? `${u.from ?? ''} → ${u.to ?? ''}` : u.title || '–') },
                { name: t.updates.fixes, right: true, cell: (u) => count(u.fixes) },
                { name: 'CVE', right: true, cell: (u) => count(u.cves) },
                { name: t.updates.live, right: true, cell: (u) => <span className="nowrap">{t.updates.of(count(u.live), count(u.known))}</span> },
                { name: t.updates.reboot, right: true, cell: (u) => count(u.reboot) },
                { name: t.updates.selections, right: true, cell: (u) => count(u.selections) },
                { name: t.livePatch.size, right: true, cell: (u) => <span className="nowrap">{bytes(u.size)}</span> },
                { name: t.updates.created, cell: (u) => <><Time at={u.created} /> {u.created_by}</> },
                ...(may ? [{ name: '', right: true, cell: (u: Schemas['Update']) => <Remove u={u} /> }] : []),
              ]}
            />
          ) : (
            <Empty title={t.updates.none}>
              {t.updates.noneHelp} <Code className="break">tsugictl update push --update 6.1.192-1 --target debian:6.1.0-54-amd64</Code>
            </Empty>
          )
        }
      </Loaded>
    </Page>
  );
}

function Remove({ u }: { u: Schemas['Update'] }) {
  const t = useT();
  return (
    <Dialog
      button={t.remove}
      buttonProps={{ size: 'xs', 'aria-label': `${t.remove}: ${u.target} ${u.name}` }}
      danger
      title={t.updates.removeTitle(u.name, u.target)}
      go={t.remove}
      done={t.updates.removed}
      act={() => ask(api.DELETE('/v1/updates', { params: { query: { target: u.target, name: u.name } } }))}
    >
      <Help>{t.updates.removeHelp}</Help>
    </Dialog>
  );
}
