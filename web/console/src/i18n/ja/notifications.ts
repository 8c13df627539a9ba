// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { notifications as en } from '../en/notifications';

export const notifications: Words<typeof en> = {
  notifications: {},
};
