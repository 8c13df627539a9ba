// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { account as en } from '../en/account';

export const account: Words<typeof en> = {
  account: {},
};
