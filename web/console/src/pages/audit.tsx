// SPDX-License-Identifier: Apache-2.0
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { audit } from '../api/queries';
import { dateTime } from '../format';
import { useLanguage, useT } from '../i18n';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { Mono } from '../ui/words';

const here = getRouteApi('/audit');

// Actor is a person's name, the server, or a machine.
function Actor({ of }: { of: string }) {
  const machine = /^machine:([0-9a-f-]{36})$/.exec(of)?.[1];
  if (!machine) return <>{of}</>;
  return (
    <Link to="/machines/$id" params={{ id: machine }} className="link" preload={false}>
      {of}
    </Link>
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
                  { name: t.audit.object, cell: (a) => <span className="wrap">{a.object}</span> },
                  { name: t.audit.detail, cell: (a) => <span className="wrap" lang="en">{a.detail || '–'}</span> },
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
