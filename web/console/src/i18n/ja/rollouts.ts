// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { rollouts as en } from '../en/rollouts';

export const rollouts: Words<typeof en> = {
  rollouts: {},
};
