// SPDX-License-Identifier: Apache-2.0
import { Link } from '@tanstack/react-router';
import { useT } from '../i18n';

// PeopleTabs leads from one page about people to the others.
export function PeopleTabs() {
  const t = useT();
  const active = { 'aria-current': 'page' as const };
  return (
    <nav className="tabs" aria-label={t.users.pages}>
      <Link to="/users" activeProps={active}>
        {t.users.title}
      </Link>
      <Link to="/sessions" activeProps={active}>
        {t.sessions.title}
      </Link>
      <Link to="/keys" activeProps={active}>
        {t.keys.title}
      </Link>
    </nav>
  );
}
