// SPDX-License-Identifier: Apache-2.0

export const coverage = {
  coverage: {},
} as const;
