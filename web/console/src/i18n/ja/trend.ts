// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { trend as en } from '../en/trend';

export const trend: Words<typeof en> = {
  trend: {},
};
