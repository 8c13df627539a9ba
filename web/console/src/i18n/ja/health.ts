// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { health as en } from '../en/health';

export const health: Words<typeof en> = {
  health: {},
};
