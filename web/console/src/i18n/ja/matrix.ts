// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { matrix as en } from '../en/matrix';

export const matrix: Words<typeof en> = {
  matrix: {},
};
