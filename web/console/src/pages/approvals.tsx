// SPDX-License-Identifier: Apache-2.0
import { Badge, Switch } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { api, ask, type Schemas } from '../api/client';
import { approvals } from '../api/people';
import { whoami } from '../api/queries';
import { useT, word } from '../i18n';
import { Dialog, Help } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { Time } from '../ui/words';

const here = getRouteApi('/approvals');

// Approvals are what somebody wants to do and a second person has to agree to.
export function Approvals() {
  const t = useT();
  const { all, after } = here.useSearch();
  const navigate = here.useNavigate();
  const pages = usePages(after, (a) => void navigate({ search: (s) => ({ ...(s.all ? { all: s.all } : {}), ...(a ? { after: a } : {}) }) }));
  const q = useQuery(approvals({ all: all === 'true', after }));
  return (
    <Page title={t.approvals.title} about={t.approvals.about}>
      <Switch
        mb="md"
        label={t.approvals.all}
        checked={all === 'true'}
        onChange={(e) => {
          pages.reset();
          void navigate({ search: e.currentTarget.checked ? { all: 'true' } : {} });
        }}
      />
      <Loaded query={q} lines={6}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <>
              <Table
                caption={t.approvals.title}
                rows={l.items}
                id={(a) => a.id}
                stale={q.isPlaceholderData}
                columns={[
                  {
                    name: t.approvals.what,
                    cell: (a) => (
                      <>
                        <div>{word(t.approvalAction, a.action)}</div>
                        <Subject a={a} />
                        {a.detail && (
                          <div className="dim wrap" lang="en">
                            {a.detail}
                          </div>
                        )}
                      </>
                    ),
                  },
                  { name: t.approvals.by, cell: (a) => a.asked_by },
                  { name: t.approvals.asked, cell: (a) => <Time at={a.asked} /> },
                  { name: t.approvals.state, cell: (a) => <State a={a} /> },
                  { name: '', right: true, cell: (a) => <Decide a={a} /> },
                ]}
              />
              <Pager pages={pages} next={l.next} shown={l.items.length} />
            </>
          ) : (
            <Empty title={t.approvals.none}>{t.approvals.noneHelp}</Empty>
          )
        }
      </Loaded>
    </Page>
  );
}

// Subject is what it is about, with the way there.
function Subject({ a }: { a: Schemas['Approval'] }) {
  if (a.action === 'promote-stable') {
    return (
      <Link to="/livepatches/$id" params={{ id: a.object }} className="link" preload={false}>
        {a.object}
      </Link>
    );
  }
  return <span className="wrap">{a.object}</span>;
}

const open = (a: Schemas['Approval']) => !a.decided && !a.used && a.expires > Date.now();

function State({ a }: { a: Schemas['Approval'] }) {
  const t = useT();
  if (a.used) {
    return (
      <>
        {t.approvals.used} <Time at={a.used} />
      </>
    );
  }
  if (a.decided) {
    return (
      <>
        <Badge variant="light" color={a.verdict === 'given' ? 'teal' : 'red'}>
          {a.verdict === 'given' ? t.approvals.given : t.approvals.refused}
        </Badge>{' '}
        {a.decided_by}, <Time at={a.decided} />
      </>
    );
  }
  return (
    <>
      {a.expires > Date.now() ? t.approvals.ends : t.approvals.over} <Time at={a.expires} />
    </>
  );
}

function Decide({ a }: { a: Schemas['Approval'] }) {
  const t = useT();
  const me = useQuery(whoami).data?.name;
  const path = { path: { id: a.id } };
  if (!open(a)) return null;
  const mine = me === a.asked_by;
  return (
    <span className="buttons">
      {!mine && (
        <Dialog
          button={t.approvals.give}
          buttonProps={{ size: 'xs', variant: 'filled', 'aria-label': `${t.approvals.give}: ${a.object}` }}
          title={t.approvals.giveTitle(word(t.approvalAction, a.action))}
          go={t.approvals.give}
          done={t.approvals.nowGiven}
          act={() => ask(api.POST('/v1/approvals/{id}/give', { params: path }))}
        >
          <Help>{t.approvals.giveHelp(a.asked_by)}</Help>
          <div className="wrap">{a.object}</div>
          {a.detail && (
            <div className="wrap" lang="en">
              {a.detail}
            </div>
          )}
        </Dialog>
      )}
      <Dialog
        button={mine ? t.approvals.takeBack : t.approvals.refuse}
        buttonProps={{ size: 'xs', 'aria-label': `${mine ? t.approvals.takeBack : t.approvals.refuse}: ${a.object}` }}
        danger
        title={mine ? t.approvals.takeBackTitle : t.approvals.refuseTitle}
        go={mine ? t.approvals.takeBack : t.approvals.refuse}
        done={t.approvals.nowRefused}
        act={() => ask(api.POST('/v1/approvals/{id}/refuse', { params: path }))}
      >
        <Help>{t.approvals.refuseHelp}</Help>
      </Dialog>
    </span>
  );
}
