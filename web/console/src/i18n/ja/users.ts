// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { users as en } from '../en/users';

export const users: Words<typeof en> = {
  users: {},
};
