// SPDX-License-Identifier: Apache-2.0
import { Alert, Group, Text } from '@mantine/core';
import { IconAlertOctagon, IconCircleCheck, IconLoader2 } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { audit, auditChain } from '../api/queries';
import { count, dateTime } from '../format';
import { useLanguage, useT } from '../i18n';
import { Page } from '../ui/page';
import { Empty, Failure, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { Mono, Time } from '../ui/words';

const here = getRouteApi('/audit');
const isId = /^[0-9a-f-]{36}$/;

// Actor is a person's name, the server, or a machine.
function Actor({ of }: { of: string }) {
  const machine = /^machine:([0-9a-f-]{36})$/.exec(of)?.[1];
  if (!machine) return <>{of}</>;
  return (
    <Link to="/machines/$id" params={{ id: machine }} className="link nowrap" preload={false} title={of}>
      {`machine:…${machine.slice(-12)}`}
    </Link>
  );
}

// Chain says whether the log is what was written. A long one is checked in
// pieces, each by one question.
function Chain() {
  const t = useT();
  const q = useQuery(auditChain);
  const c = q.data;
  if (q.isError) return <Failure error={q.error} />;
  if (!c) return null;
  if (c.broken) {
    return (
      <Alert color="red" icon={<IconAlertOctagon aria-hidden />} title={t.audit.broken(count(c.broken.entry))} mb="md">
        <Text size="sm" lang="en">
          {c.broken.why}
        </Text>
        <Text size="sm">{t.audit.brokenHelp}</Text>
      </Alert>
    );
  }
  return (
    <Group gap="xs" mb="md" role="status">
      {c.done ? <IconCircleCheck aria-hidden color="var(--mantine-color-teal-6)" /> : <IconLoader2 aria-hidden />}
      <Text size="sm">
        {c.done ? t.audit.whole(count(c.entries)) : t.audit.checking(count(c.checked), count(c.entries))} <Time at={c.at} />
      </Text>
      {c.done && c.hash && (
        <Text size="sm" component="div" className="wrap">
          {t.audit.head} <Mono>{`${c.checked}:${c.hash}`}</Mono>
        </Text>
      )}
    </Group>
  );
}

export function Audit() {
  const t = useT();
  useLanguage();
  const { after } = here.useSearch();
  const navigate = here.useNavigate();
  const pages = usePages(after, (a) => void navigate({ search: a ? { after: a } : {} }));
  const q = useQuery(audit({ after, limit: 100 }));
  return (
    <Page title={t.audit.title} about={<>{t.audit.about} {t.audit.chain} <code>tsugi-server audit verify</code></>}>
      <Chain />
      <Loaded query={q} lines={10}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <Table
                caption={t.audit.title}
                rows={l.items}
                id={(a) => a.id}
                stale={q.isPlaceholderData}
                columns={[
                  { name: t.audit.time, cell: (a) => <time className="nowrap" dateTime={new Date(a.time).toISOString()}>{dateTime(a.time)}</time> },
                  { name: t.audit.actor, cell: (a) => <Actor of={a.actor} /> },
                  { name: t.audit.action, cell: (a) => <Mono>{a.action}</Mono> },
                  { name: t.audit.object, cell: (a) => <span className={isId.test(a.object) ? 'id' : 'wrap object'}>{a.object}</span> },
                  { name: t.audit.detail, cell: (a) => <span className="detail" lang="en">{a.detail || '–'}</span> },
                ]}
              />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Empty title={t.audit.none} />
          )
        }
      </Loaded>
    </Page>
  );
}
