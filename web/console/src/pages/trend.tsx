// SPDX-License-Identifier: Apache-2.0
import { SegmentedControl, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { Schemas } from '../api/client';
import { history } from '../api/data';
import { count, date, dateTime, percent } from '../format';
import { useT, word } from '../i18n';
import { Empty, Loaded } from '../ui/states';
import { colorOf, Protection } from '../ui/words';

const order = ['protected', 'outdated', 'partly', 'unprotected', 'not-covered', 'failing', 'silent'] as const;
const spans = ['1', '7', '30', '366'] as const;
const width = 800;
const height = 200;

// Trend shows how the fleet stood over time.
export function Trend() {
  const t = useT();
  const [days, setDays] = useState<string>('30');
  const q = useQuery(history(Number(days)));
  return (
    <>
      <SegmentedControl
        size="xs"
        mb="sm"
        aria-label={t.trend.span}
        value={days}
        onChange={setDays}
        data={spans.map((s) => ({ value: s, label: word(t.trendSpan, s) }))}
      />
      <Loaded query={q} lines={4}>
        {(h) => (h.samples && h.samples.length > 1 ? <Chart of={h.samples} /> : <Empty title={t.trend.none}>{t.trend.noneHelp}</Empty>)}
      </Loaded>
    </>
  );
}

function Chart({ of }: { of: readonly Schemas['Sample'][] }) {
  const t = useT();
  const [at, setAt] = useState<number>();
  const first = of[0] as Schemas['Sample'];
  const last = of[of.length - 1] as Schemas['Sample'];
  const x = (s: Schemas['Sample']) => ((s.at - first.at) / Math.max(1, last.at - first.at)) * width;
  const share = (s: Schemas['Sample'], upTo: number) =>
    order.slice(0, upTo).reduce((n, p) => n + (s.protections[p] ?? 0), 0) / Math.max(1, s.machines);
  const y = (v: number) => height - v * height;
  const area = (i: number) => {
    const top = of.map((s) => `${x(s).toFixed(1)},${y(share(s, i + 1)).toFixed(1)}`);
    const bottom = of.map((s) => `${x(s).toFixed(1)},${y(share(s, i)).toFixed(1)}`).reverse();
    return [...top, ...bottom].join(' ');
  };
  const shown = at === undefined ? last : (of[at] ?? last);
  const move = (n: number) => setAt(Math.min(of.length - 1, Math.max(0, (at ?? of.length - 1) + n)));
  const p = (s: Schemas['Sample']) => percent(s.protections['protected'] ?? 0, s.machines);
  return (
    <figure className="trend">
      <div
        className="trend-plot"
        role="slider"
        tabIndex={0}
        aria-label={t.trend.title}
        aria-valuemin={0}
        aria-valuemax={of.length - 1}
        aria-valuenow={at ?? of.length - 1}
        aria-valuetext={`${dateTime(shown.at)}: ${t.trend.protectedOf(p(shown))}`}
        onKeyDown={(e) => {
          const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: 24, PageDown: -24, Home: -of.length, End: of.length }[e.key];
          if (by === undefined) return;
          e.preventDefault();
          move(by);
        }}
        onPointerMove={(e) => {
          const box = e.currentTarget.getBoundingClientRect();
          const want = first.at + ((e.clientX - box.left) / box.width) * (last.at - first.at);
          let best = 0;
          of.forEach((s, i) => {
            if (Math.abs(s.at - want) < Math.abs((of[best]?.at ?? 0) - want)) best = i;
          });
          setAt(best);
        }}
        onPointerLeave={() => setAt(undefined)}
      >
        <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden focusable="false">
          {order.map((name, i) => of.some((s) => (s.protections[name] ?? 0) > 0) && <polygon key={name} points={area(i)} data-color={colorOf(name)} />)}
          {at !== undefined && <line x1={x(shown)} x2={x(shown)} y1={0} y2={height} />}
        </svg>
      </div>
      <div className="trend-axis" aria-hidden>
        <span>{date(first.at)}</span>
        <span>{date(last.at)}</span>
      </div>
      <figcaption>
        <Text size="sm" c="dimmed">
          {dateTime(shown.at)} · {t.trend.machines(count(shown.machines))} · {t.trend.protectedOf(p(shown))}
        </Text>
        <ul className="legend">
          {order.map((name) => (
            <li key={name} className="legend-link">
              <Protection of={name} /> <b>{count(shown.protections[name] ?? 0)}</b>
            </li>
          ))}
        </ul>
      </figcaption>
    </figure>
  );
}
