// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, TextInput } from '@mantine/core';
import { IconUserCheck } from '@tabler/icons-react';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, Fault, type Schemas } from '../api/client';
import { approvals } from '../api/people';
import { whoami } from '../api/queries';
import { ago } from '../format';
import { useT } from '../i18n';
import { say } from './toast';
import { Failure } from './states';

export type Asked = Schemas['AskApproval'];

const needed = (e: unknown) => e instanceof Fault && e.code === 'TS8222';

const of = (a: Schemas['Approval'], wanted: Asked, me: string | undefined) =>
  a.action === wanted.action && (!wanted.object || a.object === wanted.object) && a.asked_by === me && !a.used && a.expires > Date.now();

// approved does something that may need a second person, with the approval
// that somebody has given for it, if there is one.
export async function approved<T>(act: (approval?: string) => Promise<T>, wanted: Asked | undefined, me: string | undefined): Promise<T> {
  try {
    return await act();
  } catch (e) {
    if (!wanted || !needed(e)) throw e;
    const all = await ask(api.GET('/v1/approvals', { params: { query: { all: true, limit: 200 } } }));
    const given = (all.items ?? []).find((a) => of(a, wanted, me) && a.verdict === 'given');
    if (!given) throw e;
    return act(given.id);
  }
}

// Second stands where something could not be done because a second person has
// to agree: it asks for one.
export function Second({ error, wanted }: { error: unknown; wanted: Asked | undefined }) {
  const t = useT();
  const client = useQueryClient();
  const me = useQuery(whoami).data?.name;
  const [why, setWhy] = useState('');
  const list = useQuery({ ...approvals({}), enabled: wanted !== undefined && needed(error) });
  const m = useMutation({
    mutationFn: (body: Asked) => ask(api.POST('/v1/approvals', { body })),
    onSuccess: async () => {
      say(t.approvals.nowAsked);
      await client.invalidateQueries({ queryKey: ['approvals'] });
    },
  });
  if (!wanted || !needed(error)) return <Failure error={error} />;
  const waits = (list.data?.items ?? []).find((a) => of(a, wanted, me) && !a.decided);
  return (
    <Alert color="yellow" variant="light" title={t.approvals.needed} icon={<IconUserCheck aria-hidden />} role="alert">
      {waits ? (
        <>
          {t.approvals.waits(ago(waits.asked))}{' '}
          <Link to="/approvals" className="link underlined">
            {t.approvals.toList}
          </Link>
        </>
      ) : (
        <>
          <p className="flat">{t.approvals.neededHelp}</p>
          <TextInput label={t.reason} value={why} onChange={(e) => setWhy(e.currentTarget.value)} maxLength={500} mb="sm" />
          <Button size="xs" loading={m.isPending} onClick={() => m.mutate({ ...wanted, ...(why.trim() ? { why: why.trim() } : {}) })}>
            {t.approvals.ask}
          </Button>
          {m.isError && <Failure error={m.error} />}
        </>
      )}
    </Alert>
  );
}
