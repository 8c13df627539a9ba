// SPDX-License-Identifier: Apache-2.0
import { many } from './many';

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
    filters: 'Filters',
    actorHelp: 'The whole name',
    objectHelp: 'An id or a name',
    clear: 'Clear the filters',
    noneFit: 'No entry fits these filters',
    noneFitHelp: 'Who and what are given in full; an action is one, such as policy.set, or an area, such as rollout.*',
    csv: 'CSV',
    csvGoing: (n: string) => `${many(n, 'entry', 'entries')} read`,
    csvMost: (n: string) => `The file holds the newest ${n} entries. tsugictl audit export writes all.`,
  },
} as const;
