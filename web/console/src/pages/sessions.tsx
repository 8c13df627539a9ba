// SPDX-License-Identifier: Apache-2.0
import { Badge } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { api, ask, type Schemas } from '../api/client';
import { sessions, users } from '../api/people';
import { useT } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table, type Column } from '../ui/table';
import { Time } from '../ui/words';
import { PeopleTabs } from './peopletabs';
import { Method, Programs } from './peoplewords';

export function Sessions() {
  const t = useT();
  const may = useMay('people');
  return (
    <Page title={t.sessions.title} about={t.sessions.about}>
      <PeopleTabs />
      <Loaded query={useQuery(sessions)} lines={6}>
        {(l) => (l.items && l.items.length > 0 ? <SessionTable rows={l.items} {...(may ? { end: endAny } : {})} named /> : <Empty title={t.sessions.none} />)}
      </Loaded>
    </Page>
  );
}

export function UserLink({ id }: { id: string }) {
  const name = useQuery(users).data?.items?.find((u) => u.id === id)?.name;
  return (
    <Link to="/users/$id" params={{ id }} className="link" preload={false}>
      {name ?? id.slice(0, 8)}
    </Link>
  );
}

export const endAny = (id: string) => ask(api.DELETE('/v1/sessions/{id}', { params: { path: { id } } }));

interface SessionTableProps {
  rows: readonly Schemas['Session'][];
  end?: (id: string) => Promise<unknown>; // who may not has none
  named?: boolean;
  caption?: string;
}

export function SessionTable({ rows, end: act, named, caption }: SessionTableProps) {
  const t = useT();
  const who: Column<Schemas['Session']>[] = named ? [{ name: t.sessions.who, cell: (s) => <UserLink id={s.user} /> }] : [];
  const end: Column<Schemas['Session']>[] = act
    ? [
        {
          name: '',
          right: true,
          cell: (s) =>
            s.current ? (
              <Badge color="pine" variant="light">
                {t.account.current}
              </Badge>
            ) : (
              <Dialog
                button={t.account.end}
                buttonProps={{ size: 'xs', 'aria-label': `${t.account.end}: ${s.address}` }}
                danger
                title={t.account.endTitle}
                go={t.account.end}
                done={t.account.ended}
                act={() => act(s.id)}
              >
                <Help>{t.account.endHelp}</Help>
              </Dialog>
            ),
        },
      ]
    : [];
  return (
    <Table
      caption={caption ?? t.sessions.title}
      rows={rows}
      id={(s) => s.id}
      columns={[
        ...who,
        { name: t.account.browser, cell: (s) => <Programs agent={s.agent} /> },
        { name: t.account.address, cell: (s) => s.address },
        { name: t.account.method, cell: (s) => <Method of={s.method} /> },
        { name: t.account.begun, cell: (s) => <Time at={s.created} /> },
        { name: t.account.lastUsed, cell: (s) => <Time at={s.last_used} /> },
        ...end,
      ]}
    />
  );
}
