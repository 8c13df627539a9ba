// SPDX-License-Identifier: Apache-2.0
import { Link } from '@tanstack/react-router';
import { Few } from '../ui/few';

// Cves is a list of links; the first of a long one, until somebody wants all.
export function Cves({ of }: { of: readonly string[] }) {
  return (
    <Few of={of} most={60}>
      {(shown) => (
        <ul className="chips">
          {shown.map((cve) => (
            <li key={cve}>
              <Link to="/cves/$cve" params={{ cve }} className="chip" preload={false}>
                {cve}
              </Link>
            </li>
          ))}
        </ul>
      )}
    </Few>
  );
}
