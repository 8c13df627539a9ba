// SPDX-License-Identifier: Apache-2.0

export const tiers = {
  tiers: {
    title: 'Tiers',
    about: 'Stages that a live patch goes through, from the few machines that try it to all others.',
    rank: 'Order',
    name: 'Tier',
    nameHelp: 'Letters a to z, digits and dashes.',
    none: 'There is no tier',
    make: 'New tier',
    made: 'The tier is made.',
    after: 'Comes after',
    first: 'It is the first',
    rotate: 'New key',
    rotateTitle: (name: string) => `Give ${name} a new key?`,
    rotateHelp: 'Everything of the tier is signed anew. Machines follow by themselves.',
    rotated: 'The tier has a new key.',
    removeTitle: (name: string) => `Remove ${name}?`,
    removeHelp: 'Nothing is in it.',
    removed: 'The tier is removed.',
  },
} as const;
