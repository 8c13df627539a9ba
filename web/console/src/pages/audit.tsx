// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, Group, Text } from '@mantine/core';
import { IconAlertOctagon, IconCircleCheck, IconLoader2 } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useRef } from 'react';
import { audit, auditChain, clean, type AuditQuery } from '../api/queries';
import { downloadAudit, mostEntries } from '../csv';
import { count, dateTime } from '../format';
import { useLanguage, useT } from '../i18n';
import { Download } from '../ui/download';
import { Page } from '../ui/page';
import { Empty, Failure, Loaded } from '../ui/states';
import { Pager, Table, changing, usePages } from '../ui/table';
import { say } from '../ui/toast';
import { Typed } from '../ui/typed';
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

type Filter = Pick<AuditQuery, 'actor' | 'action' | 'object'>;
const most = { actor: 255, action: 64, object: 255 }; // characters that the API takes

// What decisions are of: an area is all actions of the name before the dot.
const areas = [
  'approval', 'channel', 'delivery', 'job', 'key', 'link', 'livepatch', 'machine', 'operator', 'passkey', 'policy', 'rollout', 'session', 'setting',
  'tier', 'token', 'trust', 'update', 'user', 'window',
].map((a) => `${a}.*`);

// actionOf reads what is typed: a word without a dot is an area.
function actionOf(text: string): string {
  const word = text.trim().toLowerCase();
  const a = word.replace(/[.*]+$/, '');
  if (a === '') return '';
  if (!a.includes('.')) return `${a}.*`;
  return word.endsWith('*') ? `${a}*` : a;
}

export function Audit() {
  const t = useT();
  useLanguage();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const filter: Filter = clean({
    actor: search.actor?.slice(0, most.actor), action: search.action?.slice(0, most.action), object: search.object?.slice(0, most.object),
  });
  const { after } = search;
  const pages = usePages(after, (a) => void navigate({ search: (s) => ({ ...s, after: a || undefined }) }));
  const change = changing<keyof Filter>(pages, (c, replace) => void navigate({ search: (s) => ({ ...s, ...c, after: undefined }), replace }));
  const q = useQuery(audit({ ...filter, after, limit: 100 }));
  const filtered = Object.values(filter).some(Boolean);
  const filters = useRef<HTMLDivElement>(null);
  const clear = () => {
    change({ actor: '', action: '', object: '' });
    filters.current?.querySelector('input')?.focus(); // the button goes away
  };
  const get = async (signal: AbortSignal, progress: (n: number) => void) => {
    if (!(await downloadAudit(filter, signal, progress))) say(t.audit.csvMost(count(mostEntries)));
  };
  return (
    <Page
      title={t.audit.title}
      about={<>{t.audit.about} {t.audit.chain} <code>tsugi-server audit verify</code></>}
      actions={<Download name={t.audit.csv} going={(n) => t.audit.csvGoing(count(n))} get={get} />}
    >
      <Chain />
      <div ref={filters} className="filters" role="search" aria-label={t.audit.filters}>
        <Typed
          label={t.audit.actor}
          placeholder={t.audit.actorHelp}
          value={filter.actor ?? ''}
          most={most.actor}
          known={[...new Set(q.data?.items?.map((a) => a.actor))].sort()}
          onChange={(actor) => change({ actor }, true)}
        />
        <Typed
          label={t.audit.action}
          placeholder="rollout.*"
          value={filter.action ?? ''}
          most={most.action - 2}
          read={actionOf}
          known={[...new Set([...areas, ...(q.data?.items?.map((a) => a.action) ?? [])])].sort()}
          onChange={(action) => change({ action }, true)}
        />
        <Typed
          label={t.audit.object}
          placeholder={t.audit.objectHelp}
          value={filter.object ?? ''}
          most={most.object}
          onChange={(object) => change({ object }, true)}
        />
        {filtered && (
          <Button variant="default" onClick={clear}>
            {t.audit.clear}
          </Button>
        )}
      </div>
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
          ) : filtered ? (
            <Empty title={t.audit.noneFit}>{t.audit.noneFitHelp}</Empty>
          ) : (
            <Empty title={t.audit.none} />
          )
        }
      </Loaded>
    </Page>
  );
}
