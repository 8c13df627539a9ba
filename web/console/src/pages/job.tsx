// SPDX-License-Identifier: Apache-2.0
import { Button, Group, Switch, Text } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useEffect, useRef, useState } from 'react';
import { api, ask, Fault, type Schemas } from '../api/client';
import { job, jobEnded } from '../api/queries';
import { verdictOf } from '../cve';
import { download } from '../download';
import { useT, word } from '../i18n';
import { Dialog, Help, useMay } from '../ui/act';
import { Facts, Page, Section } from '../ui/page';
import { Empty, Failure, Loaded, Problem } from '../ui/states';
import { JobState, Mono, Time, Took } from '../ui/words';
import { Left } from './left';

const here = getRouteApi('/jobs/$id');

export function Job() {
  const t = useT();
  const { id } = here.useParams();
  const q = useQuery(job(id));
  const may = useMay('build');
  const j = q.data;
  return (
    <Page
      title={j?.title || id}
      up={
        <Link to="/jobs" className="link">
          {t.nav.jobs}
        </Link>
      }
      about={j && <Mono>{j.id}</Mono>}
      actions={
        j && (
          <Group gap="xs">
            {j.artifact && <Artifact id={j.id} />}
            {may && !jobEnded(j.state) && (
              <Dialog
                button={t.job.cancel}
                buttonProps={{ color: 'red', variant: 'light', disabled: j.cancelling ?? false }}
                danger
                title={t.job.cancel}
                go={t.job.cancel}
                done={j.state === 'running' ? t.job.cancelling : t.job.cancelled}
                act={() => ask(api.POST('/v1/jobs/{id}/cancel', { params: { path: { id } } }))}
              >
                <Help>{t.job.cancelHelp}</Help>
              </Dialog>
            )}
          </Group>
        )
      }
    >
      <Loaded query={q} lines={8}>
        {(j) => (
          <div className="stack">
            <Section title={t.job.standing}>
              <Facts
                of={[
                  [t.job.state, <JobState of={j} />],
                  [t.job.stage, !jobEnded(j.state) && j.stage],
                  [t.job.outcome, j.verdict && word(t.verdict, verdictOf(j.verdict, j.target))],
                  [t.job.target, j.target],
                  [
                    t.job.patch,
                    j.patch && (
                      <Link to="/livepatches/$id" params={{ id: j.patch }} className="link">
                        {j.patch}
                      </Link>
                    ),
                  ],
                  [t.job.policies, j.policies?.join(', ')],
                  [t.job.accepted, j.accept?.join(', ')],
                  [t.job.worker, j.worker],
                  [t.job.attempt, j.attempt > 1 ? String(j.attempt) : undefined],
                  [t.job.created, <Time at={j.created} />],
                  [t.job.took, j.started ? <Took from={j.started} to={j.ended} /> : undefined],
                ]}
              />
            </Section>
            {j.problem && <Problem problem={j.problem} />}
            {j.omitted && j.omitted.length > 0 && (
              <Section title={t.job.omitted}>
                <Left target={j.target} of={j.omitted} caption={t.job.omitted} />
              </Section>
            )}
            <Section title={t.job.log}>
              <Log key={j.id} j={j} />
            </Section>
          </div>
        )}
      </Loaded>
    </Page>
  );
}

// The newest of a log that is kept on the screen.
const most = 2_000_000;

// useLog follows a job's log: the server holds a request until there is more.
function useLog(id: string, ended: boolean) {
  const client = useQueryClient();
  const [text, setText] = useState('');
  const [error, setError] = useState<unknown>();
  const [round, setRound] = useState(0);
  const seq = useRef(0);
  useEffect(() => {
    const stop = new AbortController();
    const follow = async () => {
      let attempt = 0;
      for (;;) {
        let l: Schemas['ListLogChunk'];
        try {
          l = await ask(
            api.GET('/v1/jobs/{id}/log', {
              params: { path: { id }, query: { ...(seq.current > 0 ? { after: seq.current } : {}), ...(ended ? {} : { wait: 20 }) } },
              signal: stop.signal,
            }),
          );
        } catch (e) {
          // A server that starts anew, or a network that is away, comes back.
          if (stop.signal.aborted || !(e instanceof Fault) || (e.status !== 0 && e.status < 500)) throw e;
          setError(e);
          await new Promise((r) => setTimeout(r, 3000));
          if (stop.signal.aborted) return;
          continue;
        }
        setError(undefined);
        const pieces = l.items ?? [];
        if (pieces.length === 0) {
          if (ended) return;
          await client.invalidateQueries({ queryKey: ['job', id], exact: true });
          await new Promise((r) => setTimeout(r, 500));
          if (stop.signal.aborted) return;
          continue;
        }
        let more = '';
        for (const p of pieces) {
          if (attempt !== 0 && p.attempt !== attempt) more += '\n';
          attempt = p.attempt;
          more += p.text;
          seq.current = p.seq;
        }
        setText((old) => (old + more).slice(-most));
      }
    };
    setError(undefined);
    follow().catch((e: unknown) => {
      if (!stop.signal.aborted) setError(e);
    });
    return () => stop.abort();
  }, [id, ended, round, client]);
  return { text, error, retry: () => setRound((n) => n + 1) };
}

function Log({ j }: { j: Schemas['Job'] }) {
  const t = useT();
  const ended = jobEnded(j.state);
  const { text, error, retry } = useLog(j.id, ended);
  const [follow, setFollow] = useState(true);
  const box = useRef<HTMLPreElement>(null);
  useEffect(() => {
    if (follow && !ended && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text, follow, ended]);
  return (
    <>
      {error !== undefined && <Failure error={error} retry={retry} />}
      {text === '' && error === undefined ? (
        ended ? <Empty title={t.job.noLog} /> : <Text c="dimmed">{t.job.logWaits}</Text>
      ) : (
        <pre className="log" ref={box} role="log" aria-label={t.job.log} tabIndex={0} lang="en">
          {text}
        </pre>
      )}
      {!ended && <Switch mt="xs" size="xs" label={t.job.follow} checked={follow} onChange={(e) => setFollow(e.currentTarget.checked)} />}
    </>
  );
}

// Artifact downloads as everything is asked: a link could not carry an API key.
function Artifact({ id }: { id: string }) {
  const t = useT();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const get = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const b = await ask(api.GET('/v1/jobs/{id}/artifact', { params: { path: { id } }, parseAs: 'blob' }));
      download(b as Blob, `${id}.tsugi`);
    } catch (e) {
      setError(e);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      {error !== undefined && <Failure error={error} />}
      <Button variant="default" loading={busy} onClick={() => void get()}>
        {t.job.artifact}
      </Button>
    </>
  );
}
