// SPDX-License-Identifier: Apache-2.0
import { Button } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import { useT } from '../i18n';
import { Page } from './page';
import { Empty, Failure } from './states';

export function NotFound() {
  const t = useT();
  return (
    <Page title={t.notFound.title}>
      <Empty title={t.notFound.help}>
        <Link to="/" className="link">
          {t.nav.overview}
        </Link>
      </Empty>
    </Page>
  );
}

// Broken stands where a page failed: most often its file is of a newer build
// of the server than the page that is open.
export function Broken({ error }: { error: unknown }) {
  const t = useT();
  return (
    <Page title={t.problem.broken} about={t.problem.brokenHelp}>
      <Failure error={error} />
      <Button mt="md" onClick={() => window.location.reload()}>
        {t.problem.reload}
      </Button>
    </Page>
  );
}
