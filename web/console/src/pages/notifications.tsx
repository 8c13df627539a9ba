// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, NativeSelect } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { channels, deliveries, notifications } from '../api/notifications';
import { useT, word } from '../i18n';
import { Dialog, Help, Secret, useMay } from '../ui/act';
import { Page, Section } from '../ui/page';
import { Empty, Failure, Loaded, Problem } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { say } from '../ui/toast';
import { Time } from '../ui/words';
import { ChannelDialog } from './channel';

const here = getRouteApi('/notifications');
type Channel = Schemas['Channel'];
type Delivery = Schemas['Delivery'];

export function Notifications() {
  const t = useT();
  const may = useMay('tiers'); // addresses of people are for who sets the server up
  const [secret, setSecret] = useState('');
  const q = useQuery(notifications);
  return (
    <Page
      title={t.notifications.title}
      about={t.notifications.about}
      actions={may && q.data && <ChannelDialog info={q.data} onSecret={setSecret} />}
    >
      <div className="stack">
        {q.data && !q.data.email && (
          <Alert color="gray" variant="light" className="wrap">
            {t.notifications.noMail} <code>docs/notifications.md</code>
          </Alert>
        )}
        {may ? (
          <>
            <Section title={t.notifications.channels}>
              <Channels info={q.data} onSecret={setSecret} />
            </Section>
            <Section title={t.notifications.deliveries}>
              <Deliveries />
            </Section>
          </>
        ) : (
          <Empty title={t.notifications.admins} />
        )}
        <Section title={t.notifications.kinds}>
          <Loaded query={q}>
            {(n) => (
              <Table
                caption={t.notifications.kinds}
                rows={n.kinds ?? []}
                id={(k) => k.kind}
                columns={[
                  { name: t.notifications.what, cell: (k) => <KindWord k={k} /> },
                  { name: t.notifications.kind, cell: (k) => <code>{k.kind}</code> },
                  { name: t.notifications.severity, cell: (k) => word(t.notificationSeverity, k.severity) },
                ]}
              />
            )}
          </Loaded>
        </Section>
      </div>
      <Secret title={t.notifications.secret} help={t.notifications.secretHelp} text={secret} onClose={() => setSecret('')} />
    </Page>
  );
}

// KindWord is what happened; a kind that is newer than this console is told in
// the server's words.
export function KindWord({ k }: { k: Schemas['NotificationKind'] }) {
  const t = useT();
  const known = Object.hasOwn(t.notificationKind, k.kind);
  return known ? <>{word(t.notificationKind, k.kind)}</> : <span lang="en">{k.title}</span>;
}

function Channels({ info, onSecret }: { info: Schemas['Notifications'] | undefined; onSecret: (s: string) => void }) {
  const t = useT();
  return (
    <Loaded query={useQuery(channels)} lines={3}>
      {(l) =>
        l.items && l.items.length > 0 ? (
          <Table
            caption={t.notifications.channels}
            rows={l.items}
            id={(c) => c.id}
            columns={[
              {
                name: t.notifications.name,
                cell: (c) => (
                  <>
                    <div>{c.name}</div>
                    <div className="dim wrap">{(c.to ?? []).join(', ')}</div>
                  </>
                ),
              },
              { name: t.notifications.type, cell: (c) => word(t.channelType, c.type) },
              {
                name: t.notifications.tells,
                cell: (c) => (
                  <>
                    <div>{c.kinds && c.kinds.length > 0 ? c.kinds.join(', ') : t.notifications.all}</div>
                    {c.least && c.least !== 'info' && <div className="dim">{t.notifications.from(word(t.notificationSeverity, c.least))}</div>}
                    {c.groups && c.groups.length > 0 && <div className="dim">{t.users.forGroups(c.groups.join(', '))}</div>}
                    {c.digest && <div className="dim">{word(t.digestEvery, c.digest.every)}</div>}
                  </>
                ),
              },
              { name: t.notifications.last, cell: (c) => (c.paused ? t.notifications.paused : c.last ? <Stage d={c.last} /> : t.never) },
              { name: '', right: true, cell: (c) => info && <Acts c={c} info={info} onSecret={onSecret} /> },
            ]}
          />
        ) : (
          <Empty title={t.notifications.none}>{t.notifications.noneHelp}</Empty>
        )
      }
    </Loaded>
  );
}

