// SPDX-License-Identifier: Apache-2.0
import { Alert, Group, Paper, Text } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { api, ask, type Schemas } from '../api/client';
import { count } from '../format';
import { useT } from '../i18n';
import { Failure, Problem, Waiting } from '../ui/states';
import { Left } from './left';

// Preview says what would change for whom, while the question is typed.
export function Preview({ name, question }: { name: string; question: Schemas['PolicyQuestion'] | undefined }) {
  const t = useT();
  const text = question === undefined ? '' : JSON.stringify(question);
  const [asked] = useDebouncedValue(text, 400);
  const q = useQuery({
    queryKey: ['preview', name, asked],
    queryFn: ({ signal }) =>
      ask(api.POST('/v1/policies/{name}/preview', { params: { path: { name } }, body: JSON.parse(asked) as Schemas['PolicyQuestion'], signal })),
    enabled: asked !== '',
    placeholderData: keepPreviousData, // the page does not jump while somebody types
    retry: false,
    staleTime: 10_000,
  });
  const old = q.isPlaceholderData || asked !== text;
  if (asked === '') return null;
  return (
    <Paper withBorder p="sm" component="section" aria-label={t.preview.title} aria-live="polite" aria-busy={q.isFetching || old}>
      <Text fw={600} mb="xs">
        {t.preview.title}
      </Text>
      {q.isError ? (
        <Failure error={q.error} />
      ) : q.data ? (
        q.data.targets && q.data.targets.length > 0 ? (
          <div className="stack" style={old ? { opacity: 0.55 } : undefined}>
            {q.data.targets.map((x) => (
              <Target key={x.target} x={x} />
            ))}
          </div>
        ) : (
          <Text size="sm">{t.preview.noTargets}</Text>
        )
      ) : (
        <Waiting lines={3} />
      )}
    </Paper>
  );
}

function Target({ x }: { x: Schemas['TargetPreview'] }) {
  const t = useT();
  const goes = x.goes ?? [];
  const comes = x.comes ?? [];
  const tiers = Object.entries(x.tiers ?? {}).map(([n, k]) => `${n} ${count(k)}`).join(', ');
  return (
    <div>
      <Group gap="xs" align="baseline">
        <b>{x.target}</b>
        <Text size="sm" c="dimmed">
          {t.preview.machines(count(x.machines))}
          {tiers && ` (${tiers})`}
        </Text>
      </Group>
      {x.problem && <Problem problem={x.problem} />}
      <Text size="sm">
        {t.policy.fixesOf(count(x.fixes), count(x.cves))}. {t.preview.open(count(x.open_cves))}
      </Text>
      <Text size="sm" fw={600}>
        {x.same ? t.preview.same : x.build ? t.preview.build : x.patch ? t.preview.there : ''}
        {!x.same && x.patch && (
          <>
            {' '}
            <Link to="/livepatches/$id" params={{ id: x.patch }} className="link">
              {x.patch}
            </Link>
          </>
        )}
      </Text>
      {x.shared && x.shared.length > 0 && <Text size="sm">{t.preview.shared(x.shared.join(', '))}</Text>}
      {x.stuck && (
        <Alert color="red" mt="xs">
          <span lang="en">{x.stuck}</span>
        </Alert>
      )}
      {x.idle && x.idle.length > 0 && (
        <Alert color="yellow" mt="xs">
          {t.preview.idle(x.idle.join(', '))}
        </Alert>
      )}
      {goes.length > 0 && (
        <details open={goes.length <= 10}>
          <summary>{t.preview.goes(count(goes.length))}</summary>
          <Left target={x.target} of={goes} caption={t.preview.goes(count(goes.length))} />
        </details>
      )}
      {comes.length > 0 && (
        <details open={comes.length <= 10}>
          <summary>{t.preview.comes(count(comes.length))}</summary>
          <Left target={x.target} of={comes} caption={t.preview.comes(count(comes.length))} />
        </details>
      )}
      {x.modules && x.modules.length > 0 && (
        <ul className="plain">
          {x.modules.map((m) => (
            <li key={`${m.module} ${m.comes}`}>
              <Text size="sm">{m.comes ? t.preview.moduleComes(m.module, count(m.machines)) : t.preview.moduleGoes(m.module, count(m.machines))}</Text>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
