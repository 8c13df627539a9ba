// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { approvals as en } from '../en/approvals';

export const approvals: Words<typeof en> = {
  approvals: {},
};
