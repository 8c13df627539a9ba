// SPDX-License-Identifier: Apache-2.0
import { Alert, SimpleGrid, Text } from '@mantine/core';
import { IconShieldCheck, IconShieldX } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { cve as cveQuery } from '../api/data';
import { machines } from '../api/queries';
import { cveOf, needs, verdictOf } from '../cve';
import { count } from '../format';
import { useT, word } from '../i18n';
import { Diff } from '../ui/diff';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { Mono, Need, Severity } from '../ui/words';
import { CoverCell } from './cover';
import { Cves } from './cves';
import { PatchTable } from './livepatches';
import { MachineTable } from './machinetable';

const here = getRouteApi('/cves/$cve');

export function Cve() {
  const t = useT();
  const { cve: asked } = here.useParams();
  const cve = cveOf(asked);
  return (
    <Page
      title={cve || asked}
      about={t.cve.about}
      up={
        <Link to="/cves" className="link">
          {t.matrix.nav}
        </Link>
      }
    >
      {cve ? <Answer cve={cve} /> : <Empty title={t.overview.notCve} />}
    </Page>
  );
}

function Answer({ cve }: { cve: string }) {
  const t = useT();
  const { after, policy } = here.useSearch();
  const navigate = here.useNavigate();
  const pages = usePages(after, (a) => void navigate({ search: (s) => ({ ...s, after: a || undefined }), resetScroll: false }));
  const q = useQuery(cveQuery(cve, policy));
  const list = useQuery(machines({ cve, after, limit: 25 }));
  return (
    <div className="stack">
      <Loaded query={q} lines={6}>
        {(d) => (
          <>
            <Verdict d={d} />
            {d.targets && d.targets.length > 0 && (
              <Section title={t.cveDetail.targets}>
                <Table
                  caption={t.cveDetail.targets}
                  rows={d.targets}
                  id={(c) => c.target}
                  columns={[
                    { name: t.matrix.target, cell: (c) => c.target },
                    { name: t.matrix.state, cell: (c) => <CoverCell of={c} all /> },
                    {
                      name: t.cveDetail.patch,
                      cell: (c) =>
                        c.patch ? (
                          <>
                            <Link to="/livepatches/$id" params={{ id: c.patch }} className="link">
                              {c.patch}
                            </Link>
                            <Text size="xs" c="dimmed">
                              {c.tiers?.join(', ')}
                            </Text>
                          </>
                        ) : (
                          '–'
                        ),
                    },
                    {
                      name: t.cveDetail.openHere,
                      right: true,
                      cell: (c) => {
                        const n = Object.values(c.open ?? {}).reduce((a, b) => a + b, 0);
                        return n === 0 ? <span className="zero">0</span> : count(n);
                      },
                    },
                  ]}
                />
              </Section>
            )}
            <Section title={t.cveDetail.fixes}>
              {d.fixes && d.fixes.length > 0 ? d.fixes.map((f) => <Fix key={f.target + f.id} f={f} open={d.fixes?.length === 1} />) : <Empty title={t.cveDetail.noFixes} />}
            </Section>
            <Section title={t.cve.fixing}>{d.patches && d.patches.length > 0 ? <PatchTable rows={d.patches} /> : <Empty title={t.cve.noneFixing} />}</Section>
          </>
        )}
      </Loaded>
      <Section title={t.cve.open}>
        <Loaded query={list}>
          {(l) =>
            l.items && l.items.length > 0 ? (
              <>
                <MachineTable rows={l.items} stale={list.isPlaceholderData} asked />
                <Pager pages={pages} next={l.next} shown={l.items.length} />
              </>
            ) : (
              <Empty title={t.cve.noneOpen} />
            )
          }
        </Loaded>
      </Section>
    </div>
  );
}

