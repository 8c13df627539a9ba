// SPDX-License-Identifier: Apache-2.0
import { Button } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { count } from '../format';
import { useT } from '../i18n';

const few = 60;

// Cves is a list of links; the first of a long one, until somebody wants all.
export function Cves({ of }: { of: readonly string[] }) {
  const t = useT();
  const [all, setAll] = useState(false);
  return (
    <>
      <ul className="chips">
        {(all ? of : of.slice(0, few)).map((cve) => (
          <li key={cve}>
            <Link to="/cves/$cve" params={{ cve }} className="chip" preload={false}>
              {cve}
            </Link>
          </li>
        ))}
      </ul>
      {of.length > few && !all && (
        <Button variant="default" size="xs" mt="xs" onClick={() => setAll(true)}>
          {t.table.all(count(of.length))}
        </Button>
      )}
    </>
  );
}
