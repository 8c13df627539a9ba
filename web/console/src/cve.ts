// SPDX-License-Identifier: Apache-2.0

// What would end an open vulnerability, the hardest first.
export const needs = ['reboot', 'module', 'restart', 'live-patch', 'build', 'policy', 'possible'] as const;

// verdictOf is the verdict in the words of what was built: a package, whose name
// says its version behind a =, needs its programs started anew and no reboot.
export function verdictOf(verdict: string, target: string): string {
  return verdict === 'reboot' && target.includes('=') ? 'restart' : verdict;
}

// cveOf reads a CVE's name as people type it: in any case, with or without the
// word, with spaces around.
export function cveOf(text: string): string {
  const m = /^(?:cve[-\s]?)?(\d{4})-(\d{4,19})$/i.exec(text.trim());
  return m ? `CVE-${m[1]}-${m[2]}` : '';
}
