// SPDX-License-Identifier: Apache-2.0
import { SimpleGrid, Text } from '@mantine/core';
import { IconAlertOctagon, IconAlertTriangle, IconCircleCheck } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { system } from '../api/data';
import { bytes, count, duration, percent } from '../format';
import { useT, word } from '../i18n';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Mono, Time } from '../ui/words';

const signs = { good: IconCircleCheck, warn: IconAlertTriangle, bad: IconAlertOctagon } as const;
const colors: Record<string, string> = { good: 'teal', warn: 'yellow', bad: 'red' };

export function Health() {
  const t = useT();
  const q = useQuery(system);
  return (
    <Page title={t.health.title} about={q.data && <>{t.health.at} <Time at={q.data.at} /></>}>
      <Loaded query={q} lines={10}>
        {(r) => (
          <div className="stack">
            <Section title={t.health.checks}>
              <ul className="attention">
                {(r.checks ?? []).map((c) => (
                  <Check key={c.id} c={c} />
                ))}
              </ul>
            </Section>
            <SimpleGrid cols={{ base: 1, md: 2 }}>
              <Section title={t.health.server}>
                <Facts
                  of={[
                    [t.health.version, `tsugi-server ${r.version}`],
                    ['URL', <span className="wrap">{r.url}</span>],
                    [t.health.up, duration(r.up)],
                    [t.health.memory, r.memory > 0 && bytes(r.memory)],
                    [t.livePatch.machines, count(r.fleet)],
                    [t.health.waiters, count(r.waiters)],
                    [t.health.feed, duration(r.feed_age)],
                    [t.health.choices, duration(r.choice_age)],
                  ]}
                />
              </Section>
              <Section title={t.health.storage}>
                <Facts
                  of={[
                    [t.health.database, `${r.store.engine} ${r.store.version ?? ''}`],
                    [t.health.schema, String(r.store.schema)],
                    [t.livePatch.size, bytes(r.store.size)],
                    [t.health.answers, micro(r.store.answer_us)],
                    [t.health.files, `${word(t.blobKind, r.blobs.kind)}${r.blobs.where ? `, ${r.blobs.where}` : ''}`],
                    [t.health.filesAnswer, micro(r.blobs.answer_us)],
                    [t.health.free, r.blobs.total ? `${bytes(r.blobs.free ?? 0)} (${percent(r.blobs.free ?? 0, r.blobs.total)})` : undefined],
                  ]}
                />
              </Section>
            </SimpleGrid>
            <Section title={t.health.workers}>
              {r.queued > 0 && (
                <Text size="sm" mb="xs">
                  {t.health.queued(count(r.queued))} <Time at={r.oldest} />
                </Text>
              )}
              {r.workers && r.workers.length > 0 ? (
                <Table
                  caption={t.health.workers}
                  rows={r.workers}
                  id={(w) => w.name + (w.job ?? '')}
                  columns={[
                    { name: t.health.worker, cell: (w) => <span className="wrap">{w.name}</span> },
                    {
                      name: t.health.does,
                      cell: (w) =>
                        w.job ? (
                          <Link to="/jobs/$id" params={{ id: w.job }} className="link">
                            {w.stage || t.jobState.running}
                          </Link>
                        ) : (
                          t.health.idle
                        ),
                    },
                    { name: t.health.since, cell: (w) => <Time at={w.since ?? w.seen} /> },
                  ]}
                />
              ) : (
                <Empty title={t.health.noWorkers}>{t.health.noWorkersHelp}</Empty>
              )}
            </Section>
            <Section title={t.health.roles}>
              <Table
                caption={t.health.roles}
                rows={r.roles ?? []}
                id={(x) => x.name}
                columns={[
                  { name: t.health.role, cell: (x) => <Mono>{x.name}</Mono> },
                  { name: t.livePatch.version, right: true, cell: (x) => String(x.version) },
                  { name: t.health.expires, cell: (x) => <Time at={x.expires} /> },
                  { name: t.health.threshold, right: true, cell: (x) => t.health.of(String(x.threshold), String(x.keys?.length ?? 0)) },
                ]}
              />
            </Section>
          </div>
        )}
      </Loaded>
    </Page>
  );
}

const micro = (us: number) => (us < 1000 ? `${us} µs` : duration(us / 1000));

function Check({ c }: { c: Schemas['SystemCheck'] }) {
  const t = useT();
  const Sign = signs[c.level as keyof typeof signs] ?? IconAlertTriangle;
  return (
    <li>
      <span className="mark" data-color={colors[c.level] ?? 'gray'}>
        <Sign size={18} aria-hidden />
        <b>{word(t.systemCheck, c.id)}</b>
      </span>
      <span className="nowrap">{word(t.systemLevel, c.level)}</span>
      <Text size="sm" c="dimmed" lang="en" className="grow wrap">
        {c.detail}
      </Text>
    </li>
  );
}
