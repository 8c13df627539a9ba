// SPDX-License-Identifier: Apache-2.0

export const audit = {
  audit: {
    title: 'Audit log',
    about: 'Every decision of a person or of the server, the newest first.',
    chain: 'Each entry holds the hash of the one before. What checks them all, on the server:',
    whole: (n: string) => `All ${n} entries are what was written. Checked`,
    checking: (n: string, of: string) => `Being checked: ${n} of ${of} entries so far, begun`,
    head: 'Its head, to note elsewhere:',
    broken: (n: string) => `The audit log was changed: from entry ${n} on it can’t be trusted`,
    brokenHelp: 'Keep a copy of the database as it is, and compare with an export or a backup of before.',
    time: 'Time',
    actor: 'Who',
    action: 'Action',
    object: 'What',
    detail: 'Detail',
    none: 'Nothing was decided yet',
  },
} as const;
