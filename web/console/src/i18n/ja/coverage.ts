// SPDX-License-Identifier: Apache-2.0
import type { Words } from '..';
import type { coverage as en } from '../en/coverage';

export const coverage: Words<typeof en> = {
  coverage: {},
};
