// SPDX-License-Identifier: Apache-2.0

// What would end an open vulnerability, the hardest first.
export const needs = ['reboot', 'module', 'restart', 'live-patch', 'build', 'policy', 'possible'] as const;

// cveOf reads a CVE's name as people type it: in any case, with or without the
// word, with spaces around.
export function cveOf(text: string): string {
  const m = /^(?:cve[-\s]?)?(\d{4})-(\d{4,19})$/i.exec(text.trim());
  return m ? `CVE-${m[1]}-${m[2]}` : '';
}
