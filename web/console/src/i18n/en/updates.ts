// SPDX-License-Identifier: Apache-2.0

export const updates = {
  updates: {
    title: 'Updates',
    about: 'The fixes that are pushed for each kernel and package. Policies choose from them.',
    name: 'Series',
    extra: 'only for policies that name it',
    versions: 'Versions',
    fixes: 'Fixes',
    live: 'Live',
    of: (n: string, of: string) => `${n} of ${of}`,
    reboot: 'Reboot or restart',
    selections: 'Live patches needed',
    created: 'Pushed',
    none: 'No fixes are pushed yet',
    noneHelp: 'Take an update of your distribution apart and push it:',
    removeTitle: (name: string, target: string) => `Remove ${name} of ${target}?`,
    removeHelp: 'Policies choose anew without it. Live patches that are published stay.',
    removed: 'The update is removed.',
  },
} as const;
