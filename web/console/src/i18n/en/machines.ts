// SPDX-License-Identifier: Apache-2.0
import { many } from './many';

export const machines = {
  machines: {
    title: 'Machines',
    about: 'In the order of their enrolment.',
    filters: 'Filters',
    search: 'Search',
    searchHelp: 'Host name, kernel release, package or id',
    all: 'All',
    openCve: 'Open CVE',
    need: 'Would be ended by',
    processes: 'Processes',
    stale: 'to restart',
    toRestart: (n: number) => `${many(n, 'process', 'processes')} to restart`,
    clear: 'Clear the filters',
    noneFit: 'No machine fits these filters',
    noMore: 'There are no more machines',
    csv: 'CSV',
    csvGoing: (n: number) => `${many(n, 'machine', 'machines')} read`,
  },
  views: {
    title: 'Saved views',
    keep: 'Save this view',
    name: 'Name',
    help: 'Views are kept in this browser.',
    remove: (name: string) => `Remove the view ${name}`,
  },
} as const;
