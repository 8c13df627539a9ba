// SPDX-License-Identifier: Apache-2.0
import { Kbd, Loader, Modal, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { IconSearch } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useEffect, useId, useRef, useState } from 'react';
import { livePatches, machines, policies, whoami } from '../api/queries';
import { useT } from '../i18n';
import { cveOf } from '../cve';
import { places } from './shell';

interface Hit {
  key: string;
  kind: string;
  text: string;
  more?: string | undefined;
  go: () => void;
}

const most = 6;

// Search finds pages, machines, live patches, policies and CVEs by what is
// typed. It is a combobox as ARIA describes it: the focus stays in the field,
// the arrows choose.
export function Search({ onClose }: { onClose: () => void }) {
  const t = useT();
  const navigate = useNavigate();
  const list = useId();
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const [asked] = useDebouncedValue(text.trim(), 150);
  const on = asked !== '';
  const found = useQuery({ ...machines({ q: asked, limit: most }), enabled: on, refetchInterval: false });
  const patches = useQuery({ ...livePatches({ limit: 200 }), enabled: on, refetchInterval: false, staleTime: 60_000 });
  const named = useQuery({ ...policies, enabled: on, refetchInterval: false, staleTime: 60_000 });

  const may = useQuery(whoami).data?.may;

  const low = asked.toLowerCase();
  const has = (s: string | undefined) => s?.toLowerCase().includes(low) ?? false;
  const hits: Hit[] = [];
  const cve = cveOf(asked);
  if (cve) {
    hits.push({ key: 'cve', kind: t.search.cve, text: cve, more: t.search.exposed, go: () => void navigate({ to: '/cves/$cve', params: { cve } }) });
  }
  for (const p of places) {
    if (p.needs !== undefined && may?.[p.needs] === undefined) continue;
    if (has(p.name(t)) || !on) hits.push({ key: p.to, kind: t.search.page, text: p.name(t), go: () => void navigate({ to: p.to }) });
  }
  if (on && !found.isPlaceholderData) {
    for (const m of found.data?.items ?? []) {
      const go = () => void navigate({ to: '/machines/$id', params: { id: m.id } });
      hits.push({ key: m.id, kind: t.search.machine, text: m.hostname, more: m.kernel.release, go });
    }
    if (found.data?.next) {
      hits.push({ key: 'all', kind: t.search.machine, text: t.search.all(asked), go: () => void navigate({ to: '/machines', search: { q: asked } }) });
    }
    for (const p of (patches.data?.items ?? []).filter((p) => has(p.id) || has(p.target) || p.cves?.some((c) => c === cve)).slice(0, most)) {
      const go = () => void navigate({ to: '/livepatches/$id', params: { id: p.id } });
      hits.push({ key: p.id, kind: t.search.livePatch, text: p.id, more: p.target, go });
    }
    for (const p of (named.data?.items ?? []).filter((p) => has(p.name)).slice(0, most)) {
      const go = () => void navigate({ to: '/policies/$name', params: { name: p.name } });
      hits.push({ key: `policy ${p.name}`, kind: t.search.policy, text: p.name, go });
    }
  }
  const here = Math.min(at, Math.max(0, hits.length - 1));
  const chosen = useRef<HTMLLIElement>(null);
  useEffect(() => {
    chosen.current?.scrollIntoView({ block: 'nearest' }); // its answer is no clean-up
  }, [here]);
  const take = (h: Hit | undefined) => {
    if (!h) return;
    onClose();
    h.go();
  };
  return (
    <Modal.Root opened onClose={onClose} size="lg" yOffset="10vh" returnFocus={false}>
      <Modal.Overlay />
      <Modal.Content aria-label={t.search.button}>
      <TextInput
        data-autofocus
        size="md"
        variant="unstyled"
        className="search-field"
        leftSection={found.isFetching && on ? <Loader size="xs" /> : <IconSearch size={18} aria-hidden />}
        placeholder={t.search.placeholder}
        aria-label={t.search.button}
        role="combobox"
        aria-expanded={hits.length > 0}
        aria-controls={list}
        aria-activedescendant={hits.length > 0 ? `${list}-${here}` : undefined}
        autoComplete="off"
        spellCheck={false}
        value={text}
        onChange={(e) => {
          setText(e.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(e) => {
          if (e.nativeEvent.isComposing) return; // Enter ends the choice of a kanji
          if (e.key === 'ArrowDown') setAt((here + 1) % Math.max(1, hits.length));
          else if (e.key === 'ArrowUp') setAt((here + hits.length - 1) % Math.max(1, hits.length));
          else if (e.key === 'Enter') take(hits[here]);
          else return;
          e.preventDefault();
        }}
      />
      <ul role="listbox" id={list} className="hits" aria-label={t.search.results}>
        {hits.map((h, i) => (
          <li
            key={h.key}
            id={`${list}-${i}`}
            role="option"
            aria-selected={i === here}
            ref={i === here ? chosen : undefined}
            onMouseMove={() => setAt(i)}
            onClick={() => take(h)}
          >
            <span className="hit-kind">{h.kind}</span>
            <span className="hit-text">{h.text}</span>
            {h.more && <span className="hit-more">{h.more}</span>}
          </li>
        ))}
      </ul>
      {on && hits.length === 0 && !found.isFetching && (
        <Text p="md" c="dimmed" role="status">
          {t.search.nothing}
        </Text>
      )}
      <Text size="xs" c="dimmed" p="xs" ta="right" aria-hidden visibleFrom="sm">
        <Kbd size="xs">↑</Kbd> <Kbd size="xs">↓</Kbd> <Kbd size="xs">Enter</Kbd> <Kbd size="xs">Esc</Kbd>
      </Text>
      </Modal.Content>
    </Modal.Root>
  );
}
