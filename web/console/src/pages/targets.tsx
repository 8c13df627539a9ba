// SPDX-License-Identifier: Apache-2.0
import { Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { targets } from '../api/data';
import { count, day } from '../format';
import { useT, word } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Page } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Protection } from '../ui/words';

const colors: Record<string, string> = { open: 'teal', ending: 'yellow', over: 'red', ahead: 'gray', none: 'gray' };

export function Targets() {
  const t = useT();
  const may = useMay('tiers');
  const q = useQuery(targets);
  return (
    <Page title={t.coverage.title} about={t.coverage.about}>
      <Loaded query={q} lines={8}>
        {(l) =>
          l.items && l.items.length > 0 ? (
            <Table
              caption={t.coverage.title}
              rows={l.items}
              id={(x) => x.target}
              columns={[
                {
                  name: t.matrix.target,
                  cell: (x) =>
                    x.patches > 0 || x.updates ? (
                      <Link to="/cves" search={{ target: x.target }} className="link">
                        {x.target}
                      </Link>
                    ) : (
                      <>
                        {x.target}
                        <Text size="xs" c="dimmed">
                          {t.coverage.nothing}
                        </Text>
                      </>
                    ),
                },
                {
                  name: t.livePatch.machines,
                  right: true,
                  cell: (x) => (
                    <>
                      <Link to="/machines" search={{ q: x.release || x.target.slice(x.target.indexOf(':') + 1) }} className="link">
                        {count(x.machines)}
                      </Link>
                      {x.stale ? <Text size="xs">{t.coverage.stale(count(x.stale))}</Text> : null}
                      {x.target.includes('=') && (
                        <Text size="xs" c="dimmed">
                          {x.listed_in && x.listed_in.length > 0 ? t.coverage.countedIn(x.listed_in.join(', ')) : t.coverage.uncounted}
                        </Text>
                      )}
                    </>
                  ),
                },
                { name: t.machine.protection, cell: (x) => <Standing of={x.protections} /> },
                {
                  name: t.coverage.newest,
                  cell: (x) =>
                    x.newest ? (
                      <Link to="/livepatches/$id" params={{ id: x.newest }} className="link">
                        {x.newest}
                      </Link>
                    ) : (
                      '–'
                    ),
                },
                {
                  name: t.coverage.update,
                  cell: (x) =>
                    x.fixes ? (
                      <>
                        {x.to || x.updates?.join(', ')}
                        <Text size="xs" c="dimmed">
                          {t.coverage.fixes(count(x.fixes), count(x.cves ?? 0))}
                        </Text>
                      </>
                    ) : (
                      '–'
                    ),
                },
                { name: t.coverage.window, cell: (x) => <Window x={x} /> },
                ...(may ? [{ name: '', cell: (x: Schemas['TargetInfo']) => <Change x={x} /> }] : []),
              ]}
            />
          ) : (
            <Empty title={t.coverage.none}>{t.coverage.noneHelp}</Empty>
          )
        }
      </Loaded>
    </Page>
  );
}

// Standing counts the machines of a package by how they stand with it; of a kernel
// the overview and the table of machines say it.
function Standing({ of }: { of: Schemas['TargetInfo']['protections'] }) {
  const some = Object.entries(of ?? {}).filter(([, n]) => n > 0);
  return some.length === 0 ? (
    <>–</>
  ) : (
    some.map(([word, n]) => (
      <div key={word} className="nowrap">
        <Protection of={word} /> {count(n)}
      </div>
    ))
  );
}

function Window({ x }: { x: Schemas['TargetInfo'] }) {
  const t = useT();
  const w = x.window;
  return (
    <>
      <span className="mark dot" data-color={colors[x.standing] ?? 'gray'}>
        {word(t.windowStanding, x.standing)}
      </span>
      {w && (
        <Text size="xs" c="dimmed">
          {w.from ? day(w.from) : '…'} – {w.until ? day(w.until) : '…'}
          {w.note && <>: {w.note}</>}
        </Text>
      )}
      {x.standing === 'over' && x.machines > 0 && <Text size="xs">{(x.release ? t.coverage.over : t.coverage.overPackage)(count(x.machines))}</Text>}
    </>
  );
}

const dayField = (ms: number | undefined) => (ms ? new Date(ms).toISOString().slice(0, 10) : '');
const ms = (text: string) => (text === '' ? 0 : Date.parse(`${text}T00:00:00Z`));

function Change({ x }: { x: Schemas['TargetInfo'] }) {
  const t = useT();
  const [from, setFrom] = useState('');
  const [until, setUntil] = useState('');
  const [note, setNote] = useState('');
  const path = { path: { target: x.target } };
  const wrong = from !== '' && until !== '' && ms(until) <= ms(from);
  return (
    <div className="marks">
      <Dialog
        button={t.coverage.set}
        buttonProps={{ size: 'xs', 'aria-label': `${t.coverage.set}: ${x.target}` }}
        title={t.coverage.setTitle(x.target)}
        go={t.coverage.set}
        done={t.coverage.isSet}
        ready={!wrong && (from !== '' || until !== '' || note !== '')}
        onOpen={() => {
          setFrom(dayField(x.window?.from));
          setUntil(dayField(x.window?.until));
          setNote(x.window?.note ?? '');
        }}
        act={() => ask(api.PUT('/v1/targets/{target}/window', { params: path, body: { from: ms(from), until: ms(until), note } }))}
      >
        <Help>{t.coverage.setHelp}</Help>
        <TextInput type="date" label={t.coverage.from} value={from} onChange={(e) => setFrom(e.currentTarget.value)} />
        <TextInput type="date" label={t.coverage.until} value={until} onChange={(e) => setUntil(e.currentTarget.value)} error={wrong && t.coverage.wrong} />
        <TextInput label={t.coverage.note} value={note} maxLength={1000} onChange={(e) => setNote(e.currentTarget.value)} />
      </Dialog>
      {x.window && (
        <Dialog
          button={t.coverage.unset}
          buttonProps={{ size: 'xs', 'aria-label': `${t.coverage.unset}: ${x.target}` }}
          danger
          title={t.coverage.unsetTitle(x.target)}
          go={t.coverage.unset}
          done={t.coverage.isUnset}
          act={() => ask(api.DELETE('/v1/targets/{target}/window', { params: path }))}
        >
          <Help>{t.coverage.unsetHelp}</Help>
        </Dialog>
      )}
    </div>
  );
}
