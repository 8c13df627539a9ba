// SPDX-License-Identifier: Apache-2.0
import { Checkbox } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api/client';
import { approvalActions } from '../api/people';
import { settings, trust, whoami } from '../api/queries';
import { count, duration } from '../format';
import { useT, word } from '../i18n';
import { Dialog, Help, NumberField, useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Loaded } from '../ui/states';
import { Table } from '../ui/table';
import { Mono, Time } from '../ui/words';

export function Settings() {
  const t = useT();
  const may = useMay('tiers');
  const who = useQuery(whoami);
  const q = useQuery(settings);
  return (
    <Page title={t.settings.title}>
      <div className="stack">
        <Section title={t.settings.fleet} actions={may && q.data && <Change s={q.data} />}>
          <Loaded query={q}>
            {(s) => (
              <Facts
                of={[
                  [t.settings.interval, duration(s.interval * 1000)],
                  [t.settings.plan, s.plan_machines ? count(s.plan_machines) : t.settings.noLimit],
                ]}
              />
            )}
          </Loaded>
        </Section>
        <SecondPerson />
        <Section title={t.settings.trust}>
          <Loaded query={useQuery(trust)}>
            {(x) => (
              <div className="stack">
                <Facts of={[[t.settings.root, <Mono>{x.root_sha256}</Mono>]]} />
                {x.roles && x.roles.length > 0 ? (
                  <Table
                    caption={t.settings.trust}
                    rows={x.roles}
                    id={(r) => r.name}
                    columns={[
                      { name: t.settings.tufRole, cell: (r) => r.name },
                      { name: t.livePatch.version, right: true, cell: (r) => count(r.version) },
                      { name: t.tokens.expires, cell: (r) => <Time at={r.expires} /> },
                      { name: t.settings.keys, cell: (r) => t.settings.threshold(count(r.threshold), count(r.keys?.length ?? 0)) },
                    ]}
                  />
                ) : (
                  <Empty title={t.settings.noRoles} />
                )}
              </div>
            )}
          </Loaded>
        </Section>
        <Section title={t.settings.server}>
          <Loaded query={who}>
            {(w) => (
              <Facts
                of={[
                  [t.settings.url, w.server],
                  [t.livePatch.version, w.version],
                  [t.settings.you, w.name],
                ]}
              />
            )}
          </Loaded>
        </Section>
      </div>
    </Page>
  );
}

function Change({ s }: { s: Schemas['Settings'] }) {
  const t = useT();
  const [interval, setInterval] = useState<number | ''>(s.interval);
  const [plan, setPlan] = useState<number | ''>(s.plan_machines);
  const i = Number(interval);
  const p = Number(plan);
  return (
    <Dialog
      button={t.settings.change}
      title={t.settings.fleet}
      go={t.save}
      done={t.settings.changed}
      ready={interval !== '' && plan !== '' && i >= 10 && i <= 86_400 && p >= 0 && (i !== s.interval || p !== s.plan_machines)}
      onOpen={() => {
        setInterval(s.interval);
        setPlan(s.plan_machines);
      }}
      act={() =>
        ask(
          api.PATCH('/v1/settings', {
            body: { ...(i !== s.interval ? { interval: i } : {}), ...(p !== s.plan_machines ? { plan_machines: p } : {}) },
          }),
        )
      }
    >
      <NumberField label={t.settings.intervalSeconds} description={t.settings.intervalHelp} min={10} max={86_400} value={interval} onChange={setInterval} />
      <NumberField label={t.settings.plan} description={t.settings.planHelp} min={0} value={plan} onChange={setPlan} />
    </Dialog>
  );
}

// SecondPerson is what needs a second person on this server.
function SecondPerson() {
  const t = useT();
  const may = useMay('people');
  const q = useQuery(approvalActions);
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const all = q.data?.all ?? [];
  const set = q.data?.actions ?? [];
  const fewer = set.some((a) => !chosen.includes(a));
  return (
    <Section
      title={t.approvals.settings}
      actions={
        may &&
        q.data && (
          <Dialog
            button={t.approvals.change}
            title={t.approvals.settings}
            go={t.save}
            done={t.approvals.changed}
            onOpen={() => setChosen(set)}
            {...(fewer ? { approval: { action: 'fewer-approvals' as const, actions: [...chosen] } } : {})}
            act={(approval) => ask(api.PUT('/v1/approvals/actions', { params: approval ? { query: { approval } } : {}, body: { actions: [...chosen] } }))}
          >
            <Help>{t.approvals.changeHelp}</Help>
            <fieldset className="choices">
              <legend>{t.approvals.settings}</legend>
              {all.map((a) => (
                <Checkbox
                  key={a}
                  label={word(t.approvalAction, a)}
                  checked={chosen.includes(a)}
                  onChange={(e) => setChosen(e.currentTarget.checked ? [...chosen, a] : chosen.filter((x) => x !== a))}
                />
              ))}
            </fieldset>
          </Dialog>
        )
      }
    >
      <Loaded query={q} lines={2}>
        {(x) =>
          x.actions && x.actions.length > 0 ? (
            <ul className="plain">
              {x.actions.map((a) => (
                <li key={a}>{word(t.approvalAction, a)}</li>
              ))}
            </ul>
          ) : (
            <>{t.approvals.nothing}</>
          )
        }
      </Loaded>
    </Section>
  );
}
