// SPDX-License-Identifier: Apache-2.0
import { many } from './many';

export const overview = {
  overview: {
    title: 'Overview',
    counted: 'Counted',
    protection: 'Protection',
    protectedOf: (n: string, of: string) => `${n} of ${many(of, 'machine', 'machines')}`,
    attention: 'Needs a person',
    nothing: 'Nothing waits for you.',
    attend: {
      halted: (n: number) => (n === 1 ? 'rollout is halted' : 'rollouts are halted'),
      approvals: (n: number) => (n === 1 ? 'thing waits for a second person' : 'things wait for a second person'),
      exploited: (n: number) => `${n === 1 ? 'machine' : 'machines'} where an exploited CVE needs a reboot or a module unloaded`,
      restart: (n: number) => `${n === 1 ? 'machine' : 'machines'} where an exploited CVE needs processes restarted`,
      stale: (n: number) => `${n === 1 ? 'machine' : 'machines'} where processes run files that an upgrade has replaced`,
      failing: (n: number) => (n === 1 ? 'machine fails' : 'machines fail'),
      silent: (n: number) => (n === 1 ? 'machine is silent' : 'machines are silent'),
      choices: (n: number) => `${n === 1 ? 'choice' : 'choices'} of policies failed or blocked`,
      unpromoted: (n: number) => `${n === 1 ? 'choice' : 'choices'} of policies whose live patch waits to be promoted`,
      ending: (n: number) => (n === 1 ? 'exclusion ends within two weeks' : 'exclusions end within two weeks'),
    },
    exposed: 'Are we exposed to …?',
    ask: 'Ask',
    answer: (live: string, open: string, ends: string, none: string) =>
      `protected by a live patch on ${many(live, 'machine', 'machines')}, open on ${open}${ends && ` (${ends})`}, not affected: ${none}.`,
    answerUnknown: (n: string) => `Nothing can be said of ${many(n, 'machine', 'machines')}.`,
    answerMore: 'All about it',
    and: ', ',
    notCve: 'This is not the name of a CVE, as CVE-2026-31431 is.',
    open: 'Open vulnerabilities',
    openHelp: 'Machines by what would end what is open on them, and by the highest severity of that.',
    openUnknown: 'This can’t be counted right now. The log of the server says why.',
    noneOpen: 'Nothing is known to be open',
    noneOpenHelp: 'The server knows of vulnerabilities whose fixes were pushed or published. For machines that are not covered it knows of none.',
    needed: 'What would end it',
    jobs: 'Latest builds',
    reports: 'Latest reports',
    noMachines: 'No machine is enrolled yet',
    noMachinesHelp: 'Make a token, then run the command that it comes with on each machine:',
  },
} as const;
