// SPDX-License-Identifier: Apache-2.0
import { many } from './many';

export const coverage = {
  coverage: {
    nav: 'Targets',
    title: 'Targets and coverage windows',
    about: 'The kernels that machines run, and all kernels and packages that live patches or updates are there for. Machines look only for packages that their tier has live patches for.',
    countedIn: (tiers: string) => `in ${tiers}`,
    uncounted: 'not counted: no tier has a live patch',
    newest: 'Newest live patch',
    update: 'Update',
    fixes: (n: string, cves: string) => `${many(n, 'fix', 'fixes')}, ${many(cves, 'CVE', 'CVEs')}`,
    window: 'Coverage window',
    nothing: 'Nothing is there for it',
    none: 'No kernel and no package is known yet',
    noneHelp: 'They are known by the machines that are enrolled and by what is pushed and published.',
    over: (n: string) => `${many(n, 'machine has', 'machines have')} to boot another kernel`,
    overPackage: (n: string) => `${many(n, 'machine has', 'machines have')} to be upgraded to another version of it`,
    set: 'Set window',
    setTitle: (target: string) => `Coverage window of ${target}`,
    setHelp: 'How long live patches are made for this kernel or package: what you promise your people. It changes nothing by itself; when it is over, machines that still have it are pointed out.',
    isSet: 'The coverage window is set.',
    from: 'From',
    until: 'Until (not included)',
    note: 'Note',
    wrong: 'It ends before it begins.',
    unset: 'Take back',
    unsetTitle: (target: string) => `Take the coverage window of ${target} back?`,
    unsetHelp: 'Nobody is told any more when coverage of this target ends.',
    isUnset: 'The coverage window is taken back.',
  },
  windowStanding: { open: 'Covered', ending: 'Ends within 30 days', over: 'Over', ahead: 'Has not begun', none: 'Nobody has said' },
} as const;
