// SPDX-License-Identifier: Apache-2.0
import { Alert, Text } from '@mantine/core';
import { IconShieldCheck, IconShieldX } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { livePatches, machines, overview, policies } from '../api/queries';
import { cveOf } from '../cve';
import { count } from '../format';
import { useT, word } from '../i18n';
import { Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { Need, Severity, Time } from '../ui/words';
import { PatchTable } from './livepatches';
import { MachineTable } from './machinetable';

const here = getRouteApi('/cves/$cve');
const most = 200; // the API has no question for a CVE, and a live patch names hundreds

export function Cve() {
  const t = useT();
  const { cve: asked } = here.useParams();
  const cve = cveOf(asked);
  return (
    <Page title={cve || asked} about={t.cve.about}>
      {cve ? <Answer cve={cve} /> : <Empty title={t.overview.notCve} />}
    </Page>
  );
}

function Answer({ cve }: { cve: string }) {
  const t = useT();
  const { after } = here.useSearch();
  const navigate = here.useNavigate();
  const pages = usePages(after, (a) => void navigate({ search: { ...(a ? { after: a } : {}) } }));
  const q = useQuery(machines({ cve, after, limit: 50 }));
  const patches = useQuery(livePatches({ limit: most }));
  const fleet = useQuery(overview).data;
  const excluding = (useQuery(policies).data?.items ?? []).filter((p) => p.exclusions?.some((x) => x.cve === cve));
  const fixing = (patches.data?.items ?? []).filter((p) => p.cves?.includes(cve));
  return (
    <div className="stack">
      <Loaded query={q} lines={3}>
        {(l) => <Verdict open={l} first={pages.first} fleet={fleet} fixed={fixing.length > 0} />}
      </Loaded>
      <Section title={t.cve.open}>
        <Loaded query={q}>
          {(l) =>
            l.items && l.items.length > 0 ? (
              <>
                <MachineTable rows={l.items} stale={q.isPlaceholderData} asked />
                <Pager pages={pages} next={l.next} shown={l.items.length} />
              </>
            ) : (
              <Empty title={t.cve.noneOpen} />
            )
          }
        </Loaded>
      </Section>
      <Section title={t.cve.fixing}>
        <Loaded query={patches}>
          {(l) => (
            <>
              {fixing.length > 0 ? <PatchTable rows={fixing} /> : <Empty title={t.cve.noneFixing} />}
              {l.next && (
                <Text size="sm" c="dimmed" mt="xs">
                  {t.cve.onlyNewest(count(most))}
                </Text>
              )}
            </>
          )}
        </Loaded>
      </Section>
      {excluding.length > 0 && (
        <Section title={t.cve.excluded}>
          <Table
            caption={t.cve.excluded}
            rows={excluding}
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
              { name: t.reason, cell: (p) => p.exclusions?.find((x) => x.cve === cve)?.reason },
              { name: t.policy.owner, cell: (p) => p.exclusions?.find((x) => x.cve === cve)?.owner },
              { name: t.policy.until, cell: (p) => <Time at={p.exclusions?.find((x) => x.cve === cve)?.expires} never={t.policy.forever} /> },
            ]}
          />
        </Section>
      )}
    </div>
  );
}

// Verdict answers the question in one sentence, and says what the answer does
// not know: a kernel that nothing was pushed for, and machines that are silent.
function Verdict({ open, first, fleet, fixed }: { open: Schemas['ListMachine']; first: boolean; fleet: Schemas['Overview'] | undefined; fixed: boolean }) {
  const t = useT();
  const items = open.items ?? [];
  const some = items.length > 0 || !first;
  const needs = [...new Set(items.flatMap((m) => m.open?.map((o) => o.need) ?? []))];
  const one = items[0]?.open?.[0];
  const unknown = fleet?.protections['not-covered'] ?? 0;
  const silent = fleet?.protections['silent'] ?? 0;
  const counting = needs.filter((n) => n !== 'policy' && n !== 'possible');
  const color = !some ? (fixed ? 'teal' : 'gray') : counting.length > 0 || !first ? 'red' : 'yellow';
  return (
    <Alert
      color={color}
      icon={some ? <IconShieldX aria-hidden /> : <IconShieldCheck aria-hidden />}
      title={some ? (open.next || !first ? t.cve.openMany(count(items.length)) : t.cve.openOn(count(items.length))) : fixed ? t.cve.closed : t.cve.unknown}
    >
      {some && one && (
        <Text size="sm" component="div">
          <Severity of={one.severity} exploited={one.exploited} />{' '}
          <span lang="en">{one.title}</span>
        </Text>
      )}
      {needs.length > 0 && (
        <ul className="plain">
          {needs.map((n) => (
            <li key={n}>
              <b>
                <Need of={n} />
              </b>
              : {word(t.needHelp, n)}
            </li>
          ))}
        </ul>
      )}
      {!some && !fixed && <Text size="sm">{t.cve.unknownHelp}</Text>}
      {unknown > 0 && (
        <Text size="sm">
          <Link to="/machines" search={{ protection: 'not-covered' }} className="link">
            {t.cve.notCovered(count(unknown))}
          </Link>
        </Text>
      )}
      {silent > 0 && (
        <Text size="sm">
          <Link to="/machines" search={{ protection: 'silent' }} className="link">
            {t.cve.silent(count(silent))}
          </Link>
        </Text>
      )}
    </Alert>
  );
}
