// SPDX-License-Identifier: Apache-2.0
import { SimpleGrid, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { Schemas } from '../api/client';
import { contents, patchDiff, patchProof, patchProvenance } from '../api/data';
import { bytes, count, duration } from '../format';
import { useT, word } from '../i18n';
import { Diff } from '../ui/diff';
import { Few } from '../ui/few';
import { Facts, Section } from '../ui/page';
import { Empty, Loaded, Problem } from '../ui/states';
import { Table } from '../ui/table';
import { Mono, Severity } from '../ui/words';
import { Cves } from './cves';
import { Left } from './left';

const few = 50;

// Contents is what a live patch is made of, and how that is known.
export function Contents({ id, target, proven }: { id: string; target: string; proven: boolean }) {
  const t = useT();
  const q = useQuery(contents(id));
  return (
    <Loaded query={q} lines={6}>
      {(c) => (
        <>
          <Section title={t.inside.fixes(count(c.fixes?.length ?? 0))}>
            {c.fixes && c.fixes.length > 0 ? c.fixes.map((f) => <Fix key={f.id} id={id} f={f} />) : <Empty title={t.livePatch.noFixes} />}
          </Section>
          <Section title={t.inside.functions(count(c.functions?.length ?? 0))}>
            <Functions of={c.functions ?? []} />
          </Section>
          {c.open && c.open.length > 0 && (
            <Section title={t.inside.open(count(c.open.length))}>
              <Left target={target} of={c.open} caption={t.inside.open(count(c.open.length))} />
            </Section>
          )}
          {c.files && c.files.length > 0 && (
            <Section title={t.inside.files}>
              <Table
                caption={t.inside.files}
                rows={c.files}
                id={(f) => f.build_id}
                columns={[
                  { name: t.inside.path, cell: (f) => <span className="wrap">{f.path}</span> },
                  { name: t.inside.binary, cell: (f) => f.package },
                  { name: t.machine.buildId, cell: (f) => <Mono>{f.build_id}</Mono> },
                  { name: t.inside.gets, right: true, cell: (f) => bytes(f.size) },
                ]}
              />
            </Section>
          )}
          {c.replacements && c.replacements.length > 0 && (
            <Section title={t.inside.modules}>
              <Table
                caption={t.inside.modules}
                rows={c.replacements}
                id={(m) => m.name}
                columns={[
                  { name: t.inside.module, cell: (m) => <Mono>{m.name}</Mono> },
                  { name: t.inside.path, cell: (m) => <span className="wrap">{m.path}</span> },
                  { name: t.cveDetail.fixes, cell: (m) => m.fixes?.join(', ') },
                  { name: t.livePatch.size, right: true, cell: (m) => bytes(m.size) },
                ]}
              />
            </Section>
          )}
          <Section title={t.inside.risks}>
            {c.risks && c.risks.length > 0 ? (
              <div className="stack">
                {c.risks.map((r, i) => (
                  <Problem key={i} problem={r} color="yellow" />
                ))}
              </div>
            ) : (
              <Empty title={t.inside.noRisks} />
            )}
          </Section>
          <Section title={t.cveDetail.proof}>{proven ? <Proof id={id} /> : <Empty title={t.cveDetail.unproven} />}</Section>
          <Section title={t.inside.provenance}>
            <Provenance id={id} c={c} />
          </Section>
        </>
      )}
    </Loaded>
  );
}

function Fix({ id, f }: { id: string; f: Schemas['PatchFix'] }) {
  const t = useT();
  const [open, setOpen] = useState(false);
  const q = useQuery({ ...patchDiff(id, f.id), enabled: open });
  return (
    <details className="fix" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        <span lang="en">{f.title || f.id}</span>{' '}
        {(f.severity || f.exploited) && <Severity of={f.severity} exploited={f.exploited} />}
      </summary>
      {open && (
        <div className="stack">
          {f.cves && f.cves.length > 0 && <Cves of={f.cves} />}
          {f.modules && f.modules.length > 0 && (
            <Text size="sm">
              {t.inside.needsModules}: {f.modules.join(', ')}
            </Text>
          )}
          <Loaded query={q} lines={3}>
            {(d) => <Diff text={d.diff} cut={d.cut} label={`${t.cveDetail.diff}: ${f.id}`} />}
          </Loaded>
        </div>
      )}
    </details>
  );
}

function Functions({ of }: { of: readonly Schemas['PatchFunction'][] }) {
  const t = useT();
  const [text, setText] = useState('');
  const found = of.filter((f) => text === '' || f.name.includes(text) || f.object.includes(text) || f.source?.includes(text));
  if (of.length === 0) return <Empty title={t.inside.noFunctions} />;
  return (
    <>
      {of.length > few && <TextInput label={t.inside.find} value={text} onChange={(e) => setText(e.currentTarget.value.trim())} mb="sm" maw={320} spellCheck={false} />}
      <Few key={text} of={found} most={few}>
        {(shown) => (
          <Table
            caption={t.inside.functions(count(of.length))}
            rows={shown}
            id={(f) => `${f.object} ${f.name} ${f.source ?? ''}`}
            columns={[
              { name: t.inside.function, cell: (f) => <Mono>{f.name}</Mono> },
              { name: t.inside.object, cell: (f) => f.object },
              { name: t.inside.change, cell: (f) => <span lang="en" className="wrap">{f.change}</span> },
              { name: t.inside.source, cell: (f) => <span className="wrap">{f.source || '–'}</span> },
            ]}
          />
        )}
      </Few>
    </>
  );
}

interface Record_ {
  verdict?: string;
  elapsed_ms?: number;
  started?: string;
  machine?: { accelerator?: string; cpus?: number; memory_mib?: number };
  kernel?: { release?: string; banner?: string };
  checks?: { id: string; status: string; detail?: string; ms?: number }[];
}

function Proof({ id }: { id: string }) {
  const t = useT();
  const q = useQuery(patchProof(id));
  return (
    <Loaded query={q} lines={4}>
      {(p) => {
        const r = p.proof as Record_; // package proof's words; each of them may be missing
        return (
          <div className="stack">
            <SimpleGrid cols={{ base: 1, md: 2 }}>
              <Facts
                of={[
                  [t.inside.kernel, r.kernel?.release],
                  [t.inside.machine, r.machine && `${r.machine.accelerator ?? ''}, ${t.inside.cpus(String(r.machine.cpus ?? 0))}, ${r.machine.memory_mib ?? 0} MiB`],
                ]}
              />
              <Facts
                of={[
                  [t.inside.took, r.elapsed_ms !== undefined && duration(r.elapsed_ms)],
                  ['SHA-256', <Mono>{p.sha256}</Mono>],
                ]}
              />
            </SimpleGrid>
            <Table
              caption={t.inside.checks}
              rows={r.checks ?? []}
              id={(c) => c.id}
              columns={[
                { name: t.inside.check, cell: (c) => word(t.proofCheck, c.id) },
                { name: t.inside.result, cell: (c) => word(t.proofStatus, c.status) },
                { name: t.report.detail, cell: (c) => <span lang="en" className="wrap">{c.detail || '–'}</span> },
                { name: t.inside.took, right: true, cell: (c) => (c.ms ? duration(c.ms) : '–') },
              ]}
            />
            {(p.consoles ?? []).map((c) => (
              <details key={c.run}>
                <summary>{word(t.proofRun, c.run)}</summary>
                {c.kept ? (
                  <>
                    {c.cut && (
                      <Text size="sm" c="dimmed">
                        {t.inside.onlyEnd}
                      </Text>
                    )}
                    <pre className="log" tabIndex={0} role="region" aria-label={word(t.proofRun, c.run)} lang="en">
                      {c.text}
                    </pre>
                  </>
                ) : (
                  <Text size="sm" c="dimmed">
                    {t.inside.notKept} <Mono>{c.sha256}</Mono>
                  </Text>
                )}
              </details>
            ))}
          </div>
        );
      }}
    </Loaded>
  );
}

function Provenance({ id, c }: { id: string; c: Schemas['LivePatchContents'] }) {
  const t = useT();
  const [open, setOpen] = useState(false);
  const q = useQuery({ ...patchProvenance(id), enabled: open });
  return (
    <>
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Facts
          of={[
            [t.inside.package, c.package_version],
            [t.inside.update, c.update],
            [t.inside.builder, c.builder],
            [t.inside.compiler, c.compiler],
            [t.inside.by, c.created_by],
          ]}
        />
        <Facts
          of={[
            [t.inside.module, c.module.name && <Mono>{c.module.name}</Mono>],
            [t.inside.moduleSize, c.module.name && bytes(c.module.size)],
            [t.inside.fileSize, bytes(c.size)],
            [t.inside.fetched, bytes(c.cipher_size)],
            [t.inside.statement, <Mono>{c.provenance}</Mono>],
          ]}
        />
      </SimpleGrid>
      {c.inputs && c.inputs.length > 0 && (
        <details>
          <summary>{t.inside.inputs(count(c.inputs.length))}</summary>
          <Table
            caption={t.inside.inputs(count(c.inputs.length))}
            rows={c.inputs}
            id={(i) => i.name}
            columns={[
              { name: t.inside.input, cell: (i) => <span className="wrap">{i.name}</span> },
              { name: 'SHA-256', cell: (i) => <Mono>{i.sha256}</Mono> },
            ]}
          />
        </details>
      )}
      <details onToggle={(e) => setOpen(e.currentTarget.open)}>
        <summary>{t.inside.wholeStatement}</summary>
        {open && (
          <Loaded query={q} lines={3}>
            {(p) => (
              <pre className="log" tabIndex={0} role="region" aria-label={t.inside.wholeStatement} lang="en">
                {JSON.stringify(p.statement, null, 2)}
              </pre>
            )}
          </Loaded>
        )}
      </details>
    </>
  );
}
