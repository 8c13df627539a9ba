// SPDX-License-Identifier: Apache-2.0

// behind are the pages before one, of those that were walked: the browser's own
// way back leaves the trail longer than it is.
export function behind(trail: readonly (string | undefined)[], after: string | undefined): readonly (string | undefined)[] {
  const here = trail.indexOf(after);
  return here < 0 ? trail : trail.slice(0, here);
}