// Fix is one fix with its diff, which is shown when it is asked for, or at once
// when there is no other.
function Fix({ f, open }: { f: Schemas['CVEFix']; open: boolean }) {
  const t = useT();
  const link = f.origin?.startsWith('https://');
  return (
    <details open={open} className="fix">
      <summary>
        <b lang="en">{f.title || f.id}</b> <span className="nowrap">({f.target})</span>
      </summary>
      <SimpleGrid cols={{ base: 1, md: 2 }} my="sm">
        <Facts
          of={[
            ['ID', <Mono>{f.id}</Mono>],
            [t.cve.severity, <Severity of={f.severity} exploited={f.exploited} />],
            ['CVSS', f.cvss],
            [t.cveDetail.verdict, f.verdict ? word(t.verdict, verdictOf(f.verdict, f.target)) : t.cveDetail.unknownVerdict],
            [t.cveDetail.why, f.why && <span lang="en">{f.code} {f.why}</span>],
            [t.cveDetail.confidence, word(t.confidence, f.confidence)],
            [t.cveDetail.entry, f.entry && <span lang="en">{f.entry}</span>],
          ]}
        />
        <Facts
          of={[
            [t.cveDetail.subsystem, f.subsystem],
            [t.cveDetail.functions, f.functions && f.functions.length > 0 && <span lang="en">{f.functions.join(', ')}</span>],
            [t.cveDetail.files, f.files && <span lang="en">{f.files.join(', ')}</span>],
            [
              t.cveDetail.origin,
              f.origin &&
                (link ? (
                  <a href={f.origin} rel="noreferrer noopener" target="_blank" className="link">
                    {f.origin}
                  </a>
                ) : (
                  f.origin
                )),
            ],
            [t.cveDetail.update, f.update],
            [t.cveDetail.firstSeen, f.first_seen],
            [t.cveDetail.requires, f.requires?.join(', ')],
          ]}
        />
      </SimpleGrid>
      {f.cves && f.cves.length > 1 && <Cves of={f.cves} />}
      {f.diff && <Diff text={f.diff} cut={f.cut} label={`${t.cveDetail.diff}: ${f.id}`} />}
    </details>
  );
}

// Verdict answers the question in one sentence, and says what the answer does
// not know: kernels of which nobody can say anything, and silent machines.
export function Verdict({ d, short }: { d: Schemas['CVEDetail']; short?: boolean }) {
  const t = useT();
  const open = needs.filter((n) => d.open[n]);
  const total = open.reduce((sum, n) => sum + (d.open[n] ?? 0), 0);
  const known = (d.targets?.length ?? 0) > 0 || total > 0;
  const fixed = d.targets?.some((c) => c.state === 'live' || c.state === 'module');
  const counting = open.filter((n) => n !== 'policy' && n !== 'possible');
  const color = total === 0 ? (known ? 'teal' : 'gray') : counting.length > 0 ? 'red' : 'yellow';
  const title = total > 0 ? t.cve.openOn(count(total)) : fixed ? t.cve.closed : known ? t.cve.noneOpen : t.cve.unknown;
  return (
    <Alert color={color} icon={total > 0 ? <IconShieldX aria-hidden /> : <IconShieldCheck aria-hidden />} title={title}>
      {(d.title || d.severity) && (
        <Text size="sm" component="div">
          <Severity of={d.severity} exploited={d.exploited} /> <span lang="en">{d.title}</span>
        </Text>
      )}
      {total > 0 && !short && (
        <Text size="sm" mt={4}>
          {t.cveDetail.ofFleet(count(total), count(d.fleet))}
        </Text>
      )}
      {open.length > 0 && (
        <ul className="plain">
          {open.map((n) => (
            <li key={n}>
              <Link to="/machines" search={{ cve: d.cve, need: n }} className="link">
                <b>{count(d.open[n] ?? 0)}</b>
              </Link>{' '}
              <b>
                <Need of={n} />
              </b>
              : {word(t.needHelp, n)}
            </li>
          ))}
        </ul>
      )}
      {!known && <Text size="sm">{t.cve.unknownHelp}</Text>}
      {d.unknown > 0 && <Text size="sm">{t.cveDetail.unknownMachines(count(d.unknown))}</Text>}
      {d.silent > 0 && <Text size="sm">{t.cve.silent(count(d.silent))}</Text>}
    </Alert>
  );
}
