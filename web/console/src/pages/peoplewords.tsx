// SPDX-License-Identifier: Apache-2.0
import { Badge } from '@mantine/core';
import type { Schemas } from '../api/client';
import { useT, word } from '../i18n';
import { Time } from '../ui/words';

// Grants are the roles of somebody, each for the whole fleet or for groups.
export function Grants({ of }: { of: readonly Schemas['Grant'][] | null | undefined }) {
  const t = useT();
  if (!of || of.length === 0) return <>{t.users.noRole}</>;
  return (
    <ul className="bare">
      {of.map((g, i) => (
        <li key={i}>
          {word(t.role, g.role)}
          {g.groups && g.groups.length > 0 && <span className="dim"> {t.users.forGroups(g.groups.join(', '))}</span>}
        </li>
      ))}
    </ul>
  );
}

export function Scopes({ of }: { of: readonly string[] | null | undefined }) {
  const t = useT();
  if (!of || of.length === 0) return <>{t.keys.allScopes}</>;
  return <>{of.map((s) => word(t.permission, s)).join(', ')}</>;
}

// Method is how somebody signed in.
export function Method({ of }: { of: string }) {
  const t = useT();
  const provider = /^oidc:(.+)$/.exec(of)?.[1];
  return <>{provider ?? word(t.method, of)}</>;
}

const browsers: readonly [RegExp, string][] = [
  [/Edg\//, 'Edge'],
  [/OPR\//, 'Opera'],
  [/Firefox\//, 'Firefox'],
  [/Chrom(e|ium)\//, 'Chrome'],
  [/Safari\//, 'Safari'],
];
const systems: readonly [RegExp, string][] = [
  [/Windows/, 'Windows'],
  [/Android/, 'Android'],
  [/iPhone|iPad/, 'iOS'],
  [/Mac OS X/, 'macOS'],
  [/Linux/, 'Linux'],
];

// Programs names a browser and its system as people do.
export function Programs({ agent }: { agent?: string | undefined }) {
  if (!agent) return <>–</>;
  const name = browsers.find(([r]) => r.test(agent))?.[1];
  const system = systems.find(([r]) => r.test(agent))?.[1];
  return <span title={agent}>{name ? [name, system].filter(Boolean).join(', ') : agent.slice(0, 60)}</span>;
}

// KeyEnd is when a key ends, or that it has.
export function KeyEnd({ k }: { k: Schemas['Key'] }) {
  const t = useT();
  if (k.revoked) {
    return (
      <>
        {t.tokens.revoked} <Time at={k.revoked} />
      </>
    );
  }
  if (k.expires && k.expires < Date.now()) {
    return (
      <Badge color="gray" variant="light">
        {t.tokens.expired}
      </Badge>
    );
  }
  return <Time at={k.expires} never={t.never} />;
}
