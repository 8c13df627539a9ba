// SPDX-License-Identifier: Apache-2.0

export const settings = {
  settings: {
    title: 'Settings',
    fleet: 'The fleet',
    interval: 'Time between check-ins',
    intervalSeconds: 'Seconds between check-ins',
    intervalHelp: 'What is new reaches machines at once; this is how soon a silent one is noticed. A machine is silent after three.',
    plan: 'Machines that may be enrolled',
    planHelp: '0: no limit.',
    noLimit: 'no limit',
    change: 'Change',
    changed: 'The settings are changed.',
    trust: 'Signatures (TUF)',
    root: 'Digest of the first root',
    tufRole: 'Role',
    keys: 'Keys',
    threshold: (n: string, of: string) => `${n} of ${of} must sign`,
    noRoles: 'The metadata has no roles',
    server: 'The server',
    url: 'Address',
    you: 'You are',
  },
} as const;
