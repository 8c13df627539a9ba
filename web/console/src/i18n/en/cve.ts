// SPDX-License-Identifier: Apache-2.0
import { many } from './many';

export const cve = {
  cve: {
    about: 'Are we exposed?',
    severity: 'Severity',
    open: 'Machines where it is open',
    noneOpen: 'It is open on no machine that the server knows about',
    openOn: (n: string) => `Yes: open on ${many(n, 'machine', 'machines')}`,
    closed: 'No: it is fixed wherever the server knows of it',
    unknown: 'The server does not know this CVE',
    unknownHelp: 'No live patch fixes it, and it is open on no machine: either no fix for it was pushed, or no kernel and no package of the fleet is affected.',
    silent: (n: string) => `${many(n, 'silent machine counts', 'silent machines count')} as last heard of`,
    fixing: 'Live patches that fix it',
    noneFixing: 'No live patch fixes it',
  },
} as const;
