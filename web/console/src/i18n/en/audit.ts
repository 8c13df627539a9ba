// SPDX-License-Identifier: Apache-2.0

export const audit = {
  audit: {
    title: 'Audit log',
    about: 'Every decision of a person or of the server, the newest first.',
    chain: 'Each entry holds the hash of the one before. What checks them all, on the server:',
    time: 'Time',
    actor: 'Who',
    action: 'Action',
    object: 'What',
    detail: 'Detail',
    none: 'Nothing was decided yet',
  },
} as const;
