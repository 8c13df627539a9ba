// SPDX-License-Identifier: Apache-2.0
import { Code } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import type { Schemas } from '../api/client';
import { reports } from '../api/queries';
import { duration } from '../format';
import { useT } from '../i18n';
import { Empty, Loaded } from '../ui/states';
import { Pager, Table, usePages } from '../ui/table';
import { PatchState, ReportKind, Time } from '../ui/words';

// MachineHistory is what a machine has told of its live patches.
export function MachineHistory({ id }: { id: string }) {
  const t = useT();
  const [after, setAfter] = useState<string>();
  const pages = usePages(after, setAfter);
  const q = useQuery(reports({ machine: id, limit: 20, after }));
  return (
    <Loaded query={q}>
      {(l) =>
        l.items && l.items.length > 0 ? (
          <>
            <Table
              caption={t.machine.history}
              rows={l.items}
              id={(r) => r.report.id}
              stale={q.isPlaceholderData}
              columns={[
                { name: t.report.time, cell: (r) => <Time at={r.report.time} /> },
                { name: t.report.kind, cell: (r) => <ReportKind of={r.report.kind} /> },
                {
                  name: t.report.patch,
                  cell: (r) =>
                    r.report.patch.id ? (
                      <Link to="/livepatches/$id" params={{ id: r.report.patch.id }} className="link">
                        {r.report.patch.id}
                      </Link>
                    ) : (
                      '–'
                    ),
                },
                { name: t.report.state, cell: (r) => (r.report.patch.state ? <PatchState of={r.report.patch.state} /> : '–') },
                { name: t.report.transition, right: true, cell: (r) => (r.report.transition_ms ? duration(r.report.transition_ms) : '–') },
                {
                  name: t.report.detail,
                  cell: (r) => <ReportDetail r={r.report} />,
                },
              ]}
            />
            <Pager pages={pages} next={l.next} shown={l.items.length} />
          </>
        ) : (
          <Empty title={t.report.none} />
        )
      }
    </Loaded>
  );
}

function ReportDetail({ r }: { r: Schemas['Report'] }) {
  const t = useT();
  const p = r.patch.problem;
  const stalls = r.stalls ?? [];
  if (!p && !r.detail && stalls.length === 0) return <>–</>;
  const text = [r.detail ?? '', ...stalls.map((s) => `${s.comm}[${s.pid}] ${s.function ?? ''}`)].filter(Boolean).join('\n');
  return (
    <div lang="en">
      {p && (
        <span className="wrap">
          <Code>{p.code}</Code> {p.why || p.what}
        </span>
      )}
      {text && (
        <details>
          <summary>{t.report.more}</summary>
          <pre className="log small">{text}</pre>
        </details>
      )}
    </div>
  );
}
