// SPDX-License-Identifier: Apache-2.0

export const tokens = {
  tokens: {
    title: 'Enrolment tokens',
    about: 'What machines enroll with. A token decides their tier and group.',
    name: 'Name',
    uses: 'Machines',
    of: (n: string, of: string) => `${n} of ${of}`,
    lastUsed: 'Last used',
    expires: 'Expires',
    expired: 'expired',
    revoked: 'Revoked',
    none: 'There is no token',
    noneHelp: 'Make one, then run the command that it comes with on each machine.',
    make: 'New token',
    made: 'Run this on each machine',
    madeHelp: 'It is shown once. Who has it can enroll machines.',
    groupHelp: 'The group decides which policy the machines have.',
    limit: 'Limit',
    limitHelp: 'Machines that may enroll with it. Empty: only the limit of the plan.',
    revoke: 'Revoke',
    revokeTitle: (name: string) => `Revoke ${name}?`,
    revokeHelp: 'Nobody can enroll with it any more. Machines that came with it stay enrolled.',
    revokedNow: 'The token is revoked.',
  },
} as const;
