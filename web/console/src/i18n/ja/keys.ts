// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { keys as en } from '../en/keys';

export const keys: Words<typeof en> = {
  keys: {},
};
