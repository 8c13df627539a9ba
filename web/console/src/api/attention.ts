// SPDX-License-Identifier: Apache-2.0

// A page that is open asks by itself now and then. What it asks long after
// anybody did anything here says so, and does not keep a session from ending
// that nobody uses.
const attentive = 2 * 60_000;
let last = Date.now();

for (const what of ['pointerdown', 'keydown', 'wheel'] as const) {
  globalThis.addEventListener?.(what, () => (last = Date.now()), { passive: true, capture: true });
}

export const backgroundHeader = 'Tsugi-Background';

export const unattended = () => Date.now() - last > attentive;
