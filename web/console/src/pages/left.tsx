// SPDX-License-Identifier: Apache-2.0
import { Code } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { verdictOf } from '../cve';
import { useT, word } from '../i18n';
import { Few } from '../ui/few';
import { Table } from '../ui/table';
import { Severity } from '../ui/words';

// Left lists fixes with why they stand where they stand: left out, going, coming or open.
export function Left({ of, caption, target }: { of: readonly Schemas['LeftFix'][]; caption: string; target: string }) {
  const t = useT();
  return (
    <Few of={of} most={25}>
      {(shown) => (
        <Table
          caption={caption}
          rows={shown}
          id={(f) => `${f.id} ${f.kind}`}
          columns={[
            {
              name: 'CVE',
              cell: (f) =>
                f.cves && f.cves.length > 0
                  ? f.cves.map((c) => (
                      <Link key={c} to="/cves/$cve" params={{ cve: c }} className="link cve">
                        {c}
                      </Link>
                    ))
                  : '–',
            },
            { name: t.cve.severity, cell: (f) => <Severity of={f.severity} exploited={f.exploited} /> },
            {
              name: t.left.fix,
              cell: (f) => (
                <span lang="en" className="wrap">
                  {f.title || f.id}
                </span>
              ),
            },
            {
              name: t.left.why,
              cell: (f) => (
                <span className="wrap">
                  {word(t.leftKind, verdictOf(f.kind, target))}
                  {f.by && <> ({f.by})</>}
                  {f.why && f.why !== '–' && (
                    <span lang="en">
                      {': '}
                      {f.code && <Code>{f.code}</Code>} {f.why}
                    </span>
                  )}
                  {f.needs && f.needs.length > 0 && <> {t.left.needs(f.needs.join(', '))}</>}
                </span>
              ),
            },
          ]}
        />
      )}
    </Few>
  );
}