function Acts({ c, info, onSecret }: { c: Channel; info: Schemas['Notifications']; onSecret: (s: string) => void }) {
  const t = useT();
  const client = useQueryClient();
  const path = { path: { id: c.id } };
  const test = useMutation({
    mutationFn: () => ask(api.POST('/v1/notifications/channels/{id}/test', { params: path })),
    onSuccess: async (l) => {
      const bad = (l.items ?? []).filter((d) => d.stage !== 'delivered').length;
      say(bad === 0 ? t.notifications.tested : t.notifications.notTested);
      await client.invalidateQueries();
    },
  });
  return (
    <span className="buttons">
      <Button size="xs" variant="default" loading={test.isPending} onClick={() => test.mutate()} aria-label={`${t.notifications.test}: ${c.name}`}>
        {t.notifications.test}
      </Button>
      <ChannelDialog info={info} channel={c} onSecret={onSecret} />
      {c.type === 'webhook' && (
        <Dialog
          button={c.secrets === 2 ? t.notifications.retire : t.notifications.rotate}
          buttonProps={{ size: 'xs', 'aria-label': `${c.secrets === 2 ? t.notifications.retire : t.notifications.rotate}: ${c.name}` }}
          title={c.secrets === 2 ? t.notifications.retireTitle : t.notifications.rotateTitle}
          go={c.secrets === 2 ? t.notifications.retire : t.notifications.rotate}
          act={async () => {
            if (c.secrets === 2) {
              await ask(api.DELETE('/v1/notifications/channels/{id}/secret', { params: path }));
              return '';
            }
            return (await ask(api.POST('/v1/notifications/channels/{id}/secret', { params: path }))).secret ?? '';
          }}
          {...(c.secrets === 2 ? { done: t.notifications.retired } : {})}
          after={onSecret}
        >
          <Help>{c.secrets === 2 ? t.notifications.retireHelp : t.notifications.rotateHelp}</Help>
        </Dialog>
      )}
      <Dialog
        button={t.remove}
        buttonProps={{ size: 'xs', 'aria-label': `${t.remove}: ${c.name}` }}
        danger
        title={t.notifications.removeTitle(c.name)}
        go={t.remove}
        done={t.notifications.removed}
        act={() => ask(api.DELETE('/v1/notifications/channels/{id}', { params: path }))}
      >
        <Help>{t.notifications.removeHelp}</Help>
      </Dialog>
      {test.isError && <Failure error={test.error} />}
    </span>
  );
}

function Stage({ d }: { d: Delivery }) {
  const t = useT();
  return (
    <>
      {word(t.deliveryStage, d.stage)} <Time at={d.ended || d.made} />
    </>
  );
}

const stages = ['waiting', 'delivered', 'dead'] as const;

function Deliveries() {
  const t = useT();
  const search = here.useSearch();
  const navigate = here.useNavigate();
  const stage = stages.find((s) => s === search.stage);
  const after = search.after;
  const pages = usePages(after, (to) => void navigate({ search: (s) => ({ ...s, after: to }), resetScroll: false }));
  const q = useQuery(deliveries({ stage, after, limit: 20 }));
  return (
    <>
      <NativeSelect
        aria-label={t.notifications.stage}
        mb="sm"
        maw={220}
        value={stage ?? ''}
        onChange={(e) => {
          pages.reset();
          void navigate({ search: { stage: e.currentTarget.value || undefined }, resetScroll: false });
        }}
        data={[{ value: '', label: t.notifications.anyStage }, ...stages.map((s) => ({ value: s, label: word(t.deliveryStage, s) }))]}
      />
      <Loaded query={q} lines={3}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <Table
                caption={t.notifications.deliveries}
                rows={l.items}
                id={(d) => d.id}
                stale={q.isPlaceholderData}
                columns={[
                  { name: t.notifications.made, cell: (d) => <Time at={d.made} /> },
                  {
                    name: t.notifications.message,
                    cell: (d) => (
                      <>
                        <div lang="en">{d.subject}</div>
                        {d.problem && d.stage !== 'delivered' && <Problem problem={d.problem} color={d.stage === 'dead' ? 'red' : 'yellow'} />}
                      </>
                    ),
                  },
                  { name: t.notifications.to, cell: (d) => <span className="wrap">{d.to}</span> },
                  { name: t.notifications.stage, cell: (d) => <Stage d={d} /> },
                  { name: t.notifications.attempts, right: true, cell: (d) => String(d.attempts) },
                  { name: '', right: true, cell: (d) => d.stage !== 'delivered' && <Retry d={d} /> },
                ]}
              />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Empty title={t.notifications.noDeliveries} />
          )
        }
      </Loaded>
    </>
  );
}

function Retry({ d }: { d: Delivery }) {
  const t = useT();
  return (
    <Dialog
      button={t.problem.retry}
      buttonProps={{ size: 'xs', 'aria-label': `${t.problem.retry}: ${d.subject}` }}
      title={t.notifications.retryTitle}
      go={t.problem.retry}
      done={t.notifications.retried}
      act={() => ask(api.POST('/v1/notifications/deliveries/{id}/retry', { params: { path: { id: d.id } } }))}
    >
      <Help>{t.notifications.retryHelp(d.to)}</Help>
    </Dialog>
  );
}
